"""An image with labelled boxes as one SVG that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_mner.data.boxes import Box

from .elements import escape
from .numbered_entities import NumberedEntity

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE = 1024  # pixels of the copy that is shown; boxes are drawn on top, at any size
LABEL_SHARE = 0.035  # height of a label in units of the image's longer side


def boxed_image(image: Image.Image, entities: Sequence[NumberedEntity]) -> str:
    """Return the image with every entity's boxes in its colour, each with its number and type.

    A box has a black line below its coloured one, so that it is seen on every image. Readers of screens get the boxes
    as one sentence.

    Args:
        image: upright and RGB.
        entities: boxes in pixels of `image`.
    """
    width, height = image.size
    labels: list[Box] = []  # where some are already
    boxes = "".join(_drawn_box(box, entity, image.size, labels) for entity in entities for box in entity.boxes)
    return (
        f'<svg class="hf-mner-image" viewBox="0 0 {width} {height}" width="{min(max(width, 320), 720)}" role="img"'
        f' aria-label="{escape(describe_boxes(entities))}">'
        f'<image href="{data_uri(image)}" width="{width}" height="{height}"/>{boxes}</svg>'
    )


def describe_boxes(entities: Sequence[NumberedEntity]) -> str:
    """Say which entities have which boxes."""
    places = [
        f"{entity.number} {entity.type} {entity.words}, pixels {' '.join(f'{edge:.0f}' for edge in box)}"
        for entity in entities
        for box in entity.boxes
    ]
    if not places:
        return "Image of the post; no entity has a box in it"
    return f"Image of the post with {len(places)} {'box' if len(places) == 1 else 'boxes'}: {'; '.join(places)}"


def data_uri(image: Image.Image) -> str:
    """Return a copy of an image, at most `MAX_SIDE` pixels wide and high, as an address that holds its bytes."""
    copy = image.copy()
    copy.thumbnail((MAX_SIDE, MAX_SIDE))
    content = io.BytesIO()
    copy.save(content, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def _drawn_box(box: Box, entity: NumberedEntity, image_size: tuple[int, int], labels: list[Box]) -> str:
    xmin, ymin, xmax, ymax = box
    unit = LABEL_SHARE * max(image_size)
    area = f'x="{xmin:g}" y="{ymin:g}" width="{xmax - xmin:g}" height="{ymax - ymin:g}" fill="none"'
    name = escape(f"{entity.label} {entity.words}")
    return (
        f'<g data-entity="{entity.number}"><title>{name}</title>'
        f'<rect {area} stroke="#000" stroke-width="{unit / 4:.3g}"/>'
        f'<rect class="hf-mner-box" {area} stroke="{entity.color}" stroke-width="{unit / 7:.3g}"/>'
        f"{_drawn_label(box, entity, image_size, labels)}</g>"
    )


def _drawn_label(box: Box, entity: NumberedEntity, image_size: tuple[int, int], labels: list[Box]) -> str:
    text = f"{entity.number} {entity.type}"
    unit = LABEL_SHARE * max(image_size)
    place = label_place(box, unit * (0.64 * len(text) + 0.5), 1.3 * unit, image_size, labels)
    labels.append(place)
    x, y = place[:2]
    return (
        f'<rect x="{x:.4g}" y="{y:.4g}" width="{place[2] - x:.4g}" height="{place[3] - y:.4g}"'
        f' fill="{entity.color}"/>'
        f'<text x="{x + unit / 4:.4g}" y="{y + unit:.4g}" font-size="{unit:.3g}" fill="{entity.ink}">'
        f"{escape(text)}</text>"
    )


def label_place(box: Box, width: float, height: float, image_size: tuple[int, int], labels: Sequence[Box]) -> Box:
    """Return where a label goes: above its box, inside where there is no room, below labels that are there already.

    Args:
        box: the box that it names.
        width: of the label.
        height: of the label.
        image_size: `(width, height)`; a label that fits into the image stays inside of it.
        labels: the places of the others.
    """
    x = max(0.0, min(box[0], image_size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    for _ in labels:  # each can be in the way once
        below = [taken[3] for taken in labels if _overlaps(taken, [x, y, x + width, y + height])]
        y = max(below, default=y)
    return [x, y, x + width, y + height]


def _overlaps(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
