"""Rows of a knowledge store: sources and items into the tables, values into JSON."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .records import SourceRecord

AT_ONCE = 500  # keys in one statement; SQLite takes at least 999


def insert_source(connection: sqlite3.Connection, source: SourceRecord) -> int:
    """Return the number of a source in this file, a new one for a new source."""
    row = source.to_row()
    connection.execute(f"INSERT OR IGNORE INTO sources VALUES (NULL, {marks(row)})", row)
    query = (
        "SELECT id FROM sources WHERE (part, source, model, revision, prompt, settings, reads, needs_entities)"
        f" = ({marks(row)})"
    )
    return connection.execute(query, row).fetchone()[0]


def insert_items(connection: sqlite3.Connection, source_id: int, texts: Mapping[bytes, str]) -> int:
    """Write values that are JSON already; return how many are new."""
    rows = [(key, source_id, time.time(), text) for key, text in texts.items()]
    return connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?)", rows).rowcount


def encode_values(source: SourceRecord, values: Mapping[bytes, Any]) -> dict[bytes, str]:
    """Return the values as JSON.

    Raises:
        ValueError: if JSON cannot hold one.
    """
    texts = {}
    for key, value in values.items():
        try:
            texts[key] = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{source.name} gave {value!r}, which a store cannot hold ({error}); expected lists, dictionaries with"
                " text keys, texts, finite numbers and None. Let the source return Python's own types."
            ) from error
    return texts


def slices(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the items in runs that fit into one statement."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def marks(values: Sequence[object]) -> str:
    """Return one question mark for each value."""
    return ", ".join("?" * len(values))
