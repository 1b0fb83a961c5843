"""The regions of detected objects, cut out of their image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from hf_mner.data.boxes import Box
from hf_mner.data.schema import MnerExample, ObjectKnowledge
from hf_mner.knowledge.image_text_models import rgb_image

if TYPE_CHECKING:
    from PIL import Image


def region_crops(example: MnerExample, margin: float) -> list[Image.Image] | None:
    """Return the region of each object, None without an image or where objects were not looked for.

    Args:
        example: `knowledge["objects"]` has boxes in pixels of the upright image.
        margin: see `RegionCaptioner`.
    """
    objects = listed_objects(example)
    if example.get("image") is None or objects is None:
        return None
    image = rgb_image(example) if objects else None
    return [image.crop(crop_box(item["box"], image.size, margin)) for item in objects] if image else []


def crop_box(box: Box, image_size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """Return whole pixels that enclose a box and its margin, inside the image, at least one wide and high.

    Args:
        box: `[xmin, ymin, xmax, ymax]` in pixels.
        image_size: `(width, height)` in pixels.
        margin: fraction of the box's width added on the left and the right, of its height above and below.
    """
    sides = []
    for start, end, limit in ((box[0], box[2], image_size[0]), (box[1], box[3], image_size[1])):
        extra = margin * (end - start)
        first = min(max(0, math.floor(start - extra)), limit - 1)
        sides.append((first, max(first + 1, min(limit, math.ceil(end + extra)))))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def listed_objects(example: MnerExample) -> list[ObjectKnowledge] | None:
    """Return the objects in an example's knowledge, None where they were not looked for."""
    return cast(dict, example.get("knowledge") or {}).get("objects")
