"""The entities of one post as they are shown: checked, in text order, numbered, and with their colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import index
from typing import Any, NamedTuple

from hf_mner.data.boxes import Box, check_box

from .type_colors import color_of, ink_on

EDGES = ("xmin", "ymin", "xmax", "ymax")


class NumberedEntity(NamedTuple):
    """One entity with what ties its words to its boxes: number, type and colour.

    Args:
        number: from 1, in text order.
        start: its first character.
        end: the character behind its last one.
        words: its characters.
        type: its type.
        score: None where the model gave none.
        boxes: in pixels.
        knowledge: what its model was shown, `{}` where nothing is known of that.
        color: of its type.
        ink: for writing on that colour.
    """

    number: int
    start: int
    end: int
    words: str
    type: str
    score: float | None
    boxes: list[Box]
    knowledge: Mapping[str, Any]
    color: str
    ink: str

    @property
    def label(self) -> str:
        """What is written beside its words: number, type, and score if there is one."""
        return f"{self.number} {self.type}" + (f" {self.score:.2f}" if self.score is not None else "")


def number_entities(
    entities: Iterable[Mapping[str, Any]],
    text: str,
    image_size: Sequence[int] | None = None,
    colors: Mapping[str, str] | None = None,
    types: Sequence[str] | None = None,
) -> list[NumberedEntity]:
    """Check the entities of a post, and number those that are shown.

    Args:
        entities: in the pipeline's schema (`hf_mner.data.schema.Entity`); `score`, `word`, `boxes` and `knowledge` may
            be missing.
        text: the post's text.
        image_size: `(width, height)` of its image; boxes must lie inside.
        colors: see `color_of`.
        types: the types that are shown; None = all.

    Raises:
        ValueError: if an entity is not in the schema, or leaves its text or image.
    """
    checked = [_check_entity(entity, place, text, image_size) for place, entity in enumerate(entities)]
    shown = [entity for entity in checked if types is None or entity["type"] in types]
    shown.sort(key=lambda entity: (entity["start"], -entity["end"]))
    numbered = []
    for number, entity in enumerate(shown, start=1):
        color = color_of(entity["type"], colors)
        numbered.append(NumberedEntity(number=number, color=color, ink=ink_on(color), **entity))
    return numbered


def _check_entity(entity: Any, place: int, text: str, image_size: Sequence[int] | None) -> dict[str, Any]:
    name = f"Entity number {place} (counted from 0)"
    if not isinstance(entity, Mapping) or not isinstance(entity.get("entity_group"), str):
        raise ValueError(
            f"{name} is {entity!r}; expected a mapping with `entity_group`, `start` and `end`, as"
            " `pipeline('multimodal-ner')` returns it."
        )
    start, end = (_check_offset(entity.get(key), key, name) for key in ("start", "end"))
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"{name} is at characters {start} to {end} of a text of {len(text)}; expected 0 <= `start` < `end` <="
            f" {len(text)}. Pass the text that its offsets count in (of words, `' '.join(tokens)`)."
        )
    words = text[start:end]
    return {
        "start": start,
        "end": end,
        "words": words,
        "type": entity["entity_group"],
        "score": _check_score(entity.get("score"), name),
        "boxes": [_check_box(item, image_size, f"{name}, {words!r}") for item in entity.get("boxes") or ()],
        "knowledge": entity.get("knowledge") or {},
    }


def _check_offset(value: Any, key: str, name: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):  # NumPy's integers have one as well
        raise ValueError(f"{name} has `{key}` {value!r}; expected the place of a character, a whole number.")
    return index(value)


def _check_score(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} has the score {value!r}; expected a number, or None.")
    return float(value)


def _check_box(item: Any, image_size: Sequence[int] | None, name: str) -> Box:
    box = item.get("box") if isinstance(item, Mapping) else None
    if not isinstance(box, Mapping) or not set(EDGES) <= set(box):
        raise ValueError(
            f"{name} has the box {item!r}; expected {{'box': {{'xmin', 'ymin', 'xmax', 'ymax'}}, 'score'}} in pixels."
        )
    return check_box([box[edge] for edge in EDGES], image_size, name)
