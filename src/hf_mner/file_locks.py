"""Locks on files, which end with their process, however it ends."""

from __future__ import annotations

import logging
from typing import IO

logger = logging.getLogger(__name__)


def lock_file(file: IO[str], waits: bool = False) -> None:
    """Lock an open file; where the system has no such locks (Windows), say so and go on without.

    Args:
        file: open for writing. It should stay after the lock has gone: a file that is removed can be locked twice, by
            who opened it before and who makes it anew.
        waits: for another process that has locked it.

    Raises:
        BlockingIOError: if another process has locked it and `waits` is False.
    """
    try:
        import fcntl
    except ImportError:
        logger.warning("This system has no locks for files; take care that no other process writes the same output.")
        return
    fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
