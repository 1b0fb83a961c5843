"""Files of JSON lines, plain or compressed, as one collection."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from .digests import file_digest
from .parts import Part, Reject

STRIDE = 1_000  # rows between two places that can be gone to


class JsonLinesFiles:
    """The rows of files of JSON lines; blank lines are no rows.

    All is read once to find the columns and their types, and the places of rows. A row that is no JSON object is read
    as a reject. Going to a row of a `.gz` decompresses what is before it.

    Raises:
        ValueError: naming the column whose values are of types that one column cannot hold.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self.folder: Path | None = self.paths[0].resolve().parent
        self.problem: str | None = None
        self.num_rows = 0
        self._places: list[tuple[int, int, int]] = []  # of each STRIDE-th row: file, byte, lines before
        self.schema = self._scan()
        self._reset()

    def _reset(self) -> None:
        self._position: int | None = None
        self._lines: Iterator[tuple[str, bytes]] = iter(())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files out."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_lines", "_position")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin without open files."""
        self.__dict__.update(state)
        self._reset()

    def _scan(self) -> pa.Schema:
        schema = pa.schema([])
        records: list[dict[str, Any]] = []
        for number, path in enumerate(self.paths):
            with _open(path) as file:
                place = 0
                for lines, line in enumerate(file):
                    if line.strip():
                        if self.num_rows % STRIDE == 0:
                            self._places.append((number, place, lines))
                            schema, records = _unify(schema, records, path), []
                        record = _parse(line, f"{path}, line {lines + 1}")
                        if isinstance(record, str):
                            self.problem = self.problem or record
                        else:
                            records.append(record)
                        self.num_rows += 1
                    place += len(line)
        return _unify(schema, records, self.paths[-1])

    def read(self, start: int, stop: int) -> Part:
        """Return the rows from `start` to before `stop`."""
        if start != self._position:
            self._seek(start)
        rows, records, rejects = [], [], []
        for row in range(start, stop):
            where, line = next(self._lines)
            record = _parse(line, where)
            if isinstance(record, str):
                rejects.append(Reject(row, None, record))
            else:
                rows.append(row)
                records.append(record)
        self._position = stop
        return Part(rows, pa.Table.from_pylist(records, schema=self.schema), rejects)

    def _seek(self, start: int) -> None:
        place = min(start // STRIDE, len(self._places) - 1)
        self._lines, self._position = self._iterate(*self._places[place]), start
        for _ in range(start - place * STRIDE):
            next(self._lines)

    def _iterate(self, number: int, byte: int, lines: int) -> Iterator[tuple[str, bytes]]:
        for path in self.paths[number:]:
            with _open(path) as file:
                file.seek(byte)
                for place, line in enumerate(file, start=lines + 1):
                    if line.strip():
                        yield f"{path}, line {place}", line
            byte = lines = 0

    def describe(self) -> dict[str, Any]:
        """Return name, size and digest of each file."""
        return {"files": [file_digest(path) for path in self.paths]}


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _parse(line: bytes, where: str) -> dict[str, Any] | str:
    """Return the record of a line, or in words why there is none."""
    try:
        record = json.loads(line)
    except ValueError as error:
        return f"{where} is not JSON ({error}); expected one object on each line."
    if not isinstance(record, dict):
        return f"{where} holds {type(record).__name__}; expected an object with `text` or `tokens`."
    return record


def _unify(schema: pa.Schema, records: list[dict[str, Any]], path: Path) -> pa.Schema:
    """Return the schema widened so that it holds the records."""
    names = dict.fromkeys(name for record in records for name in record)
    fields = []
    for name in names:
        values = [record.get(name) for record in records]
        try:
            fields.append(pa.field(name, pa.array(values).type))
            pa.unify_schemas([schema, pa.schema(fields[-1:])], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"{path}: the values of {name!r} are of types that one column cannot hold ({error}); make them alike,"
                " or remove the key."
            ) from error
    return pa.unify_schemas([schema, pa.schema(fields)], promote_options="permissive")
