"""The legend of a relation graph: its objects, the colours of its relations, and the directions of the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from hf_mner.data.schema import ObjectKnowledge

FONT_SIZE, LINE_HEIGHT, MARGIN = 13, 18, 14  # pixels
LEGEND_WIDTH = 300
ROSE_RADIUS = 58
NOTE_COLOR = "dimgray"
COLORS = {
    "inside": (0, 0, 0),
    "cover": (0, 0, 0),
    "overlap": (150, 75, 0),
    "class1": (215, 25, 30),
    "class2": (240, 110, 0),
    "class3": (170, 140, 0),
    "class4": (40, 140, 30),
    "class5": (0, 140, 130),
    "class6": (0, 120, 215),
    "class7": (75, 50, 200),
    "class8": (200, 20, 150),
}


def with_legend(
    picture: Image.Image, objects: Sequence[ObjectKnowledge], drawn: Sequence[str], num_without: int
) -> Image.Image:
    """Set a legend to the right of a picture.

    Args:
        picture: RGB.
        objects: in the order of their numbers.
        drawn: the relation of each arrow.
        num_without: how many arrows have no name written on them.
    """
    font = ImageFont.load_default(FONT_SIZE)
    numbers = Counter(drawn)
    entries: list[tuple[str, Any]] = [("Objects", "black")]
    entries += [(f"{number}  {describe_object(item)}", NOTE_COLOR) for number, item in enumerate(objects, start=1)]
    entries += [("", "black"), (f"Arrows: {len(drawn)}", "black")]
    entries += [(f"{name}: {numbers[name]}", color) for name, color in COLORS.items() if name in numbers]
    notes = [(line, NOTE_COLOR) for line in wrap_text(describe_reading(len(objects), num_without), font, LEGEND_WIDTH)]
    height = LINE_HEIGHT * (len(entries) + len(notes) + 1) + 2 * ROSE_RADIUS + 4 * MARGIN
    sheet = Image.new(
        "RGB", (picture.width + LEGEND_WIDTH + 3 * MARGIN, max(picture.height + 2 * MARGIN, height)), "white"
    )
    sheet.paste(picture, (MARGIN, MARGIN))
    draw, left = ImageDraw.Draw(sheet), picture.width + 2 * MARGIN
    y = write_lines(draw, entries, (left, MARGIN), font) + MARGIN
    draw_rose(draw, (left + ROSE_RADIUS, y + ROSE_RADIUS), font)
    write_lines(draw, notes, (left, y + 2 * ROSE_RADIUS + MARGIN), font)
    return sheet


def describe_object(item: ObjectKnowledge) -> str:
    """Return the label of an object, and its score where it has one."""
    score = item.get("score")
    return item["label"] if score is None else f"{item['label']} {score:.2f}"


def describe_reading(num_objects: int, num_without: int) -> str:
    """Return how the picture is to be read, and what is not in it."""
    without = f" There is no room for {num_without} of the names." if num_without else ""
    return (
        "An arrow from i to j has the name of the edge from i to j, where i < j; the edge back is not drawn."
        f"{without} The image (node 0) includes all objects: {num_objects} edges 'inside' to them and {num_objects}"
        " edges 'cover' from them are not drawn."
    )


def write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[tuple[str, Any]], place: tuple[int, int], font: Any) -> int:
    """Write texts in their colours below each other, cut to the width of the legend; return where they end."""
    x, y = place
    for text, color in lines:
        while font.getlength(text) > LEGEND_WIDTH:
            text = text.removesuffix("...")[:-1] + "..."
        draw.text((x, y), text, fill=color, font=font)
        y += LINE_HEIGHT
    return y


def draw_rose(draw: ImageDraw.ImageDraw, centre: tuple[int, int], font: Any) -> None:
    """Draw which class stands for which direction, as seen from object i: clockwise, as y points down."""
    x, y = centre
    circle = (x - ROSE_RADIUS, y - ROSE_RADIUS, x + ROSE_RADIUS, y + ROSE_RADIUS)
    for octant in range(8):
        name, middle = f"class{octant + 1}", (octant + 0.5) * pi / 4
        draw.pieslice(circle, 45 * octant, 45 * (octant + 1), fill=COLORS[name], outline="white", width=2)
        place = x + 0.68 * ROSE_RADIUS * cos(middle), y + 0.68 * ROSE_RADIUS * sin(middle)
        draw.text(place, str(octant + 1), fill="white", font=font, anchor="mm")


def wrap_text(text: str, font: Any, width: int) -> list[str]:
    """Break a text into lines of at most a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
