"""What a knowledge store could be made of: SQLite, LMDB, or a Parquet file for each batch.

    python -m benchmarks.store_backends --output results/knowledge/store_backends.json

Every arm writes the same items, 32-byte keys with JSON of some 300 bytes, one durable transaction for each batch:
after it, a power cut loses nothing (but "sqlite, normal", which survives only a killed process). Then it is opened
anew and asked for random keys. The arms take turns, the median of the repeats counts. "hf_mner" is the store itself,
its Python around SQLite included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import report, seconds
from hf_mner.knowledge.store import KnowledgeStore, make_record

Item = tuple[bytes, bytes]


class Backend(Protocol):
    """One arm."""

    def put(self, items: Sequence[Item]) -> None:
        """Write a batch as one."""

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the values of keys that are there."""

    def close(self) -> None:
        """Close the files."""


class SqliteBackend:
    """A table with an index of the keys."""

    def __init__(self, folder: Path, journal: str, synchronous: str):
        self.connection = sqlite3.connect(folder / "items.sqlite", isolation_level=None)
        self.connection.execute(f"PRAGMA journal_mode={journal}")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.execute("CREATE TABLE IF NOT EXISTS items (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)")

    def put(self, items: Sequence[Item]) -> None:
        """Write a batch as one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", items)
        self.connection.execute("COMMIT")

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Ask for all keys in one statement."""
        query = f"SELECT value FROM items WHERE key IN ({','.join('?' * len(keys))})"
        return [value for (value,) in self.connection.execute(query, keys)]

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


class LmdbBackend:
    """A B+ tree in a memory map."""

    def __init__(self, folder: Path):
        self.environment = lmdb.open(str(folder), map_size=2**32)

    def put(self, items: Sequence[Item]) -> None:
        """Write a batch as one transaction."""
        with self.environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(items, overwrite=False)

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Read all keys in one transaction."""
        with self.environment.begin() as transaction:
            return [value for _, value in transaction.cursor().getmulti(keys)]

    def close(self) -> None:
        """Close the map."""
        self.environment.close()


class ParquetBackend:
    """One file for each batch, written aside and renamed; opening reads all keys."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.places: dict[bytes, tuple[Path, int]] = {}
        for path in sorted(folder.glob("*.parquet")):
            self._add(path, pq.read_table(path, columns=["key"])["key"].to_pylist())
        self.number = len(self.places)

    def put(self, items: Sequence[Item]) -> None:
        """Write a batch as one file."""
        keys, values = zip(*items, strict=True)
        path = self.folder / f"{self.number:08d}.parquet"
        self.number += 1
        with (self.folder / "new").open("wb") as stream:
            pq.write_table(pa.table({"key": list(keys), "value": list(values)}), stream)
            stream.flush()
            os.fsync(stream.fileno())
        (self.folder / "new").rename(path)
        self._add(path, keys)

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Read each file that holds some of the keys once."""
        rows: dict[Path, list[int]] = {}
        for key in keys:
            path, row = self.places[key]
            rows.setdefault(path, []).append(row)
        values = []
        for path, wanted in rows.items():
            values += pq.read_table(path, columns=["value"])["value"].take(wanted).to_pylist()
        return values

    def close(self) -> None:
        """Nothing is open."""

    def _add(self, path: Path, keys: Sequence[bytes]) -> None:
        self.places.update((key, (path, row)) for row, key in enumerate(keys))


class OwnBackend:
    """`KnowledgeStore`: values are decoded and encoded on the way."""

    def __init__(self, folder: Path):
        identity = {"source": "Benchmark", "model": "", "revision": "", "prompt": "", "settings": "{}"}
        self.store, self.source = KnowledgeStore(folder / "items.sqlite"), make_record("caption", identity, ["tokens"])

    def put(self, items: Sequence[Item]) -> None:
        """Write a batch as one transaction."""
        self.store.put_many(self.source, {key: json.loads(value) for key, value in items})

    def get(self, keys: Sequence[bytes]) -> list[Any]:
        """Ask for all keys at once."""
        return list(self.store.get_many(keys).values())

    def close(self) -> None:
        """Close the file."""
        self.store.close()


ARMS: dict[str, Callable[[Path], Backend]] = {
    "sqlite, write-ahead log": lambda folder: SqliteBackend(folder, "WAL", "FULL"),
    "sqlite, normal": lambda folder: SqliteBackend(folder, "WAL", "NORMAL"),
    "sqlite, rollback journal": lambda folder: SqliteBackend(folder, "DELETE", "FULL"),
    "lmdb": LmdbBackend,
    "parquet": ParquetBackend,
    "hf_mner": OwnBackend,
}


def make_items(count: int, generator: random.Random) -> list[Item]:
    """Return items as the captions of three regions would be."""

    def value() -> dict[str, Any]:
        words = " ".join(f"word{generator.randrange(1000)}" for _ in range(25))
        return {"label": "head", "score": generator.random(), "box": [10.5, 20.25, 200.0, 300.0], "caption": words}

    return [(generator.randbytes(32), json.dumps(value()).encode()) for _ in range(count)]


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in batches."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def measure(make: Callable[[Path], Backend], items: Sequence[Item], reads: int, parent: Path) -> dict[str, float]:
    """Fill one arm: nine tenths in batches of 100, the rest in batches of 8; open it again and read."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    large, small = items[: len(items) * 9 // 10], items[len(items) * 9 // 10 :]
    backend = make(folder)
    in_hundreds = seconds(lambda: [backend.put(batch) for batch in batches(large, 100)])
    in_eights = seconds(lambda: [backend.put(batch) for batch in batches(small, 8)])
    backend.close()
    opening = seconds(lambda: make(folder).close())
    backend = make(folder)
    keys = [key for key, _ in random.Random(1).sample(items, reads)]
    single = seconds(lambda: [backend.get([key]) for key in keys])
    groups = [keys[start : start + 100] for start in range(0, reads, 100)]
    found: list[int] = []
    grouped = seconds(lambda: found.extend(len(backend.get(group)) for group in groups))
    assert sum(found) == reads, f"{found} of {reads} items came back"
    backend.close()
    size = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    shutil.rmtree(folder)
    return {
        "put_100_ms": 1e3 * in_hundreds / (len(large) / 100),
        "put_8_ms": 1e3 * in_eights / (len(small) / 8),
        "open_ms": 1e3 * opening,
        "get_one_us": 1e6 * single / reads,
        "get_in_hundreds_us": 1e6 * grouped / reads,
        "bytes_per_item": size / len(items),
    }


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Print one line for each arm."""
    columns = list(next(iter(results.values())))
    print(f"{'':26s}" + "".join(f"{column:>20s}" for column in columns))
    for name, result in results.items():
        print(f"{name:26s}" + "".join(f"{result[column]:20.3f}" for column in columns))


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure; default: the temporary one")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    items = make_items(options.items, random.Random(0))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory(dir=options.folder) as parent:
        for _ in range(options.repeats):
            for name, make in ARMS.items():
                runs[name].append(measure(make, items, options.reads, Path(parent)))
    results = {
        name: {column: round(statistics.median(run[column] for run in times), 3) for column in times[0]}
        for name, times in runs.items()
    }
    print_table(results)
    result = {
        "items": options.items,
        "bytes_of_a_value": round(statistics.mean(len(value) for _, value in items), 1),
        "reads": options.reads,
        "repeats": options.repeats,
        "sqlite": sqlite3.sqlite_version,
        "lmdb": ".".join(map(str, lmdb.version())),
        "pyarrow": pa.__version__,
        "arms": results,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
