"""What a collection gives: some of its rows as an Arrow table, and those that could not be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa


class Reject(NamedTuple):
    """A row that has no entities: its number in the input (from 0), its id where it has one, and the reason."""

    row: int
    id: str | None
    reason: str


class Part(NamedTuple):
    """Rows in input order: the number of each in the input, the table of them, and the rows that are not in it."""

    rows: list[int]
    table: pa.Table
    rejects: list[Reject]


class Collection(Protocol):
    """Rows that are read a part at a time; what is read before a part costs no memory.

    Attributes:
        num_rows: of the whole.
        schema: of the tables that `read` gives.
        folder: relative paths of images count from it; None where there are none to count.
        problem: the first row that cannot be read, None without any.
    """

    num_rows: int
    schema: pa.Schema
    folder: Path | None
    problem: str | None

    def read(self, start: int, stop: int) -> Part:
        """Return the rows from `start` to before `stop`; quickest when `start` is where the last part ended."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what changes with the content, for a fingerprint."""
        ...
