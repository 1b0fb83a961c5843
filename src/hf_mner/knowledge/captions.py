"""Captions of images by any image-to-text model of transformers (BLIP, BLIP-2, GIT, ...)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import MnerExample

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin


class ImageCaptioner:
    """A knowledge source that describes each example's image in one sentence (SCANNER and PGIM use BLIP-2).

    The model is loaded at the first image, from safetensors only.

    Args:
        model: name or folder of a model that `AutoModelForImageTextToText` loads, or such a model itself.
        processor: needed if and only if `model` is not a name.
        prompt: text that the caption continues, e.g. `"a photo of"`; it is not part of the result. None = none.
        batch_size: images described at once.
        max_new_tokens: longest caption in sub-words.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.

    Raises:
        ValueError: if `batch_size` or `max_new_tokens` is below 1, or `processor` does not fit `model`.

    Source: Li et al. 2023, BLIP-2 (https://arxiv.org/abs/2301.12597).
    """

    column = "caption"
    needs_entities = False

    def __init__(
        self,
        model: str | PreTrainedModel = "Salesforce/blip2-opt-2.7b",
        processor: ProcessorMixin | None = None,
        prompt: str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 30,
        device: str | torch.device | None = None,
        dtype: str = "auto",
    ):
        for name, value in {"batch_size": batch_size, "max_new_tokens": max_new_tokens}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if isinstance(model, str) != (processor is None):
            raise ValueError("Give `model` as a name alone, or a loaded `model` together with its `processor`.")
        self.prompt, self.batch_size, self.max_new_tokens = prompt, batch_size, max_new_tokens
        self.device, self.dtype = device, dtype
        self._name = model if isinstance(model, str) else ""
        self._model: Any = None if isinstance(model, str) else model.eval()
        self._processor: Any = processor

    def __call__(self, examples: Sequence[MnerExample]) -> list[str | None]:
        """Return the caption of each example's image, None for an example without an image.

        Raises:
            ValueError: if an image is not a decoded PIL image.
        """
        places = [index for index, example in enumerate(examples) if example.get("image") is not None]
        captions: list[str | None] = [None] * len(examples)
        for chunk in _chunks(places, self.batch_size):
            images = [_rgb(examples[index]) for index in chunk]
            for index, caption in zip(chunk, self._describe(images), strict=True):
                captions[index] = caption
        return captions

    def _describe(self, images: list[Image.Image]) -> list[str]:
        import torch

        self._load()
        text = {} if self.prompt is None else {"text": [self.prompt] * len(images)}
        inputs = self._processor(images=images, return_tensors="pt", **text).to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            generated = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        texts = self._processor.batch_decode(generated, skip_special_tokens=True)
        return [self._without_prompt(text) for text in texts]

    def _without_prompt(self, text: str) -> str:
        # Decoder-only models return the prompt before what they wrote, encoder-decoders do not. Uncased vocabularies
        # change the prompt's case.
        text, prompt = " ".join(text.split()), " ".join((self.prompt or "").split())
        return text[len(prompt) :].strip() if text.casefold().startswith(prompt.casefold()) else text

    def _load(self) -> None:
        if self._model is not None:
            return
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = AutoModelForImageTextToText.from_pretrained(self._name, dtype=self.dtype, use_safetensors=True)
        self._processor = AutoProcessor.from_pretrained(self._name)
        self._model = model.to(device).eval()


def _chunks(places: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _rgb(example: MnerExample) -> Image.Image:
    from PIL import Image

    image = example["image"]
    if not isinstance(image, Image.Image):
        raise ValueError(
            f"Example {example.get('id')!r} has an image of type {type(image).__name__}; give a decoded PIL image,"
            " e.g. by `dataset.cast_column('image', datasets.Image())`."
        )
    return image.convert("RGB")
