"""The pictures of the planted-signal set: shapes that do not touch, on a shaded and slightly noisy ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, sin
from typing import TYPE_CHECKING, NamedTuple

from .synthetic_random import StableRandom
from .synthetic_shapes import SHAPES, Outline

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SIDES = (128, 256)  # least and greatest width and height in pixels
SIZES = (0.22, 0.45)  # of a shape's longer side, in parts of the shorter side of the picture
MAX_TURN = 20  # degrees
GAP = 3  # pixels between the boxes of two shapes, and to the border
NOISE = 6  # greatest departure from the ground or colour, in levels of 256
GRADIENT = 30  # levels between two opposite borders
MIN_CONTRAST = 110  # between a shape and the ground, as a distance in RGB
SHRINKAGE = 0.95  # of all shapes after each placement that did not fit
COLORS = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (250, 210, 50),
    "green": (40, 150, 70),
    "blue": (35, 90, 205),
    "purple": (125, 55, 170),
    "pink": (245, 130, 180),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
PixelBox = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax; max exclusive


class DrawnShape(NamedTuple):
    """A shape of a picture: the names of its shape and colour, and the tight box of its pixels."""

    name: str
    color: str
    box: PixelBox


class Placement(NamedTuple):
    """Where the pixels of a shape are: its mask (`h w`, bool) and the box that the mask fills."""

    mask: np.ndarray
    box: PixelBox


# Says where shapes of these names go in a picture of this width and height. None touches another or the border.
Place = Callable[[StableRandom, Sequence[str], tuple[int, int]], list[Placement]]


def draw_picture(
    random: StableRandom, names: Sequence[str], place: Place | None = None
) -> tuple[Image.Image, list[DrawnShape]]:
    """Draw shapes of random colour, size, turn and place; nothing but `names` tells one shape's role from another's.

    Args:
        random: decides everything but which shapes there are.
        names: of `synthetic_shapes.SHAPES`.
        place: puts the shapes where they go (default: `place_freely`).

    Returns:
        The RGB picture, and its shapes in the order of `names`.
    """
    import numpy as np
    from PIL import Image

    width, height = random.whole(*SIDES), random.whole(*SIDES)
    ground = [random.whole(0, 255) for _ in range(3)]
    canvas = _shade_ground(random, width, height, ground)
    readable = [name for name, color in COLORS.items() if _distance(color, ground) >= MIN_CONTRAST]
    shapes = []
    for name, placed in zip(names, (place or place_freely)(random, names, (width, height)), strict=True):
        color = random.pick(readable)
        xmin, ymin, xmax, ymax = placed.box
        canvas[ymin:ymax, xmin:xmax][placed.mask] = COLORS[color]
        shapes.append(DrawnShape(name, color, placed.box))
    noise = np.frombuffer(random.noise(height * width), dtype=np.uint8).reshape(height, width, 1)
    levels = canvas + noise % (2 * NOISE + 1) - NOISE
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)), shapes


def _shade_ground(random: StableRandom, width: int, height: int, color: Sequence[int]) -> np.ndarray:
    """Return `h w 3` levels that rise by `GRADIENT` from left to right or from top to bottom, or fall."""
    import numpy as np

    slope = np.linspace(-GRADIENT / 2, GRADIENT / 2, width)[None, :, None]
    if random.share() < 0.5:
        slope = np.linspace(-GRADIENT / 2, GRADIENT / 2, height)[:, None, None]
    sign = random.pick((-1, 1))
    return np.broadcast_to(np.asarray(color) + sign * slope, (height, width, 3)).round().astype(np.int16)


def place_freely(random: StableRandom, names: Sequence[str], size: tuple[int, int]) -> list[Placement]:
    """Return where each shape goes; if they do not fit together, all of them are placed anew, a little smaller."""
    wanted = [random.between(*SIZES) for _ in names]
    scale = 1.0
    while True:
        placed: list[Placement] = []
        for name, share in zip(names, wanted, strict=True):
            placement = _place_one(random, name, max(SIZES[0], share * scale) * min(size), size)
            if any(_is_near(placement.box, other.box) for other in placed):
                break
            placed.append(placement)
        if len(placed) == len(names):
            return placed
        scale *= SHRINKAGE


def _place_one(random: StableRandom, name: str, side: float, size: tuple[int, int]) -> Placement:
    mask = draw_mask(name, side, random.between(-MAX_TURN, MAX_TURN))
    height, width = mask.shape
    left, top = random.whole(GAP, size[0] - width - GAP), random.whole(GAP, size[1] - height - GAP)
    return Placement(mask, (left, top, left + width, top + height))


def draw_mask(name: str, side: float, degrees: float) -> np.ndarray:
    """Return the pixels of a shape as `h w`, bool, cut to the rows and columns that it touches.

    Args:
        name: of `synthetic_shapes.SHAPES`.
        side: the longer side of the turned shape in pixels.
        degrees: how far it is turned clockwise.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    border, hole = (_turn(outline, degrees) for outline in SHAPES[name])
    left, top = min(x for x, _ in border), min(y for _, y in border)
    factor = side / max(max(x for x, _ in border) - left, max(y for _, y in border) - top)
    mask = Image.new("1", (round(side) + 3, round(side) + 3))
    for outline, fill in ((border, 1), (hole, 0)):
        if outline:
            points = [((x - left) * factor + 1, (y - top) * factor + 1) for x, y in outline]
            ImageDraw.Draw(mask).polygon(points, fill=fill)
    return np.asarray(mask.crop(mask.getbbox()))


def _turn(outline: Outline, degrees: float) -> Outline:
    c, s = cos(degrees * pi / 180), sin(degrees * pi / 180)
    return [(c * x - s * y, s * x + c * y) for x, y in outline]


def _is_near(one: PixelBox, other: PixelBox) -> bool:
    return one[0] < other[2] + GAP and other[0] < one[2] + GAP and one[1] < other[3] + GAP and other[1] < one[3] + GAP


def _distance(one: Sequence[int], other: Sequence[int]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
