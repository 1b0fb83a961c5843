"""Objects in images by semantic segmentation: one box for each connected area of a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import ObjectKnowledge
from hf_mner.knowledge.areas import connected_areas
from hf_mner.knowledge.detections import as_objects
from hf_mner.knowledge.model_source import check_fraction
from hf_mner.knowledge.object_source import ObjectSource

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from transformers import BaseImageProcessor, PreTrainedModel


class SegmentationObjects(ObjectSource):
    """A knowledge source: the areas that a semantic segmentation finds in each example's image, as objects.

    Each connected area of a class is one object. Its box encloses it, its score is the mean probability of the class
    in it. Things of one class that touch are one area: people in a crowd share a box. Boxes are in pixels of the
    upright image. The model is loaded at the first image, from safetensors only. Images with the same pixels are
    looked at once in a call.

    Args:
        model: name or folder of a model that `AutoModelForSemanticSegmentation` loads, or such a model itself.
        processor: its image processor; needed if and only if `model` is not a name. One that would cut out the middle
            of the image shrinks the whole image to that size instead.
        ignored_labels: classes that are no objects.
        min_area: areas that cover a smaller fraction of the image are left out.
        threshold: areas with a score of at most this are left out.
        max_objects: how many are kept of an image, best first; 18 is the most that SCANNER reads (Table 10).
        batch_size: images looked at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_objects` is below 1, `min_area` or `threshold` is not in [0, 1], or
            `processor` or `revision` does not fit `model`.

    Source: Chen et al. 2017, DeepLabv3 (https://arxiv.org/abs/1706.05587).
    Departure: no paper of this package takes objects from a segmentation; it serves where no detector is at hand.
    """

    def __init__(
        self,
        model: str | PreTrainedModel = "google/deeplabv3_mobilenet_v2_1.0_513",
        processor: BaseImageProcessor | None = None,
        ignored_labels: Sequence[str] = ("background",),
        min_area: float = 0.002,
        threshold: float = 0.5,
        max_objects: int = 18,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, threshold, max_objects, batch_size, device, dtype, revision)
        check_fraction(min_area=min_area)
        self.ignored_labels, self.min_area = tuple(ignored_labels), min_area

    def _see(self, images: list[Image.Image]) -> Iterator[list[ObjectKnowledge]]:
        import torch

        self._load()
        pixels = self._processor(images=images, return_tensors="pt", **whole_image(self._processor))["pixel_values"]
        pixels = pixels.to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            logits = self._model(pixel_values=pixels).logits.float()  # b c h w, coarser than the input
            logits = torch.nn.functional.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
            probabilities, classes = (part.cpu().numpy() for part in logits.softmax(dim=1).max(dim=1))  # b h w
        for index, image in enumerate(images):
            yield self._objects(classes[index], probabilities[index], image.size)

    def _objects(self, classes: np.ndarray, probabilities: np.ndarray, size: tuple[int, int]) -> list[ObjectKnowledge]:
        import numpy as np

        names = self._model.config.id2label
        ignored = [index for index, name in names.items() if name in self.ignored_labels]
        areas = [
            (box, score, names[label])
            for box, score, label, count in connected_areas(classes, probabilities, ignored)
            if score > self.threshold and count >= self.min_area * classes.size
        ]
        height, width = classes.shape
        scale = [size[0] / width, size[1] / height] * 2
        boxes = np.array([box for box, _, _ in areas]).reshape(-1, 4) * scale
        scores, labels = np.array([score for _, score, _ in areas]), [label for _, _, label in areas]
        return as_objects(boxes, scores, labels, size, self.max_objects)

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

            self._model, self._processor = self._open(
                AutoModelForSemanticSegmentation, AutoImageProcessor.from_pretrained
            )

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "ignored_labels": self.ignored_labels, "min_area": self.min_area}


def whole_image(processor: BaseImageProcessor) -> dict[str, Any]:
    """Return what to tell an image processor so that nothing of the image is cut off.

    The published processors of DeepLab cut out the middle; positions in the input would not be those in the image.
    """
    if not getattr(processor, "do_center_crop", False):
        return {}
    height, width = processor.crop_size["height"], processor.crop_size["width"]
    return {"do_center_crop": False, "size": {"height": height, "width": width}}
