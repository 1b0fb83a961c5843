"""Intersection over union of two boxes in plain Python."""

from __future__ import annotations

from collections.abc import Sequence

from hf_mner.data.boxes import check_area


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
    check_area(a)
    check_area(b)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return float(intersection / (box_area(a) + box_area(b) - intersection))


def box_area(box: Sequence[float]) -> float:
    """Return the area of a box in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])
