"""Letterboxing: an image of any shape in a square, and its boxes there and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_mner.data.boxes import Box

if TYPE_CHECKING:
    from PIL import Image


def letterbox(image: Image.Image, side: int, fill: tuple[int, int, int]) -> Image.Image:
    """Scale an RGB image so that its longer side fills a square, and lay it in the middle.

    Args:
        image: the image.
        side: of the square, in pixels.
        fill: colour of the rest, 0-255.

    Source: FA-VG (Yang et al. 2019) and its public code.
    """
    from PIL import Image

    scale, left, top = placement(image.size, side)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    square = Image.new("RGB", (side, side), fill)
    square.paste(image.resize(size, Image.Resampling.BILINEAR), (round(left), round(top)))
    return square


def placement(image_size: Sequence[int], side: int) -> tuple[float, float, float]:
    """Return the scale of an image of `(width, height)` in its square, and its left and upper edge in pixels."""
    width, height = image_size
    scale = side / max(width, height)
    return scale, (side - width * scale) / 2, (side - height * scale) / 2


def to_letterbox(box: Sequence[float], image_size: Sequence[int]) -> Box:
    """Turn a box in pixels of the image into corners as fractions of the square."""
    scale, left, top = placement(image_size, 1)
    return [value * scale + shift for value, shift in zip(box, (left, top, left, top), strict=True)]


def from_letterbox(box: Sequence[float], image_size: Sequence[int]) -> Box | None:
    """Turn corners as fractions of the square into a box in pixels, clipped to the image; `None` if none of it is in.

    Args:
        box: corners.
        image_size: `(width, height)` in pixels.
    """
    scale, left, top = placement(image_size, 1)
    width, height = image_size
    limits = (width, height, width, height)
    xmin, ymin, xmax, ymax = (
        min(max((float(value) - shift) / scale, 0.0), float(limit))
        for value, shift, limit in zip(box, (left, top, left, top), limits, strict=True)
    )
    return [xmin, ymin, xmax, ymax] if xmin < xmax and ymin < ymax else None
