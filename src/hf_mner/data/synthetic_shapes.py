"""The outlines of the symbols in the pictures of the planted-signal set."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

Outline = list[tuple[float, float]]  # corners (x, y), y downwards; only their proportions count
Shape = tuple[Outline, Outline]  # the border, and that of a hole (empty = none)


def _arc(start: float, end: float, radius: float = 1, x: float = 0, y: float = 0, steps: int = 40) -> Outline:
    """Return points of a circle around (x, y), angles in turns, clockwise from the right."""
    angles = [2 * pi * (start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles]


def _polygon(corners: int, start: float) -> Outline:
    return _arc(start, start + 1, steps=corners)[:-1]


def _star(points: int = 5, inner: float = 0.42) -> Outline:
    corners = _polygon(2 * points, -0.25)
    return [(x, y) if index % 2 == 0 else (x * inner, y * inner) for index, (x, y) in enumerate(corners)]


def _heart(steps: int = 60) -> Outline:
    angles = [2 * pi * step / steps for step in range(steps)]
    return [
        (16 * sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t))) for t in angles
    ]  # the curve of https://mathworld.wolfram.com/HeartCurve.html


def _mirrored(right: Sequence[tuple[float, float]]) -> Outline:
    return [*right, *((-x, y) for x, y in reversed(right))]


_CROSS = _mirrored([(0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33), (0.33, 1)])
_ARROW = [(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)]
_BOLT = [(0.2, -1), (-0.6, 0.15), (-0.1, 0.15), (-0.3, 1), (0.6, -0.25), (0.1, -0.25), (0.5, -1)]
_CRESCENT = [*_arc(0.12, 0.88), *_arc(0.82, 0.18, radius=0.8, x=0.42)]

# Each symbol decides a type: the first symbol the first type, and so on. No two look alike, also in outline alone.
KEY_SHAPES: dict[str, Shape] = {
    "star": (_star(), []),
    "triangle": (_polygon(3, -0.25), []),
    "cross": (_CROSS, []),
    "ring": (_arc(0, 1), _arc(0, 1, radius=0.5)),
    "heart": (_heart(), []),
    "crescent": (_CRESCENT, []),
    "arrow": (_ARROW, []),
    "bolt": (_BOLT, []),
}
# These mean nothing; the direction from a square to a circle can, see `synthetic_relations`.
DISTRACTORS: dict[str, Shape] = {
    "square": (_polygon(4, 0.125), []),
    "circle": (_arc(0, 1), []),
    "hexagon": (_polygon(6, 0), []),
    "oval": ([(x, 0.55 * y) for x, y in _arc(0, 1)], []),
    "bar": ([(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)], []),
}
SHAPES = {**KEY_SHAPES, **DISTRACTORS}
