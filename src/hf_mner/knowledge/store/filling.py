"""Who computes what: several processes fill one store, and what a killed one left is taken over."""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .knowledge_store import KnowledgeStore
from .processes import LEASE_S, ProcessMark, is_stopped, mark_process
from .records import SourceRecord
from .rows import encode_values, insert_items, insert_source

logger = logging.getLogger(__name__)


class StoppedRun(NamedTuple):
    """A run that ended without saying so: its process, when it began (seconds since 1970), and what it had claimed."""

    process: ProcessMark
    begun: float
    source: str
    in_flight: int
    kept: int

    def __str__(self) -> str:
        """Say what is lost and what is kept."""
        begun = datetime.fromtimestamp(self.begun, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        lost = f"had a batch of {self.in_flight} items in flight; they are computed again when they are asked for"
        return (
            f"{self.source}: a run that was stopped (process {self.process.pid} on {self.process.host}, begun {begun})"
            f" {lost if self.in_flight else 'had no batch in flight'}. {self.kept} items of earlier runs are kept."
        )


class Filling:
    """One process's work on one source, from the first batch to the last; a context manager.

    Before a batch is computed its keys are claimed, so that no other process computes them. When it is finished,
    values and claims change in one transaction. A process that is killed leaves its claims behind: the next one to
    fill the store sees that the process is gone (see `processes.is_stopped`), says so in the log, and frees them.

    Args:
        store: what is filled.
        source: what fills it.
        lease_s: seconds without a sign of life after which a process that cannot be seen from here counts as stopped.
            It must be longer than a batch takes.

    Attributes:
        finished: items that this process wrote.
    """

    def __init__(self, store: KnowledgeStore, source: SourceRecord, lease_s: float = LEASE_S):
        self.store, self.source, self.lease_s = store, source, lease_s
        self.run, self.begun, self.process = uuid.uuid4().hex, time.time(), mark_process()
        self.finished = 0

    def __enter__(self) -> Filling:
        """Free what stopped runs claimed, and begin."""
        self.free_stopped()
        with self.store.writing() as connection:
            self._show_life(connection)
        return self

    def __exit__(self, *_: object) -> None:
        """End; what was claimed and not finished, say because the source failed, is free again."""
        with self.store.writing() as connection:
            _delete_run(connection, self.run)

    def claim(self, keys: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Claim those keys that are neither finished nor claimed.

        Args:
            keys: one batch.

        Returns:
            mine: what to compute now.
            others: what another process is computing. All other keys are in the store.
        """
        with self.store.reading() as connection:  # readers do not wait for each other
            found = _find_open(connection, keys)
        if all(found.values()):
            return [], list(found)
        with self.store.writing() as connection:
            self._show_life(connection)
            found = _find_open(connection, keys)
            mine = [key for key, is_claimed in found.items() if not is_claimed]
            connection.executemany("INSERT INTO claims VALUES (?, ?)", [(key, self.run) for key in mine])
        return mine, [key for key, is_claimed in found.items() if is_claimed]

    def finish(self, values: Mapping[bytes, Any]) -> None:
        """Write the values of claimed keys and give the claims back, as one.

        Raises:
            ValueError: if a store cannot hold a value.
        """
        texts = encode_values(self.source, values)
        with self.store.writing() as connection:
            new = insert_items(connection, insert_source(connection, self.source), texts)
            connection.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in texts])
        self.finished += new

    def free_stopped(self) -> list[StoppedRun]:
        """Free what processes claimed that are gone, whatever their source, and log a line for each."""
        with self.store.reading() as connection:
            if not _find_stopped(connection, self.lease_s):
                return []
        with self.store.writing() as connection:  # looked up again, as another process may be doing the same
            stopped = _find_stopped(connection, self.lease_s)
            for run in stopped:
                _delete_run(connection, run)
        for stopped_run in stopped.values():
            logger.warning("%s", stopped_run)
        return list(stopped.values())

    def describe_others(self) -> str:
        """Say which other processes are at work on the store, for a message to who waits for them."""
        query = "SELECT DISTINCT pid, host, max(seen) FROM runs WHERE id != ? GROUP BY pid, host"
        with self.store.reading() as connection:
            rows = connection.execute(query, (self.run,)).fetchall()
        names = [f"process {pid} on {host}, last seen {time.time() - seen:.0f} s ago" for pid, host, seen in rows]
        return "; ".join(names) or "none any more"

    def _show_life(self, connection: sqlite3.Connection) -> None:
        row = (self.run, insert_source(connection, self.source), *self.process, self.begun, time.time())
        connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _find_stopped(connection: sqlite3.Connection, lease_s: float) -> dict[str, StoppedRun]:
    query = (
        "SELECT runs.id, host, boundary, pid, birth, begun, seen, source || ' (column ''' || part || ''')',"
        " (SELECT count(*) FROM claims WHERE run = runs.id),"
        " (SELECT count(*) FROM items WHERE source_id = sources.id)"
        " FROM runs JOIN sources ON sources.id = source_id"
    )
    return {
        run: StoppedRun(ProcessMark(*mark), begun, source, in_flight, kept)
        for run, *mark, begun, seen, source, in_flight, kept in connection.execute(query).fetchall()
        if is_stopped(ProcessMark(*mark), seen, lease_s)
    }


def _find_open(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bool]:
    """Return the keys without a value, each with whether it is claimed."""
    found = {}
    for key in keys:
        if not connection.execute("SELECT 1 FROM items WHERE key = ?", (key,)).fetchone():
            found[key] = connection.execute("SELECT 1 FROM claims WHERE key = ?", (key,)).fetchone() is not None
    return found


def _delete_run(connection: sqlite3.Connection, run: str) -> None:
    connection.execute("DELETE FROM claims WHERE run = ?", (run,))
    connection.execute("DELETE FROM runs WHERE id = ?", (run,))
