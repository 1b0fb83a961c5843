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
    boxes = "".join(_drawn_box(box, entity, image.size) for entity in entities for box in entity.boxes)
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


def _drawn_box(box: Box, entity: NumberedEntity, image_size: tuple[int, int]) -> str:
    xmin, ymin, xmax, ymax = box
    unit = LABEL_SHARE * max(image_size)
    area = f'x="{xmin:g}" y="{ymin:g}" width="{xmax - xmin:g}" height="{ymax - ymin:g}" fill="none"'
    name = escape(f"{entity.label} {entity.words}")
    return (
        f'<g data-entity="{entity.number}"><title>{name}</title>'
        f'<rect {area} stroke="#000" stroke-width="{unit / 4:.3g}"/>'
        f'<rect class="hf-mner-box" {area} stroke="{entity.color}" stroke-width="{unit / 7:.3g}"/>'
        f"{_drawn_label(box, entity, image_size, unit)}</g>"
    )


def _drawn_label(box: Box, entity: NumberedEntity, image_size: tuple[int, int], unit: float) -> str:
    """Draw number and type above the box, or inside of it where there is no room above."""
    text = f"{entity.number} {entity.type}"
    width, height = unit * (0.64 * len(text) + 0.5), 1.3 * unit
    x = max(0.0, min(box[0], image_size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    return (
        f'<rect x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" height="{height:.4g}" fill="{entity.color}"/>'
        f'<text x="{x + unit / 4:.4g}" y="{y + unit:.4g}" font-size="{unit:.3g}" fill="{entity.ink}">'
        f"{escape(text)}</text>"
    )
