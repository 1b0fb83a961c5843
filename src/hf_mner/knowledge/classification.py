"""What an image shows as a whole, by any image classifier of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_mner.data.schema import ObjectKnowledge
from hf_mner.knowledge.detections import as_objects
from hf_mner.knowledge.object_source import ObjectSource

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BaseImageProcessor, PreTrainedModel


class ImageClassifier(ObjectSource):
    """A knowledge source: the most probable classes of each example's image, as objects that fill it.

    It serves where no detector is at hand; a grounded entity can only get the whole image from it. Of a class's names
    ("tabby, tabby cat") the first is used. The model is loaded at the first image, from safetensors only. Images with
    the same pixels are looked at once in a call.

    Args:
        model: name or folder of a model that `AutoModelForImageClassification` loads, or such a model itself.
        processor: its image processor; needed if and only if `model` is not a name.
        threshold: classes with a probability of at most this are left out.
        max_objects: how many classes are kept of an image, best first.
        batch_size: images looked at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_objects` is below 1, `threshold` is not in [0, 1], or `processor` or
            `revision` does not fit `model`.
    """

    def __init__(
        self,
        model: str | PreTrainedModel = "google/mobilenet_v2_1.0_224",
        processor: BaseImageProcessor | None = None,
        threshold: float = 0.1,
        max_objects: int = 5,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, threshold, max_objects, batch_size, device, dtype, revision)

    def _see(self, images: list[Image.Image]) -> list[list[ObjectKnowledge]]:
        import torch

        self._load()
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = self._model(pixel_values=pixels.to(self._model.device, dtype=self._model.dtype)).logits  # b c
        probabilities = logits.float().softmax(dim=-1).cpu()
        return [self._objects(row, image.size) for row, image in zip(probabilities, images, strict=True)]

    def _objects(self, probabilities: torch.Tensor, size: tuple[int, int]) -> list[ObjectKnowledge]:
        import numpy as np

        (probable,) = (probabilities > self.threshold).nonzero(as_tuple=True)
        names = [self._model.config.id2label[index].split(",")[0] for index in probable.tolist()]
        boxes = np.tile([0, 0, *size], (len(names), 1))
        return as_objects(boxes, probabilities[probable].numpy(), names, size, self.max_objects)

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoImageProcessor, AutoModelForImageClassification

            self._model, self._processor = self._open(
                AutoModelForImageClassification, AutoImageProcessor.from_pretrained
            )
