"""Annotate shards in this process, or in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

from .workers import Job, ShardWorker, open_worker

PARENT_POLL_S = 1.0
_state: dict[str, ShardWorker] = {}  # of a worker process


def run_here(job: Job, pending: Sequence[int]) -> Iterator[int]:
    """Annotate shards one after the other; yield the rows that each holds."""
    with open_worker(job) as worker:
        for number in pending:
            yield worker.work(number)


def run_in_processes(job: Job, pending: Sequence[int], workers: int) -> Iterator[int]:
    """Annotate shards in processes with a model each; yield the rows that each shard holds, as they are done.

    Raises:
        ValueError: if a row cannot be used.
        ChildProcessError: if a process died; what is written stays.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(pending)), context, _begin, (job, os.getpid()))
    try:
        for future in as_completed([pool.submit(_work, number) for number in pending]):
            yield future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "A worker process died (killed, or out of memory); run the same command again to go on, with fewer"
            " `workers` if memory was short."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(job: Job, parent: int) -> None:
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    stack = ExitStack()  # open for as long as the process lives
    _state["worker"] = stack.enter_context(open_worker(job))
    _state["stack"] = stack  # type: ignore[assignment]


def _work(number: int) -> int:
    return _state["worker"].work(number)


def _follow(parent: int) -> None:
    """End this process when the one that started it has ended, however it ended."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os._exit(1)
