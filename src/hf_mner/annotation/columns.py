"""Which columns of a collection are read, and which are written again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hf_mner.data.schema import Knowledge


@dataclass(frozen=True)
class Columns:
    """The names of columns.

    Attributes:
        text: the posts' texts; None where `tokens` is.
        tokens: the posts' words.
        image: images as bytes, paths, or `{"bytes", "path"}`; None without any.
        id: what rejects are called by; None without any.
        knowledge: a column of `Knowledge` records; None without any.
        parts: columns with one part of the knowledge each, by the part (`{"caption": "blip2"}`).
        kept: the columns that are written.
        entities: the column that is added.
    """

    text: str | None
    tokens: str | None
    image: str | None
    id: str | None
    knowledge: str | None
    parts: Mapping[str, str] = field(default_factory=dict)
    kept: Sequence[str] = ()
    entities: str = "entities"


def find_columns(
    schema: pa.Schema,
    text: str | None = None,
    tokens: str | None = None,
    image: str | None = None,
    id_column: str | None = None,
    parts: Mapping[str, str] | None = None,
    kept: Sequence[str] | None = None,
    entities: str = "entities",
) -> Columns:
    """Return the columns that a user named, and those of the usual names where nothing was said.

    Raises:
        ValueError: naming the argument, what was given, and the columns that there are.
    """
    names = schema.names
    if text is not None and tokens is not None:
        raise ValueError("`text_column` and `tokens_column` are both given; offsets count in one of them. Choose.")
    for argument, name in [("text_column", text), ("tokens_column", tokens), ("image_column", image)]:
        check_column(argument, name, names)
    check_column("id_column", id_column, names)
    for part, name in (parts or {}).items():
        check_part(part)
        check_column(f"knowledge_columns[{part!r}]", name, names)
    for name in kept or ():
        check_column("columns", name, names)
    if text is None and tokens is None:
        text, tokens = _find_text(names)
    written = list(names if kept is None else dict.fromkeys(kept))
    if entities in written:
        raise ValueError(
            f"The input has a column {entities!r}, and so would the output; leave it out of `columns` (`--column`), or"
            " choose another `entities_column` (`--entities-column`)."
        )
    return Columns(
        text=text,
        tokens=tokens,
        image=image or _usual("image", names),
        id=id_column or _usual("id", names),
        knowledge=_usual("knowledge", names),
        parts=dict(parts or {}),
        kept=written,
        entities=entities,
    )


def _usual(name: str, names: Sequence[str]) -> str | None:
    return name if name in names else None


def _find_text(names: Sequence[str]) -> tuple[str | None, str | None]:
    if "text" in names:
        return "text", None
    if "tokens" in names:
        return None, "tokens"
    raise ValueError(
        f"The input has the columns {', '.join(names)}, and neither `text` nor `tokens`; name the one with the posts"
        " as `text_column` (`--text-column`) or `tokens_column`."
    )


def check_column(argument: str, name: str | None, names: Sequence[str]) -> None:
    """Refuse a column that is not there.

    Raises:
        ValueError: naming the argument and the columns.
    """
    if name is not None and name not in names:
        raise ValueError(f"`{argument}` is {name!r}; the input has the columns {', '.join(names)}. Correct it.")


def check_part(part: str) -> None:
    """Refuse a part of knowledge that nothing reads.

    Raises:
        ValueError: naming it and the parts that there are.
    """
    if part not in Knowledge.__annotations__:
        known = ", ".join(Knowledge.__annotations__)
        raise ValueError(f"`knowledge_columns` has the part {part!r}, which nothing reads; known parts: {known}.")


def read_knowledge(row: Mapping[str, Any], columns: Columns) -> dict[str, Any] | None:
    """Return a row's knowledge without the parts that it lacks, None without any."""
    found = dict(row.get(columns.knowledge) or {}) if columns.knowledge else {}
    found.update({part: row[name] for part, name in columns.parts.items()})
    return {part: value for part, value in found.items() if value is not None} or None
