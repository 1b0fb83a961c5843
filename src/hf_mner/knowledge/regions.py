"""What is in the regions of detected objects: their captions, and how well entities fit them (SCANNER)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from hf_mner.data.schema import MnerExample, ObjectKnowledge
from hf_mner.knowledge.base import ENTITY_COLUMN, entity_mentions
from hf_mner.knowledge.captions import ImageCaptioner
from hf_mner.knowledge.crops import listed_objects, region_crops
from hf_mner.knowledge.dual_encoders import DualEncoderSource
from hf_mner.knowledge.image_text_models import chunks, once_per_image
from hf_mner.knowledge.model_source import check_fraction

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedModel, ProcessorMixin

IMAGES_AT_ONCE = 32  # their crops are held in memory together
SLOT = "{entity}"


class RegionCaptioner(ImageCaptioner):
    """A knowledge source that describes each detected object's region in one sentence, as its `caption`.

    Objects come from another source, e.g. `ObjectDetector`, which stands before this one. All objects of the examples
    that it gets are described. Regions with the same pixels are described once for some images. The model is loaded
    at the first region, from safetensors only.

    Args:
        model: name or folder of a model that `AutoModelForImageTextToText` loads, or such a model itself.
        processor: needed if and only if `model` is not a name.
        prompt: text that the caption continues, e.g. `"a photo of"`; it is not part of the result. None = none.
        margin: how much of the surroundings is seen, as a fraction of the box's width on the left and on the right,
            and of its height above and below.
        batch_size: regions described at once, of whatever images.
        max_new_tokens: longest caption in sub-words.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `batch_size` or `max_new_tokens` is below 1, `margin` is not in [0, 1], or `processor` or
            `revision` does not fit `model`.

    Source: SCANNER, Section 3.2.1, "Object knowledge"; Li et al. 2023, BLIP-2 (https://arxiv.org/abs/2301.12597).
    Departure: the paper tells of no margin. Boxes of detectors cut off what makes an object readable, such as the
        stick in a hand, so that we show a little more; `margin=0` shows the box alone.
    """

    column = "objects"
    reads = ("image", "objects")

    def __init__(
        self,
        model: str | PreTrainedModel = "Salesforce/blip2-opt-2.7b",
        processor: ProcessorMixin | None = None,
        prompt: str | None = None,
        margin: float = 0.1,
        batch_size: int = 8,
        max_new_tokens: int = 30,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, prompt, batch_size, max_new_tokens, device, dtype, revision)
        check_fraction(margin=margin)
        self.margin = margin

    def lacks(self, example: MnerExample) -> bool:
        """Tell whether an object of the example has no caption; without an image none can be had."""
        if example.get("image") is None:
            return False
        return any(item.get("caption") is None for item in listed_objects(example) or ())

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[ObjectKnowledge] | None]:  # type: ignore[override]
        """Return the objects of each example with captions; without an image they stay as they are.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
        """
        return [objects for chunk in chunks(examples, IMAGES_AT_ONCE) for objects in self._caption(chunk)]

    def _caption(self, examples: Sequence[MnerExample]) -> list[list[ObjectKnowledge] | None]:
        regions = [region_crops(example, self.margin) for example in examples]
        captions = iter(super().__call__(_as_examples([crop for crops in regions for crop in crops or ()])))
        return [
            listed_objects(example)
            if crops is None
            else [{**item, "caption": next(captions)} for item in listed_objects(example) or ()]
            for example, crops in zip(examples, regions, strict=True)
        ]

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "margin": self.margin}


class RegionSimilarity(DualEncoderSource):
    """A knowledge source: the cosine of each entity's text and each detected object's region, by a dual encoder.

    Objects come from another source, e.g. `ObjectDetector`, which stands before this one. Each entity gets
    `object_similarities`, one number for each object, in their order. Regions with the same pixels are encoded once
    for some images, equal texts once in a call. The model is loaded at the first region, from safetensors only.

    Args:
        model: name or folder of a dual encoder that `AutoModel` loads (CLIP, SigLIP, ALIGN, ...), or such a model
            itself: one with `get_text_features` and `get_image_features`.
        processor: needed if and only if `model` is not a name.
        template: what is said of an entity, with `{entity}` for its words; `"{entity}"` = the words alone.
        margin: how much of the surroundings is seen, as in `RegionCaptioner`; 0 = the box alone, as in the paper.
        batch_size: regions, and texts, encoded at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.

    Raises:
        ValueError: if `template` has no `{entity}`, `batch_size` is below 1, `margin` is not in [0, 1], `processor` or
            `revision` does not fit `model`, or `model` is no dual encoder.

    Source: SCANNER, Section 3.2.1: "the similarity between the text representation of the entity candidate and the
        visual representation of each Region of Interest"; Radford et al. 2021, CLIP
        (https://arxiv.org/abs/2103.00020).
    Departure: the paper does not say how it writes the candidate. Ours stands in a sentence, because CLIP was trained
        on sentences, and its authors found that a bare name does worse (Section 3.1.4).
    """

    column = ENTITY_COLUMN
    needs_entities = True
    reads = ("image", "tokens", "entities", "objects")

    def __init__(
        self,
        model: str | PreTrainedModel = "openai/clip-vit-base-patch32",
        processor: ProcessorMixin | None = None,
        template: str = f"a photo of {SLOT}",
        margin: float = 0.0,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        revision: str | None = None,
    ):
        super().__init__(model, processor, batch_size, device, dtype, revision)
        check_fraction(margin=margin)
        if SLOT not in template:
            raise ValueError(f"`template={template!r}` has no `{SLOT}`; expected a text such as 'a photo of {SLOT}'.")
        self.prompt, self.margin = template, margin

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[list[float]] | None]:
        """Return for each entity of each example one number in [-1, 1] for each object.

        `[[], []]` is an image of two entities without objects; None means no image, or objects not yet looked for.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`.
        """
        return [values for chunk in chunks(examples, IMAGES_AT_ONCE) for values in self._compare(chunk)]

    def _compare(self, examples: Sequence[MnerExample]) -> list[list[list[float]] | None]:
        regions = [region_crops(example, self.margin) if example["entities"] else None for example in examples]
        crops = _as_examples([crop for own in regions for crop in own or ()])
        features = iter(once_per_image(crops, self.batch_size, self._embed_images))
        texts = self._text_features([example for example, own in zip(examples, regions, strict=True) if own])
        values: list[list[list[float]] | None] = []
        for example, own in zip(examples, regions, strict=True):
            mentions = entity_mentions(example)
            if not own:
                is_known = example.get("image") is not None and listed_objects(example) is not None
                values.append([[] for _ in mentions] if is_known else None)
                continue
            images = [cast("Tensor", next(features)) for _ in own]
            values.append(cosine_table([texts[mention] for mention in mentions], images))
        return values

    def _text_features(self, examples: Sequence[MnerExample]) -> dict[str, Tensor]:
        mentions = sorted({mention for example in examples for mention in entity_mentions(example)})
        texts = [self.prompt.replace(SLOT, mention) for mention in mentions] if self.prompt else mentions
        return dict(zip(mentions, self._embed_texts(texts), strict=True)) if mentions else {}

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "margin": self.margin}


def cosine_table(texts: Sequence[Tensor], images: Sequence[Tensor]) -> list[list[float]]:
    """Return the cosine of each text (`d`) with each image (`d`), in [-1, 1] in spite of rounding."""
    import torch

    left, right = (torch.nn.functional.normalize(torch.stack(list(side)).float(), dim=-1) for side in (texts, images))
    return (left @ right.T).clamp(-1, 1).tolist()


def _as_examples(crops: Sequence[Image.Image]) -> list[MnerExample]:
    return [{"image": crop} for crop in crops]
