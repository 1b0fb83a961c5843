"""Intersection over union of two boxes in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_box(box: Sequence[float]) -> None:
    """Raise `ValueError` unless `box` is `[xmin, ymin, xmax, ymax]` with a positive width and height."""
    if isinstance(box, str | bytes | dict) or len(box) != 4:
        raise ValueError(f"Box {box!r} is not a box; expected four numbers [xmin, ymin, xmax, ymax] in pixels.")
    if not all(math.isfinite(value) for value in box):
        raise ValueError(f"Box {list(box)} holds a value that is not finite; drop the box or predict none.")
    xmin, ymin, xmax, ymax = box
    if xmax <= xmin or ymax <= ymin:
        raise ValueError(
            f"Box {list(box)} is empty: need xmin < xmax and ymin < ymax. Boxes are [xmin, ymin, xmax, ymax] in"
            " pixels; convert [x, y, width, height] or [cx, cy, w, h] first."
        )


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes.

    Args:
        a: `[xmin, ymin, xmax, ymax]` in pixels; sides are `xmax - xmin` long, without the +1 of Pascal VOC's own code.
        b: the same.

    Returns:
        A fraction in [0, 1]; boxes that only touch have 0.

    Raises:
        ValueError: if a box is malformed (`xmax <= xmin`, not four finite numbers).

    Source: FA-VG's evaluation (Yang et al. 2019, https://arxiv.org/abs/1908.06354), which MNER-QG follows.
    """
    check_box(a)
    check_box(b)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return float(intersection / (box_area(a) + box_area(b) - intersection))


def box_area(box: Sequence[float]) -> float:
    """Return the area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])
