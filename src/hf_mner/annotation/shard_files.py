"""The files of a job: shards of Parquet, written at once, and what was left out of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .parts import Reject

REJECTS = "rejects.jsonl"
NOTE = b"hf_mner"  # key of a shard's counts in the metadata of its file
ROW_GROUP = 1_000


@dataclass(frozen=True)
class ShardFiles:
    """Where the shards of a job lie: `data/train-00000-of-00040.parquet`, as `load_dataset` finds them.

    Attributes:
        folder: of the output.
        num_rows: of the input.
        shard_size: rows of a shard.
    """

    folder: Path
    num_rows: int
    shard_size: int

    @property
    def count(self) -> int:
        """How many shards there are."""
        return -(-self.num_rows // self.shard_size)

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the first row of a shard and the row after its last."""
        return number * self.shard_size, min((number + 1) * self.shard_size, self.num_rows)

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / "data" / f"train-{number:05d}-of-{self.count:05d}.parquet"

    def rejects_path(self, number: int) -> Path:
        """Return the file of what a shard left out, which is there while the job runs."""
        return self.folder / "rejects" / f"{number:05d}.jsonl"

    def unfinished(self) -> list[int]:
        """Return the numbers of the shards that are not written."""
        return [number for number in range(self.count) if not self.path(number).is_file()]

    def write(self, number: int, table: pa.Table, rejects: Sequence[Reject], counts: dict[str, int]) -> None:
        """Write a shard; its file appears whole, after the file of what it left out."""
        if rejects:
            lines = [json.dumps(reject._asdict(), ensure_ascii=False) + "\n" for reject in rejects]
            self._replace(self.rejects_path(number), lambda path: path.write_text("".join(lines), encoding="utf-8"))
        noted = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), NOTE: json.dumps(counts, sort_keys=True).encode()}
        )
        self._replace(
            self.path(number),
            lambda path: pq.write_table(noted, path, compression="zstd", row_group_size=ROW_GROUP),
        )

    def _replace(self, path: Path, write: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)

    def counts(self, number: int) -> dict[str, int]:
        """Return the counts that were noted with a written shard."""
        return json.loads(pq.read_metadata(self.path(number)).metadata[NOTE])

    def remove_unfinished(self) -> None:
        """Remove what killed workers left."""
        for path in self.folder.rglob(".*.unfinished"):
            path.unlink(missing_ok=True)

    def join_rejects(self) -> int:
        """Write all that was left out to one file, in the order of the input; return how many rows."""
        lines = list(self._reject_lines())
        if lines:
            self._replace(self.folder / REJECTS, lambda path: path.write_text("".join(lines), encoding="utf-8"))
        return len(lines)

    def _reject_lines(self) -> Iterator[str]:
        for number in range(self.count):
            path = self.rejects_path(number)
            if path.is_file():
                yield from path.read_text(encoding="utf-8").splitlines(keepends=True)

    def remove_reject_parts(self) -> None:
        """Remove the files that `join_rejects` has joined."""
        for path in (self.folder / "rejects").glob("*.jsonl"):
            path.unlink()
        if (self.folder / "rejects").is_dir():
            (self.folder / "rejects").rmdir()
