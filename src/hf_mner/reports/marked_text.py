"""A text with its entities marked, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_mner.rendering.elements import escape


def marked_lines(
    tokens: Sequence[str],
    entities: Sequence[Mapping[str, Any]],
    role: str,
    current: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the text with its entities marked, once for each layer of entities that do not overlap.

    Args:
        tokens: the words.
        entities: with `start`, `end` (exclusive) and `type`; predictions with `score`.
        role: `gold` or `predicted`; names the line and the class of its marks.
        current: the one of `entities` (the same object) that the reader looks at; its mark has a frame.

    Returns:
        Paragraphs; one without marks where there are no entities.
    """
    start = f'<p class="text" dir="auto"><span class="role">{escape(role)}</span>'
    return [f"{start} {mark_words(tokens, layer, role, current)}</p>" for layer in layers_of(entities) or [[]]]


def layers_of(entities: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Sort entities into as few layers as keep those that overlap apart."""
    layers: list[list[Mapping[str, Any]]] = []
    for entity in sorted(entities, key=lambda one: (one["start"], one["end"])):
        free = next((layer for layer in layers if layer[-1]["end"] <= entity["start"]), None)
        if free is None:
            layers.append([entity])
        else:
            free.append(entity)
    return layers


def mark_words(
    tokens: Sequence[str],
    entities: Sequence[Mapping[str, Any]],
    role: str,
    current: Mapping[str, Any] | None = None,
) -> str:
    """Return the words, escaped, with marks around entities that are in order and do not overlap."""
    pieces: list[str] = []
    place = 0
    for entity in entities:
        pieces += map(escape, tokens[place : entity["start"]])
        score = f" {entity['score']:.2f}" if "score" in entity else ""
        words = escape(" ".join(tokens[entity["start"] : entity["end"]]))
        kind = f"{role} current" if entity is current else role
        pieces.append(f'<mark class="{kind}">{words} <span class="type">{escape(entity["type"])}{score}</span></mark>')
        place = entity["end"]
    return " ".join([*pieces, *map(escape, tokens[place:])])
