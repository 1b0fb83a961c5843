"""How well the image of a post fits its words, as one number: by a dual encoder, or by the caption alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from hf_mner.data.schema import TEXT_PARTS, MnerExample
from hf_mner.knowledge.dual_encoders import DualEncoderSource
from hf_mner.knowledge.image_text_models import chunks, once_per_image
from hf_mner.knowledge.model_identity import model_name
from hf_mner.knowledge.model_source import ModelSource, check_positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin


class ClipSimilarity(DualEncoderSource):
    """A knowledge source: the cosine of an example's words and its image in the common space of a dual encoder.

    The words are joined by single spaces and cut at the model's limit. Images with the same pixels are encoded once
    in a call. The model is loaded at the first image, from safetensors only.

    Args:
        model: name or folder of a dual encoder that `AutoModel` loads (CLIP, SigLIP, ALIGN, ...), or such a model
            itself: one with `get_text_features` and `get_image_features`.
        processor: needed if and only if `model` is not a name.
        batch_size: images, and texts, encoded at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` is below 1, `processor` or `revision` does not fit `model`, or `model` is no dual
            encoder.

    Source: Wang et al. 2025, MMAVK, Section 3.1, Eq. 2-4, and Section 4.2 for the model (ViT-B/32); Radford et al.
        2021, CLIP (https://arxiv.org/abs/2103.00020).
    """

    column = "similarity"
    reads = ("image", "tokens")

    def __init__(
        self,
        model: str | PreTrainedModel = "openai/clip-vit-base-patch32",
        processor: ProcessorMixin | None = None,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, batch_size, device, dtype, revision)

    def __call__(self, examples: Sequence[MnerExample]) -> list[float | None]:
        """Return a number in [-1, 1] for each example, None for an example without an image.

        Raises:
            ValueError: if an image is not a decoded PIL image.
        """
        images = once_per_image(examples, self.batch_size, self._embed_images)
        places = [index for index, image in enumerate(images) if image is not None]
        if not places:
            return [None] * len(examples)
        import torch

        texts = self._embed_texts([" ".join(examples[index]["tokens"]) for index in places])
        values = _cosines(texts, torch.stack([cast("Tensor", images[index]) for index in places]))
        found = dict(zip(places, values, strict=True))
        return [found.get(index) for index in range(len(examples))]


class CaptionSimilarity(ModelSource):
    """A knowledge source: the cosine of an example's words and a text about its image, as sentences.

    A stand-in for `ClipSimilarity` where captions are there and images are not. It is not the similarity of the paper:
    it compares two texts, so that it knows of the image only what the caption says, and it has another scale. CLIP's
    values on Twitter-2017 have a mean of 0.301 and lie close together (Section 4.2 of MMAVK); those of sentences are
    lower and spread widely. A threshold chosen for one means nothing for the other.

    A sentence is embedded as the mean of the encoder's last hidden states over its sub-words, special ones included,
    scaled to length 1. Equal texts are encoded once in a call. The model is loaded at the first text, from safetensors
    only.

    Args:
        model: name or folder of a text encoder that `AutoModel` loads, or such a model itself.
        tokenizer: needed if and only if `model` is not a name.
        part: the part of `knowledge` that speaks of the image, `"caption"` or `"auxiliary"`.
        batch_size: texts encoded at once.
        max_length_tokens: longer texts are cut there; 256 is what the default model was trained with.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_length_tokens` is below 1, `part` is not a text, or `tokenizer` or
            `revision` does not fit `model`.

    Source: Reimers and Gurevych 2019, Sentence-BERT, Section 3 (https://arxiv.org/abs/1908.10084).
    Departure: stands in for Eq. 2-4 of Wang et al. 2025, MMAVK, see above.
    """

    column = "similarity"
    unread = ("pooler",)

    def __init__(
        self,
        model: str | PreTrainedModel = "sentence-transformers/all-MiniLM-L6-v2",
        tokenizer: PreTrainedTokenizerBase | None = None,
        part: str = "caption",
        batch_size: int = 32,
        max_length_tokens: int = 256,
        device: str | torch.device | None = None,
        revision: str | None = None,
    ):
        super().__init__(_resolved(model), revision, batch_size, device, "auto", tokenizer=tokenizer)
        check_positive(max_length_tokens=max_length_tokens)
        if part not in TEXT_PARTS:
            raise ValueError(f"`part={part!r}` is no text of `knowledge`; choose one of {', '.join(TEXT_PARTS)}.")
        self._called = model_name(model)  # by a packaged model's name on the Hub, not by the folder of its package
        self.part, self.max_length_tokens = part, max_length_tokens
        self.reads = ("tokens", part)
        self._tokenizer: Any = tokenizer

    def __call__(self, examples: Sequence[MnerExample]) -> list[float | None]:
        """Return a number in [-1, 1] for each example, None where the text about the image is missing or empty."""
        pairs = {}
        for index, example in enumerate(examples):
            about_image = cast(dict, example.get("knowledge") or {}).get(self.part) or ""
            if about_image.strip():
                pairs[index] = (" ".join(example["tokens"]), about_image)
        if not pairs:
            return [None] * len(examples)
        self._load()
        texts = sorted({text for pair in pairs.values() for text in pair}, key=lambda text: (len(text), text))
        rows = {text: row for row, text in enumerate(texts)}
        embeddings = self._embed(texts)  # k d
        left, right = ([rows[pair[side]] for pair in pairs.values()] for side in (0, 1))
        found = dict(zip(pairs, _cosines(embeddings[left], embeddings[right]), strict=True))
        return [found.get(index) for index in range(len(examples))]

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return `b d`, the embedding of each text, not yet scaled; the model is loaded if need be."""
        self._load()
        return self._embed(list(texts))

    def _embed(self, texts: list[str]) -> Tensor:
        """Return `b d`, the mean hidden state of each text; texts of like length should stand together."""
        import torch

        limit = min(self._tokenizer.model_max_length, self.max_length_tokens)
        parts = []
        for chunk in chunks(texts, self.batch_size):
            inputs = self._tokenizer(
                list(chunk), padding=True, truncation=True, max_length=limit, return_tensors="pt"
            ).to(self._model.device)
            with torch.inference_mode():
                hidden = self._model(**inputs).last_hidden_state.float()  # b t d
            mask = inputs["attention_mask"].unsqueeze(-1)  # b t 1
            parts.append((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        return torch.cat(parts)

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoModel, AutoTokenizer

            self._model, self._tokenizer = self._open(AutoModel, AutoTokenizer.from_pretrained)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "part": self.part, "max_length_tokens": self.max_length_tokens}


def _cosines(left: Tensor, right: Tensor) -> list[float]:
    """Return the cosine of each row of `b d` with its partner, in [-1, 1] in spite of rounding."""
    import torch

    return torch.cosine_similarity(left.float(), right.float(), dim=-1).clamp(-1, 1).tolist()


def _resolved(model: str | PreTrainedModel) -> str | PreTrainedModel:
    """Return the folder of a model that a package of the package index carries, else the argument unchanged."""
    from hf_mner.models.base.backbones import resolve_backbone

    return resolve_backbone(model) if isinstance(model, str) else model
