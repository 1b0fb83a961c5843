"""A text with its entities marked by character; entities inside of others, and across their ends, keep their marks."""

from __future__ import annotations

from collections.abc import Sequence

from .elements import escape
from .numbered_entities import NumberedEntity


def mark_characters(text: str, entities: Sequence[NumberedEntity]) -> str:
    """Return the text, escaped, with a mark around each entity and its label at its end.

    Marks nest. An entity that begins inside of another and ends behind it has two marks, side by side, and one label.
    Without the labels, what the marks hold is the text.

    Args:
        text: the post's text.
        entities: in text order, the longer first where two begin together.
    """
    pieces: list[str] = []
    opened: list[NumberedEntity] = []
    place = 0
    for position in sorted({edge for entity in entities for edge in (entity.start, entity.end)}):
        pieces.append(escape(text[place:position]))
        place = position
        opened = _close(opened, position, pieces)
        for entity in entities:
            if entity.start == position:
                pieces.append(_opening(entity))
                opened.append(entity)
    return "".join([*pieces, escape(text[place:])])


def _close(opened: list[NumberedEntity], position: int, pieces: list[str]) -> list[NumberedEntity]:
    """Close the marks that end here; those that were opened inside of them, and go on, are opened again."""
    depth = next((index for index, entity in enumerate(opened) if entity.end == position), len(opened))
    for entity in reversed(opened[depth:]):
        pieces.append(_label(entity) if entity.end == position else "")
        pieces.append("</mark>")
    rest = [entity for entity in opened[depth:] if entity.end > position]
    pieces.extend(_opening(entity) for entity in rest)
    return opened[:depth] + rest


def _opening(entity: NumberedEntity) -> str:
    return f'<mark data-entity="{entity.number}" style="background:{entity.color};color:{entity.ink}">'


def _label(entity: NumberedEntity) -> str:
    return f'<span class="hf-mner-label"> {escape(entity.label)}</span>'
