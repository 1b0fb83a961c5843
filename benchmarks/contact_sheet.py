"""A sheet of small photographs with the boxes and the writing that sources found in them; labels are COCO's."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from hf_mner.knowledge.coco_classes import COCO_CLASSES

CELL = (300, 225)  # of a photograph, width and height in pixels
MARGIN, CAPTION_LINES, LINE_HEIGHT, FONT_SIZE = 8, 2, 15, 12
COLUMNS = 4
GOLDEN_RATIO = 0.618


class Panel(NamedTuple):
    """A photograph, `knowledge["objects"]` with boxes in its pixels, and what stands below."""

    image: Image.Image
    objects: list[dict[str, Any]]
    caption: str


def draw_sheet(panels: list[Panel], footer: str, path: Path) -> None:
    """Write the panels in rows of four, with few colours, so that the file is small.

    Args:
        panels: drawn from left to right.
        footer: one line at the bottom, e.g. whose photographs they are.
        path: a PNG file.
    """
    rows = -(-len(panels) // COLUMNS)
    step = CELL[0] + MARGIN, CELL[1] + CAPTION_LINES * LINE_HEIGHT + 2 * MARGIN
    sheet = Image.new("RGB", (COLUMNS * step[0] + MARGIN, rows * step[1] + LINE_HEIGHT + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for index, panel in enumerate(panels):
        left, top = MARGIN + index % COLUMNS * step[0], MARGIN + index // COLUMNS * step[1]
        picture = draw_panel(panel, font)
        sheet.paste(picture, (left + (CELL[0] - picture.width) // 2, top + (CELL[1] - picture.height) // 2))
        for number, line in enumerate(wrap(panel.caption, font, CELL[0])):
            draw.text((left, top + CELL[1] + 3 + number * LINE_HEIGHT), line, fill="black", font=font)
    draw.text((MARGIN, sheet.height - LINE_HEIGHT - MARGIN), footer, fill="dimgray", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256, kmeans=2).save(path, optimize=True)


def draw_panel(panel: Panel, font: Any) -> Image.Image:
    """Return a photograph in the size of a cell, with its boxes; the best one is drawn last."""
    picture = panel.image.copy()
    picture.thumbnail(CELL, Image.Resampling.LANCZOS)
    scale = picture.width / panel.image.width
    draw = ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for item in panel.objects:
        draw.rectangle([side * scale for side in item["box"]], outline=color_of(item["label"]), width=2)
    for item in panel.objects:
        draw_label(draw, item, scale, picture.size, taken, font)
    return picture


def draw_label(draw: Any, item: dict[str, Any], scale: float, size: tuple[int, int], taken: list, font: Any) -> None:
    """Write a label at the upper left corner of its box, unless that would cover one that is there."""
    text = f"{item['label']} {item['score']:.2f}"
    width, height = draw.textlength(text, font=font) + 4, FONT_SIZE + 3
    left = max(0, min(item["box"][0] * scale, size[0] - width))
    for top in (item["box"][1] * scale, item["box"][1] * scale - height, item["box"][3] * scale - height):
        top = max(0, min(top, size[1] - height))
        place = (left, top, left + width, top + height)
        if not any(place[0] < b[2] and b[0] < place[2] and place[1] < b[3] and b[1] < place[3] for b in taken):
            taken.append(place)
            draw.rectangle(place, fill=color_of(item["label"]))
            draw.text((left + 2, top), text, fill="white", font=font)
            return


def color_of(label: str) -> tuple[int, int, int]:
    """Return the dark, strong colour of a label, always the same one; those of neighbouring classes differ clearly."""
    hue = COCO_CLASSES.index(label) * GOLDEN_RATIO % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.95, 0.75 if hue < 0.1 or hue > 0.5 else 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def wrap(text: str, font: Any, width: int) -> list[str]:
    """Return the first lines of a text, ended by dots where it goes on."""
    lines, words = [""], text.split()
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if font.getlength(longer + " ...") > width and lines[-1]:
            if len(lines) == CAPTION_LINES:
                lines[-1] += " ..."
                break
            lines.append("")
            continue
        lines[-1] = longer
        words.pop(0)
    return lines
