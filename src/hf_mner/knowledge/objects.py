"""Objects in images by any detector of transformers (RT-DETR, DETR, YOLOS, ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import ObjectKnowledge
from hf_mner.knowledge.detections import as_objects
from hf_mner.knowledge.object_source import ObjectSource

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor
    from transformers import BaseImageProcessor, PreTrainedModel


class ObjectDetector(ObjectSource):
    """A knowledge source: what a detector sees in each example's image, and where.

    Boxes are in pixels of the upright image (turned as its EXIF orientation says). The model is loaded at the first
    image, from safetensors only. Images with the same pixels are looked at once in a call. Images share a batch only
    if the processor brings them to one size: so nothing is padded, and a batch gives what its images give one by one.

    Args:
        model: name or folder of a model that `AutoModelForObjectDetection` loads, or such a model itself. Older
            checkpoints of DETR take their backbone from timm, which needs torchvision; the default does not.
        processor: its image processor; needed if and only if `model` is not a name.
        threshold: detections with a score of at most this are left out.
        max_objects: how many are kept of an image, best first; 18 is the most that SCANNER reads (Table 10).
        batch_size: images looked at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_objects` is below 1, `threshold` is not in [0, 1], or `processor` or
            `revision` does not fit `model`.

    Source: Lv et al. 2023, RT-DETR (https://arxiv.org/abs/2304.08069); Carion et al. 2020, DETR
        (https://arxiv.org/abs/2005.12872).
    Departure: SCANNER and ITA detect with VinVL, which is not a model of transformers; `VinvlObjects` reads its files.
    """

    def __init__(
        self,
        model: str | PreTrainedModel = "PekingU/rtdetr_r50vd",
        processor: BaseImageProcessor | None = None,
        threshold: float = 0.5,
        max_objects: int = 18,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, threshold, max_objects, batch_size, device, dtype, revision)

    def _see(self, images: list[Image.Image]) -> list[list[ObjectKnowledge]]:
        self._load()
        inputs = [self._processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
        groups: dict[Any, list[int]] = {}
        for index, pixels in enumerate(inputs):
            groups.setdefault(tuple(pixels.shape), []).append(index)
        found: dict[int, list[ObjectKnowledge]] = {}
        for group in groups.values():
            objects = self._detect_alike([inputs[index] for index in group], [images[index].size for index in group])
            found.update(zip(group, objects, strict=True))
        return [found[index] for index in range(len(images))]

    def _detect_alike(self, inputs: list[Tensor], sizes: list[tuple[int, int]]) -> list[list[ObjectKnowledge]]:
        """Return the objects of images whose inputs (`1 3 h w`) have one shape; `sizes` are `(width, height)`."""
        import torch

        pixels = torch.cat(inputs).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            outputs = self._model(pixel_values=pixels)
        results = self._processor.post_process_object_detection(
            outputs, threshold=self.threshold, target_sizes=[(height, width) for width, height in sizes]
        )
        names = self._model.config.id2label
        return [
            as_objects(
                result["boxes"].float().cpu().numpy(),
                result["scores"].float().cpu().numpy(),
                [names[label] for label in result["labels"].tolist()],
                size,
                self.max_objects,
            )
            for result, size in zip(results, sizes, strict=True)
        ]

    def _load(self) -> None:
        if self._model is None:
            from transformers import AutoImageProcessor, AutoModelForObjectDetection

            self._model, self._processor = self._open(AutoModelForObjectDetection, AutoImageProcessor.from_pretrained)
