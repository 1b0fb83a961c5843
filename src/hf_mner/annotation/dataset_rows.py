"""A data set of the `datasets` library as a collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .digests import dataset_digest
from .parts import Part

if TYPE_CHECKING:
    from datasets import Dataset


class DatasetRows:
    """The rows of a `datasets.Dataset`; paths of images are as they stand in it.

    Args:
        dataset: held on disk (`load_dataset`, `load_from_disk`), its rows are read when asked for.
        name: what it is called in a fingerprint.
    """

    problem: str | None = None
    folder: Path | None = None

    def __init__(self, dataset: Dataset, name: str):
        self.dataset, self.name = dataset.with_format("arrow"), name
        self.num_rows = len(dataset)
        self.schema: pa.Schema = dataset.features.arrow_schema

    def read(self, start: int, stop: int) -> Part:
        """Return the rows from `start` to before `stop`."""
        return Part(list(range(start, stop)), self.dataset[start:stop].cast(self.schema), [])

    def describe(self) -> dict[str, Any]:
        """Return the name, the number of rows, and a digest of them."""
        return {"dataset": self.name, "rows": self.num_rows, "xxh3": dataset_digest(self.dataset)}
