"""Predictions beside the gold as JSON lines, for programs that look at errors themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def prediction_lines(
    found: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    image_names: Sequence[str | None] | None = None,
) -> Iterator[str]:
    """Yield for each text a line `{"id", "image", "tokens", "gold", "entities"}`.

    Args:
        found: examples with what a model found, as `recognize_entities` returns them.
        examples: the gold.
        image_names: file name of each text's image; None where it has none.

    Returns:
        Lines of JSON. `start` and `end` of entities index `tokens`, `end` exclusive. `gold` holds `start`, `end`,
        `type` and `boxes` (pixels); `entities` also `score`, and the boxes with theirs.
    """
    names = image_names or [None] * len(examples)
    for answer, example, name in zip(found, examples, names, strict=True):
        line = {
            "id": example.get("id"),
            "image": name,
            "tokens": example["tokens"],
            "gold": [_fields(entity, "start", "end", "type", "boxes") for entity in example["entities"]],
            "entities": [_fields(entity, "start", "end", "type", "score", "boxes") for entity in answer["entities"]],
        }
        yield json.dumps(line, ensure_ascii=False)


def _fields(entity: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: entity[name] for name in names if name in entity}
