"""What a box is, checked in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Box = list[float]  # [xmin, ymin, xmax, ymax] in pixels of the image, origin in the upper left corner


def check_area(box: Any, where: str = "Box") -> Box:
    """Return the box as floats if it is four finite numbers with xmin < xmax and ymin < ymax.

    Args:
        box: `[xmin, ymin, xmax, ymax]` in pixels.
        where: what the box belongs to, for the error text.

    Raises:
        ValueError: naming the box and what was expected.
    """
    try:
        numbers = [] if isinstance(box, str | bytes | dict) else [float(value) for value in box]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{where}: {box!r} is not a box; expected four numbers [xmin, ymin, xmax, ymax] in pixels.")
    xmin, ymin, xmax, ymax = numbers
    if xmax <= xmin or ymax <= ymin:
        raise ValueError(
            f"{where}: box {numbers} has no area; expected xmin < xmax and ymin < ymax. Drop it, or convert"
            " [x, y, width, height] or [cx, cy, w, h] to corners first."
        )
    return numbers


def check_box(box: Any, image_size: Sequence[int] | None, where: str = "Box") -> Box:
    """Return the box as floats if it has an area and lies inside its image.

    The rule, which every box of Twitter-GMNER meets: `0 <= xmin < xmax <= width` and `0 <= ymin < ymax <= height`.

    Args:
        box: `[xmin, ymin, xmax, ymax]` in pixels.
        image_size: `(width, height)`; None leaves the upper bounds unchecked.
        where: what the box belongs to, for the error text.

    Raises:
        ValueError: as `check_area`, or if the box leaves the image.
    """
    numbers = check_area(box, where)
    width, height = image_size or (math.inf, math.inf)
    if min(numbers[:2]) < 0 or numbers[2] > width or numbers[3] > height:
        raise ValueError(
            f"{where}: box {numbers} leaves its image of width {width} and height {height}; clip the box to the image,"
            " or correct the size."
        )
    return numbers
