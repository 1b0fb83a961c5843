"""Parquet files as one collection, read row group by row group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .digests import file_digest
from .parts import Part

BATCH_ROWS = 500  # read at once; with images of 60 KB, 30 MB


class ParquetFiles:
    """The rows of Parquet files, in the order in which the files are given.

    Raises:
        ValueError: naming the file that is no Parquet, or whose columns are not those of the first.
    """

    problem: str | None = None

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self.folder: Path | None = self.paths[0].resolve().parent
        opened = [_open(path) for path in self.paths]
        self.schema: pa.Schema = opened[0].schema_arrow
        for path, file in zip(self.paths, opened, strict=True):
            if not file.schema_arrow.equals(self.schema):
                raise ValueError(
                    f"'{path}' has the columns {_columns(file.schema_arrow)}, and '{self.paths[0]}'"
                    f" {_columns(self.schema)}; give files of one kind."
                )
        groups = [[file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] for file in opened]
        self._groups = [(number, group) for number, sizes in enumerate(groups) for group in range(len(sizes))]
        self._ends = list(accumulate(size for sizes in groups for size in sizes))
        self.num_rows = self._ends[-1] if self._ends else 0
        self._reset()

    def _reset(self) -> None:
        self._position: int | None = None
        self._tables: Iterator[pa.Table] = iter(())
        self._rest = self.schema.empty_table()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files out."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_tables", "_rest", "_position")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin without open files."""
        self.__dict__.update(state)
        self._reset()

    def read(self, start: int, stop: int) -> Part:
        """Return the rows from `start` to before `stop`."""
        if start != self._position:
            self._seek(start)
        pieces, count = [self._rest], self._rest.num_rows
        while count < stop - start:
            table = next(self._tables)
            pieces.append(table)
            count += table.num_rows
        joined = pa.concat_tables(pieces)
        self._rest, self._position = joined.slice(stop - start), stop
        return Part(list(range(start, stop)), joined.slice(0, stop - start), [])

    def _seek(self, start: int) -> None:
        """Begin with the row group that holds a row, and leave out what is before the row."""
        place = bisect_right(self._ends, start)
        skipped = start - (self._ends[place - 1] if place else 0)
        self._tables, self._rest, self._position = self._iterate(place), self.schema.empty_table(), start
        while skipped:
            table = next(self._tables)
            self._rest = table.slice(min(skipped, table.num_rows))
            skipped -= min(skipped, table.num_rows)

    def _iterate(self, place: int) -> Iterator[pa.Table]:
        for number in range(self._groups[place][0] if place < len(self._groups) else 0, len(self.paths)):
            file = _open(self.paths[number])
            groups = [group for owner, group in self._groups[place:] if owner == number]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=groups):
                yield pa.Table.from_batches([batch]).cast(self.schema)

    def describe(self) -> dict[str, Any]:
        """Return name, size and digest of each file."""
        return {"files": [file_digest(path) for path in self.paths]}


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"'{path}' is no Parquet file ({error}); fetch it again, or leave it out.") from error


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)
