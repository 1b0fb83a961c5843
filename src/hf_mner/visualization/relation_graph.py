"""A picture of a relation graph: the boxes of an image's objects, and arrows between them in the colours of relations.

Of two objects the arrow from the first to the second is drawn. The legend is in `relation_legend`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import cos, dist, sin
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from hf_mner.data.schema import ObjectKnowledge

from .relation_legend import COLORS, FONT_SIZE, LINE_HEIGHT, with_legend

PICTURE_SIDE = 900  # pixels, of the longer side of the image as drawn
FADING = 0.45  # how far the image is turned to white, so that the graph stands out
SMOOTHING = 2  # lines are drawn so many times larger and shrunk: Pillow has no smooth lines
NODE_RADIUS, LINE_WIDTH, HEAD_LENGTH, HEAD_WIDTH = 11, 2, 12, 9  # pixels
NAME_PLACES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)  # along an arrow, the first that is free
BOX_COLOR = (90, 90, 90)
GOLDEN_ANGLE = 2.4  # radians: steps of a spiral that fills the plane evenly

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # left, upper, right and lower edge
Color = tuple[int, int, int]


class Arrow(NamedTuple):
    """The edge between two nodes as it is drawn, in pixels."""

    start: Point
    end: Point
    relation: str

    def length(self) -> float:
        """Return the length in pixels."""
        return dist(self.start, self.end)

    def at(self, share: float) -> Point:
        """Return the point that lies so far along the arrow, in parts of its length."""
        return tuple(a + share * (b - a) for a, b in zip(self.start, self.end, strict=True))  # type: ignore[return-value]


class Writing:
    """Writes on a picture, nothing over anything else.

    Args:
        draw: of the picture.
        size: its width and height in pixels.
        font: of all texts.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, size: tuple[int, int], font: Any):
        self.draw, self.size, self.font = draw, size, font
        self.taken: list[Rectangle] = []

    def write_node(self, text: str, place: Point) -> None:
        """Draw a node with its number, wherever it is."""
        x, y = place
        self.draw.circle(place, NODE_RADIUS, fill="white", outline="black", width=2)
        self.draw.text(place, text, fill="black", font=self.font, anchor="mm")
        self.taken.append((x - NODE_RADIUS, y - NODE_RADIUS, x + NODE_RADIUS, y + NODE_RADIUS))

    def write_where_free(self, text: str, color: Color, places: Sequence[Point]) -> bool:
        """Write a text at the first of the places, its upper left corners, that is free; say whether there is one."""
        width = self.font.getlength(text)
        for x, y in places:
            rectangle = (x - 2, y, x + width + 2, y + LINE_HEIGHT - 2)
            if self.is_free(rectangle):
                self.taken.append(rectangle)
                middle = (x + width / 2, y + LINE_HEIGHT / 2 - 1)
                self.draw.text(middle, text, color, self.font, "mm", stroke_width=2, stroke_fill="white")
                return True
        return False

    def is_free(self, place: Rectangle) -> bool:
        """Say whether a rectangle lies in the picture and covers nothing that is written."""
        left, top, right, lower = place
        if left < 0 or top < 0 or right > self.size[0] or lower > self.size[1]:
            return False
        return not any(left < b[2] and b[0] < right and top < b[3] and b[1] < lower for b in self.taken)


