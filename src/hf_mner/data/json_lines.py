"""JSON lines of a user's own folder, with the place of each line for error texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class JsonLine(NamedTuple):
    """One line: file and number in words, the number, the bytes as they stand, and what they say."""

    where: str
    number: int
    text: bytes
    record: Any


def read_json_lines(path: Path, wanted: str) -> Iterator[JsonLine]:
    """Yield the lines of a file that are not blank.

    Args:
        path: the file.
        wanted: what a line should hold, the end of the error text.

    Raises:
        ValueError: naming the line that is not JSON.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield JsonLine(where, number, line, json.loads(line))
            except ValueError as error:
                raise ValueError(f"{where}: {line!r} is not JSON ({error}); {wanted}.") from error
