"""What the sources with a dual encoder of images and texts share: both sides in the common space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_mner.knowledge.image_text_models import chunks, load_processor
from hf_mner.knowledge.model_source import ModelSource

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedModel, ProcessorMixin


class DualEncoderSource(ModelSource):
    """A knowledge source that compares images and texts by a dual encoder, e.g. CLIP.

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
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: ProcessorMixin | None,
        batch_size: int,
        device: str | torch.device | None,
        dtype: str,
        revision: str | None,
    ):
        if not isinstance(model, str):
            _check_dual_encoder(model)
        super().__init__(model, revision, batch_size, device, dtype, processor=processor)
        self._processor: Any = processor

    def _embed_images(self, images: list[Image.Image]) -> Tensor:
        """Return `b d`, the features of RGB images; the model is loaded at the first ones."""
        import torch

        self._load()
        inputs = self._processor.image_processor(images, return_tensors="pt")
        with torch.inference_mode():
            return _pooled(self._model.get_image_features(**inputs.to(self._model.device, dtype=self._model.dtype)))

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return `n d`, the features of texts, cut at the model's limit; the model is loaded by then."""
        import torch

        tokenizer = self._processor.tokenizer
        limit = min(tokenizer.model_max_length, self._model.config.get_text_config().max_position_embeddings)
        # SigLIP has no mask: it was trained on texts padded to its limit, and reads the padding.
        padding = True if "attention_mask" in tokenizer.model_input_names else "max_length"
        parts = []
        for chunk in chunks(texts, self.batch_size):
            inputs = tokenizer(list(chunk), padding=padding, truncation=True, max_length=limit, return_tensors="pt")
            with torch.inference_mode():
                parts.append(_pooled(self._model.get_text_features(**inputs.to(self._model.device))))
        return torch.cat(parts)

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoModel

            self._model, self._processor = self._open(AutoModel, load_processor)

    def _check_model(self, model: Any) -> None:
        _check_dual_encoder(model)


def _check_dual_encoder(model: Any) -> None:
    for name in ("get_text_features", "get_image_features"):
        if not hasattr(model, name):
            raise ValueError(
                f"`model` is a {type(model).__name__}, which has no `{name}`; give a dual encoder such as"
                " `openai/clip-vit-base-patch32`."
            )


def _pooled(output: Any) -> Tensor:
    """Return `b d`; transformers 5 wraps the features of most dual encoders, earlier versions returned them bare."""
    return getattr(output, "pooler_output", output)