def draw_relation_graph(
    image: Image.Image, objects: Sequence[ObjectKnowledge], relations: Sequence[Sequence[str]]
) -> Image.Image:
    """Draw objects over their image, and the relations between them.

    Args:
        image: RGB.
        objects: with boxes in pixels of the image; numbered from 1 in their order.
        relations: `n n`, names as in `hf_mner.layers.relations.RELATIONS`, of the edge from the row's object to the
            column's. Only those above the diagonal are drawn.

    Returns:
        The picture: the image, enlarged or shrunk to 900 pixels, and a legend beside it.
    """
    scale = PICTURE_SIDE / max(image.size)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    boxes = [tuple(edge * scale for edge in item["box"]) for item in objects]
    nodes = spread_nodes([((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes])
    arrows = list(list_arrows(nodes, relations))
    picture = draw_lines(image.resize(size, Image.Resampling.LANCZOS), boxes, arrows)
    writing = Writing(ImageDraw.Draw(picture), size, ImageFont.load_default(FONT_SIZE))
    for number, node in enumerate(nodes, start=1):
        writing.write_node(str(number), node)
    for number, (item, box) in enumerate(zip(objects, boxes, strict=True), start=1):
        corners = [(box[0] + 4, box[1] + 3), (box[0], box[1] - LINE_HEIGHT), (box[0] + 4, box[3] - LINE_HEIGHT)]
        writing.write_where_free(f"{number} {item['label']}", BOX_COLOR, corners)
    shortest_first = sorted(arrows, key=Arrow.length)  # they have the least choice of places
    num_without = sum(not write_name(writing, arrow) for arrow in shortest_first)
    return with_legend(picture, objects, [arrow.relation for arrow in arrows], num_without)


def write_name(writing: Writing, arrow: Arrow) -> bool:
    """Write the relation on its arrow, near the middle, if there is room; say whether there is."""
    half = writing.font.getlength(arrow.relation) / 2, LINE_HEIGHT / 2 - 1
    corners = [(x - half[0], y - half[1]) for x, y in map(arrow.at, NAME_PLACES)]
    return writing.write_where_free(arrow.relation, COLORS[arrow.relation], corners)


def spread_nodes(centres: Sequence[Point]) -> list[Point]:
    """Return places for the nodes: the centres of the boxes, moved a little where two would cover each other."""
    nodes: list[Point] = []
    for x, y in centres:
        spiral = ((x + 3 * k**0.5 * cos(k * GOLDEN_ANGLE), y + 3 * k**0.5 * sin(k * GOLDEN_ANGLE)) for k in count())
        nodes.append(next(place for place in spiral if all(dist(place, node) > 3 * NODE_RADIUS for node in nodes)))
    return nodes


def list_arrows(nodes: Sequence[Point], relations: Sequence[Sequence[str]]) -> Iterator[Arrow]:
    """Yield the arrow of each pair that has an edge, from rim to rim of its nodes."""
    for i, start in enumerate(nodes):
        for j in range(i + 1, len(nodes)):
            if relations[i][j] != "none":
                line, rim = Arrow(start, nodes[j], relations[i][j]), NODE_RADIUS / dist(start, nodes[j])
                yield Arrow(line.at(rim), line.at(1 - rim), line.relation)


def draw_lines(image: Image.Image, boxes: Sequence[Sequence[float]], arrows: Sequence[Arrow]) -> Image.Image:
    """Return the faded image with boxes and arrows, the longest arrows below the others."""
    faded = Image.blend(image, Image.new("RGB", image.size, "white"), FADING)
    large = faded.resize((image.width * SMOOTHING, image.height * SMOOTHING))
    draw = ImageDraw.Draw(large)
    for box in boxes:
        draw.rectangle([edge * SMOOTHING for edge in box], outline=BOX_COLOR, width=2 * SMOOTHING)
    for arrow in sorted(arrows, key=Arrow.length, reverse=True):
        color, length = COLORS[arrow.relation], arrow.length()
        neck = arrow.at(1 - min(HEAD_LENGTH / length, 1))
        across = [HEAD_WIDTH / 2 * (b - a) / length for a, b in zip(arrow.start, arrow.end, strict=True)]
        left, right = (neck[0] - across[1], neck[1] + across[0]), (neck[0] + across[1], neck[1] - across[0])
        draw.line(_enlarged(arrow.start, neck), fill=color, width=LINE_WIDTH * SMOOTHING)
        draw.polygon(_enlarged(arrow.end, left, right), fill=color)
    return large.resize(image.size, Image.Resampling.BOX)


def _enlarged(*points: Point) -> list[Point]:
    return [(x * SMOOTHING, y * SMOOTHING) for x, y in points]
