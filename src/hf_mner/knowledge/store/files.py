"""The file of a knowledge store: its tables, its format version, and SQLite's errors in words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT_VERSION = 1
APPLICATION_ID = 0x484D4B53  # "HMKS" in the file's header tells a store from any other SQLite file
BUSY_TIMEOUT_S = 60.0

# `items.key` is not the primary key: rows of some 300 bytes in order of arrival, with an index of 32-byte keys beside
# them, are what SQLite advises for rows of that size.
SCHEMA = """
CREATE TABLE sources (
    id INTEGER PRIMARY KEY, part TEXT, source TEXT, model TEXT, revision TEXT, prompt TEXT, settings TEXT,
    reads TEXT, needs_entities INTEGER,
    UNIQUE (part, source, model, revision, prompt, settings, reads, needs_entities)
);
CREATE TABLE items (key BLOB UNIQUE NOT NULL, source_id INTEGER NOT NULL, time REAL NOT NULL, value TEXT NOT NULL);
CREATE TABLE images (file_digest BLOB PRIMARY KEY, pixel_digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id TEXT PRIMARY KEY, source_id INTEGER, host TEXT, boundary TEXT, pid INTEGER, birth TEXT, begun REAL, seen REAL
);
CREATE TABLE claims (key BLOB PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """Open the file of a store.

    The write-ahead log lets many processes read while one writes, and `synchronous=FULL` makes a committed batch
    survive a power cut, too. Both were measured, see `benchmarks/store_backends.py`.

    Args:
        path: the file; folders above it are made.
        create: make the file if it is missing.

    Raises:
        FileNotFoundError: if it is missing and not to be made.
        ValueError: if it is a folder, no knowledge store, one of another version, or damaged.
        OSError: if SQLite cannot open or write it.
    """
    refuse_folder(path)
    if not create and not path.is_file():
        raise FileNotFoundError(f"Knowledge store '{path}' does not exist; `hf-mner knowledge build` makes one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with readable_errors(path):
        # Autocommit: transactions are begun by name. Threads take turns through the store's lock.
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the version of an open file, make the tables of an empty one, and set how it is written."""
    if read_number(connection, "user_version") != FORMAT_VERSION:  # no transaction where all is well
        with transaction(connection):  # of several processes that open a new file at once, one makes the tables
            _make_tables(connection, path)
    elif read_number(connection, "application_id") != APPLICATION_ID:
        raise _not_a_store(path)
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous=FULL")


def read_number(connection: sqlite3.Connection, pragma: str) -> int:
    """Return a number of the file's header."""
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All that happens inside is written as one, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Let what SQLite raises say which store it was and what to do.

    Raises:
        OSError: if the file is locked for long, cannot be written, or the disk is full.
        ValueError: if it is damaged or no SQLite file.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(
            f"Knowledge store '{path}' cannot be used: {error}; check that the disk has room, that the file may be"
            f" written, and that no other process keeps it locked for more than {BUSY_TIMEOUT_S:.0f} s."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"Knowledge store '{path}' cannot be read ({error}); it is damaged or no knowledge store. Name another"
            " file, or put back a copy; what only the damaged one held is computed anew."
        ) from error


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    version, owner = read_number(connection, "user_version"), read_number(connection, "application_id")
    if owner == APPLICATION_ID:
        if version != FORMAT_VERSION:
            raise ValueError(
                f"Knowledge store '{path}' has format version {version}; this hf_mner reads version {FORMAT_VERSION}."
                " Export it with the hf_mner that wrote it and import that file into a new store, or name a new file."
            )
        return  # another process was faster
    if version or owner or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise _not_a_store(path)
    for statement in SCHEMA.split(";"):  # `executescript` would end the transaction
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")


def _not_a_store(path: Path) -> ValueError:
    return ValueError(f"'{path}' is an SQLite file but no knowledge store; name another file.")


def refuse_folder(path: Path) -> None:
    """Refuse a folder where the file of a store is expected.

    Raises:
        ValueError: saying what the folder is.
    """
    if (path / "data.mdb").is_file():
        raise ValueError(
            f"'{path}' is the index of an encyclopedia, which is a source and no knowledge store; ask it with"
            f" `--source \"encyclopedia: {path}\"`, and name a file for the store, such as 'knowledge.sqlite'."
        )
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; a knowledge store is a file, such as '{path / 'knowledge.sqlite'}'.")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the file over once; SQLite's busy timeout does not cover this statement."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError(f"its disk allows no write-ahead log (journal mode {mode!r})")
        return
