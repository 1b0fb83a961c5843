"""Pictures of the planted-signal set in which only the direction from the square to the circle decides the type."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, pi, sin
from typing import TYPE_CHECKING

from .synthetic_images import GAP, MAX_TURN, SHRINKAGE, PixelBox, Placement, draw_mask
from .synthetic_random import StableRandom

if TYPE_CHECKING:
    import numpy as np

SQUARE, CIRCLE = "square", "circle"  # the direction leads from the one to the other
SECTOR_COUNTS = (2, 4, 8)  # so that a sector is a union of the eight classes of 45 degrees
# Small shapes that lie close together leave the pair much room, so that its place says little on its direction.
SIZES = (0.16, 0.26)  # of a shape's longer side, in parts of the shorter side of the picture
STRETCH = 1.3  # greatest distance of the two centres, in parts of the least at which their boxes do not touch
MAX_DISTANCE = 0.42  # of the two centres, in parts of the diagonal
MARGIN = 10  # degrees between the drawn direction and a border of its sector; rounding to pixels takes up to 2


def list_sectors(count: int) -> list[tuple[float, float]]:
    """Return the borders of equal sectors of the full turn in degrees.

    Angles are those of image coordinates (x to the right, y down): `atan2(dy, dx)` in [0, 360), so 90 degrees point
    down.
    """
    width = 360 / count
    return [(number * width, (number + 1) * width) for number in range(count)]


def place_related(
    random: StableRandom, names: Sequence[str], size: tuple[int, int], sector: tuple[float, float]
) -> list[Placement]:
    """Return where each shape goes so that the circle, if there is one, lies in a sector seen from the square.

    The pair is shifted as a whole to any place of the picture, all equally likely. Each other shape then goes to any
    place that is free; if there is none, it becomes smaller until there is. Nothing is tried by luck, so that every
    picture is done after few steps.

    Args:
        random: decides turns, sizes and places.
        names: of shapes; one `SQUARE` and one `CIRCLE` if there is to be a pair.
        size: width and height of the picture in pixels.
        sector: least and greatest angle in degrees, see `list_sectors`.
    """
    placed: dict[int, Placement] = {}
    if CIRCLE in names:
        square, circle = names.index(SQUARE), names.index(CIRCLE)
        masks = [draw_mask(names[at], _draw_side(random, size), _draw_turn(random)) for at in (square, circle)]
        placed[square], placed[circle] = _place_pair(random, masks, size, sector)
    for at, name in enumerate(names):
        if at not in placed:
            placed[at] = _place_in_gap(random, name, size, [other.box for other in placed.values()])
    return [placed[at] for at in range(len(names))]


def _draw_side(random: StableRandom, size: tuple[int, int]) -> float:
    return random.between(*SIZES) * min(size)


def _draw_turn(random: StableRandom) -> float:
    return random.between(-MAX_TURN, MAX_TURN)


def _place_pair(
    random: StableRandom, masks: Sequence[np.ndarray], size: tuple[int, int], sector: tuple[float, float]
) -> list[Placement]:
    """Choose direction, distance and place, in this order; with `SIZES` there is always room."""
    shapes = [mask.shape[::-1] for mask in masks]  # width and height
    angle = random.between(sector[0] + MARGIN, sector[1] - MARGIN) * pi / 180
    direction = cos(angle), sin(angle)
    distance = random.between(*_limit_distance(direction, shapes, size))
    corners = []
    for axis in (0, 1):
        first, second = shapes[0][axis], shapes[1][axis]
        shift = round(distance * direction[axis] + (first - second) / 2)  # from corner to corner
        low, high = min(0, shift), max(first, shift + second)
        place = random.whole(GAP - low, size[axis] - GAP - high)
        corners.append((place, place + shift))
    return [_put(mask, (corners[0][at], corners[1][at])) for at, mask in enumerate(masks)]


def _limit_distance(
    direction: tuple[float, float], shapes: Sequence[tuple[int, int]], size: tuple[int, int]
) -> tuple[float, float]:
    """Return the least and greatest distance of the two centres in pixels, with a pixel left for rounding."""
    least, most = float("inf"), MAX_DISTANCE * hypot(*size) - 1
    for axis in (0, 1):
        step, half = max(abs(direction[axis]), 1e-9), (shapes[0][axis] + shapes[1][axis]) / 2
        least = min(least, (half + GAP + 1) / step)
        most = min(most, (size[axis] - 2 * GAP - half - 1) / step)
    return least, min(most, STRETCH * least)


def _place_in_gap(random: StableRandom, name: str, size: tuple[int, int], others: Sequence[PixelBox]) -> Placement:
    side, degrees = _draw_side(random, size), _draw_turn(random)
    while True:
        mask = draw_mask(name, side, degrees)
        tops, lefts = find_free_corners(mask.shape, size, others).nonzero()
        if len(tops):
            at = random.whole(0, len(tops) - 1)
            return _put(mask, (int(lefts[at]), int(tops[at])))
        side *= SHRINKAGE


def find_free_corners(shape: tuple[int, ...], size: tuple[int, int], others: Sequence[PixelBox]) -> np.ndarray:
    """Return for each pixel (`h w`, bool) whether a mask of this shape can have its upper left corner there.

    Args:
        shape: height and width of the mask.
        size: width and height of the picture.
        others: boxes to stay away from.
    """
    import numpy as np

    free = np.zeros((size[1], size[0]), dtype=bool)
    free[GAP : max(GAP, size[1] - shape[0] - GAP + 1), GAP : max(GAP, size[0] - shape[1] - GAP + 1)] = True
    for xmin, ymin, xmax, ymax in others:
        top, left = max(0, ymin - GAP - shape[0] + 1), max(0, xmin - GAP - shape[1] + 1)
        free[top : ymax + GAP, left : xmax + GAP] = False
    return free


def _put(mask: np.ndarray, corner: tuple[int, int]) -> Placement:
    height, width = mask.shape
    return Placement(mask, (*corner, corner[0] + width, corner[1] + height))
