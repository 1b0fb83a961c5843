"""What the sources share that see objects in images by a model of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import MnerExample, ObjectKnowledge
from hf_mner.knowledge.detections import copied
from hf_mner.knowledge.image_text_models import once_per_image
from hf_mner.knowledge.model_source import ModelSource, check_fraction, check_positive

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BaseImageProcessor, PreTrainedModel


class ObjectSource(ModelSource):
    """A knowledge source that fills `objects`; subclasses say what they see, in `_see`.

    Args:
        model: name or folder of a model, or such a model itself.
        processor: its image processor; needed if and only if `model` is not a name.
        threshold: objects with a score of at most this are left out.
        max_objects: how many are kept of an image, best first.
        batch_size: images looked at once.
        device: see `ModelSource`.
        dtype: see `ModelSource`.
        revision: see `ModelSource`.

    Raises:
        ValueError: if `batch_size` or `max_objects` is below 1, `threshold` is not in [0, 1], or `processor` or
            `revision` does not fit `model`.
    """

    column = "objects"
    reads = ("image",)

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: BaseImageProcessor | None,
        threshold: float,
        max_objects: int,
        batch_size: int,
        device: str | torch.device | None,
        dtype: str,
        revision: str | None,
    ):
        super().__init__(model, revision, batch_size, device, dtype, processor=processor)
        check_positive(max_objects=max_objects)
        check_fraction(threshold=threshold)
        self.threshold, self.max_objects = threshold, max_objects
        self._processor: Any = processor

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[ObjectKnowledge] | None]:
        """Return the objects of each example's image, `[]` where nothing is seen, None without an image.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
        """
        return [copied(objects) for objects in once_per_image(examples, self.batch_size, self._see)]

    def _see(self, images: list[Image.Image]) -> Iterable[list[ObjectKnowledge]]:
        """Return the objects of each of some images."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it sees; define `_see`.")

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "threshold": self.threshold, "max_objects": self.max_objects}
