"""Let a fork wait until no other thread is inside SQLite.

SQLite's global mutexes are copied as they are. Where another thread holds one at that moment, the child would wait for
it for ever at its first connection, whatever is done about the store's own lock.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Protocol

WAIT_S = 1.0  # for all stores together; a thread may itself wait for the one that forks


class Store(Protocol):
    """What has a lock that a thread holds while it uses SQLite."""

    def own_lock(self) -> Any:
        """Return the lock of this process."""
        ...


_guard = threading.Lock()  # of both below; held during a fork, so that forks take turns
_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_held: list[Any] = []


def watch(store: Store) -> None:
    """Let later forks wait for the threads that use a store."""
    with _guard:
        _stores.add(store)


def _before() -> None:
    _guard.acquire()
    deadline = time.monotonic() + WAIT_S
    for store in list(_stores):
        lock = store.own_lock()
        if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.append(lock)


def _after() -> None:
    while _held:
        _held.pop().release()
    _guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
