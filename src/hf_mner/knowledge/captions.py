"""Captions of images by any image-to-text model of transformers (BLIP, BLIP-2, GIT, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_mner.knowledge.image_text_models import ImageTextSource

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin


class ImageCaptioner(ImageTextSource):
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
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_new_tokens` is below 1, or `processor` or `revision` does not fit `model`.

    Source: Li et al. 2023, BLIP-2 (https://arxiv.org/abs/2301.12597).
    """

    column = "caption"

    def __init__(
        self,
        model: str | PreTrainedModel = "Salesforce/blip2-opt-2.7b",
        processor: ProcessorMixin | None = None,
        prompt: str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 30,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, prompt, batch_size, max_new_tokens, device, dtype, revision)

    def _inputs(self, images: list[Image.Image]) -> BatchFeature:
        text = {} if self.prompt is None else {"text": [self.prompt] * len(images)}
        return self._processor(images=images, return_tensors="pt", **text)
