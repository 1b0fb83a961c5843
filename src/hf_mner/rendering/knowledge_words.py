"""Knowledge in words: what a model was shown, and where that is from, for tables, reports and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe_knowledge(value: Any) -> str:
    """Return a part of knowledge as a text: objects as labels with score, all else as it is."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value)
    return "; ".join(describe_object(item) if isinstance(item, Mapping) else str(item) for item in value)


def describe_object(item: Mapping[str, Any]) -> str:
    """Say what an object is, or what an article says."""
    if "label" not in item:
        return ": ".join(str(item[key]) for key in ("mention", "title", "text") if item.get(key))
    score = f" {item['score']:.2f}" if item.get("score") is not None else ""
    return f"{item['label']}{score}" + (f" ({item['caption']})" if item.get("caption") else "")


def describe_origin(note: Mapping[str, Any]) -> str:
    """Say in a few words where a part of the knowledge is from."""
    made = " ".join(filter(None, (note["source"], note["model"])))
    return f"{made}, {note['title']}, {note['rule']}" if note.get("title") else made


def describe_shown(knowledge: Mapping[str, Any]) -> dict[str, str]:
    """Return each part of what an entity's model was shown as a text, with where it is from in brackets.

    Args:
        knowledge: of one entity, as the pipeline returns it with `return_knowledge=True`.
    """
    notes = knowledge.get("sources") or ()
    texts = {}
    for part, value in knowledge.items():
        if part != "sources":
            made = "; ".join(describe_origin(note) for note in notes if note["part"] == part)
            texts[part] = describe_knowledge(value) + (f" [{made}]" if made else "")
    return texts
