"""`KnowledgeStore`: the values in their file, found by key."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .files import connect, readable_errors, transaction
from .forks import watch
from .records import SourceRecord
from .rows import encode_values, insert_items, insert_source, marks, slices


class StoredItems(NamedTuple):
    """What a store holds of one source: items, bytes of their values, and when the first and last were written.

    Times are in seconds since 1970.
    """

    source: SourceRecord
    items: int
    bytes: int
    oldest: float
    newest: float


class KnowledgeStore:
    """Values of knowledge sources on disk, found by content.

    It can be pickled and used after a fork; each process opens the file for itself. Threads take turns, and a
    fork waits for the one whose turn it is, at most `forks.WAIT_S`.

    Args:
        path: the file, by custom `*.sqlite`.
        create: make it if it is missing.

    Raises:
        FileNotFoundError: if the file is missing and not to be made.
        ValueError: if it is no knowledge store, one of another format version, or damaged.
        OSError: if it cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool = True):
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        self._process, self._locks = os.getpid(), {os.getpid(): threading.RLock()}
        watch(self)
        with self.own_lock():
            self._open(create)

    def __enter__(self) -> KnowledgeStore:
        """Return the open store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __reduce__(self) -> tuple[type[KnowledgeStore], tuple[Path]]:
        """Be pickled as a path."""
        return KnowledgeStore, (self.path,)

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self.own_lock():
            self._after_fork()
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """Return the values of those keys that the store holds."""
        found: dict[bytes, Any] = {}
        with self.reading() as connection:
            for some in slices(list(dict.fromkeys(keys))):
                rows = connection.execute(f"SELECT key, value FROM items WHERE key IN ({marks(some)})", some)
                found.update((key, json.loads(text)) for key, text in rows)
        return found

    def put_many(self, source: SourceRecord, values: Mapping[bytes, Any]) -> int:
        """Write values in one transaction; a key that is there already keeps its value.

        Args:
            source: what the values are from.
            values: by key, see `example_keys`.

        Returns:
            How many of them are new.

        Raises:
            ValueError: if JSON cannot hold a value.
        """
        texts = encode_values(source, values)
        with self.writing() as connection:
            return insert_items(connection, insert_source(connection, source), texts)

    def sources(self) -> list[StoredItems]:
        """Return what the store holds of each source, in the order in which they came."""
        columns = "id, part, source, model, revision, prompt, settings, reads, needs_entities"
        with self.reading() as connection:
            sources = connection.execute(f"SELECT {columns} FROM sources ORDER BY id").fetchall()
            counts = connection.execute(
                "SELECT source_id, count(*), sum(length(CAST(value AS BLOB))), min(time), max(time) FROM items"
                " GROUP BY source_id"
            ).fetchall()
        by_source = {number: numbers for number, *numbers in counts}
        return [
            StoredItems(SourceRecord.from_row(row), *by_source[number])
            for number, *row in sources
            if number in by_source
        ]

    def merge(self, other: str | os.PathLike[str]) -> int:
        """Take over the items of another store that this one lacks, in one transaction.

        Returns:
            How many items were new.

        Raises:
            ValueError: if it is this store.
            ValueError, FileNotFoundError, OSError: as opening a store does.
        """
        if self.path.exists() and Path(other).exists() and self.path.samefile(other):
            raise ValueError(f"'{other}' is the store that it would be merged into; name another one.")
        with KnowledgeStore(other, create=False) as theirs, theirs.reading() as their, self.writing() as connection:
            columns = "part, source, model, revision, prompt, settings, reads, needs_entities"
            new = 0
            for number, *row in their.execute(f"SELECT id, {columns} FROM sources").fetchall():
                source_id = insert_source(connection, SourceRecord.from_row(row))
                items = their.execute("SELECT key, time, value FROM items WHERE source_id = ?", (number,))
                rows = ((key, source_id, when, value) for key, when, value in items)
                new += connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?)", rows).rowcount
            images = their.execute("SELECT file_digest, pixel_digest FROM images")
            connection.executemany("INSERT OR IGNORE INTO images VALUES (?, ?)", images)
            return new

    def get_pixel_digests(self, file_digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the digests of the pixels of those image files that were decoded before."""
        found: dict[bytes, bytes] = {}
        with self.reading() as connection:
            for some in slices(list(dict.fromkeys(file_digests))):
                query = f"SELECT file_digest, pixel_digest FROM images WHERE file_digest IN ({marks(some)})"
                found.update(connection.execute(query, some))
        return found

    def put_pixel_digests(self, digests: Mapping[bytes, bytes]) -> None:
        """Keep the digest of the pixels of each image file, by the digest of the file."""
        with self.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO images VALUES (?, ?)", digests.items())

    def check(self) -> None:
        """Let SQLite read the whole file and check its structure.

        Raises:
            ValueError: if it is damaged.
        """
        with self.reading() as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)

    def own_lock(self) -> threading.RLock:
        """Return this process's lock; after a fork the parent's may be held by a thread that the child has not."""
        return self._locks.setdefault(os.getpid(), threading.RLock())  # atomic: all threads get the same one

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for statements that only read."""
        with self.own_lock(), readable_errors(self.path):
            yield self._open()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for one transaction."""
        with self.reading() as connection, transaction(connection):
            yield connection

    def _after_fork(self) -> None:
        """Put the parent's connection aside, which SQLite must neither use nor close here; call it under the lock."""
        if self._process != os.getpid():
            self._inherited += [self._connection] if self._connection else []
            self._connection, self._process, self._locks = None, os.getpid(), {os.getpid(): self.own_lock()}

    def _open(self, create: bool = True) -> sqlite3.Connection:
        self._after_fork()
        if self._connection is None:
            self._connection = connect(self.path, create)
        return self._connection
