"""A knowledge source whose answers are kept in a store."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource, check_values

from .filling import Filling
from .keys import example_keys
from .knowledge_store import KnowledgeStore
from .records import SourceRecord, describe_source, own_value

logger = logging.getLogger(__name__)

POLL_S = 0.2  # between two looks at what other processes are computing


class Progress(NamedTuple):
    """How far a call is, in distinct items: found in the store at its begin, finished since then, and all.

    `by_others` of the finished ones were computed by other processes.
    """

    found: int
    finished: int
    total: int
    by_others: int = 0


class Stored:
    """A knowledge source that asks another one only for what a store lacks.

    Each distinct item is computed once, in batches; a finished batch is in the store before the next begins. Killed at
    any point, it loses at most the batch in flight, and the next run says so in the log. What another process is
    computing is waited for, and taken over if that process dies. What comes out has gone through JSON, tuples are
    lists. None is an answer like any other.

    Args:
        source: a source with `identity` and `reads`; or, to read what a store holds without the source, a
            `SourceRecord` (`KnowledgeStore.sources()` has them) together with `compute=False`.
        store: where the answers are kept.
        batch_size: distinct items that the source gets at once, and the most that can be lost.
        compute: False gives None where the store has no answer, and the part as it is if the source completes one.
        on_progress: called at the begin and after each batch.

    Raises:
        ValueError: if the source does not say what decides its answers, cannot be called, or `batch_size` is below 1.
    """

    def __init__(
        self,
        source: KnowledgeSource | SourceRecord,
        store: KnowledgeStore,
        batch_size: int = 8,
        compute: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if isinstance(source, SourceRecord) and compute:
            raise ValueError(
                f"{source.name} is a record, which computes nothing; give `compute=False`, or the source."
            )
        self.record = source if isinstance(source, SourceRecord) else describe_source(source)
        self.source, self.store, self.batch_size = source, store, batch_size
        self.compute, self.on_progress = compute, on_progress
        self.column, self.needs_entities = self.record.column, self.record.needs_entities
        self.identity, self.reads = self.record.identity, self.record.reads

    @property
    def lacks(self) -> Callable[[MnerExample], bool] | None:
        """What tells whether an example waits for this source, see `KnowledgeSource`; None for the rule of columns.

        A source that completes a part and computes nothing is waited for where the store has its answer. Asked about
        any other example, it would put None in the place of what is there.
        """
        if self.record.completes and not self.compute:
            return self._is_held
        return getattr(self.source, "lacks", None)

    def __call__(self, examples: Sequence[MnerExample]) -> list[Any]:
        """Return the answer for each example, from the store or computed and stored.

        Raises:
            ValueError: if an image cannot be decoded, or the source returns another number of values than it got
                examples, or one that a store cannot hold; and whatever the source raises. Batches that were finished
                before stay.
        """
        keys = example_keys(self.store, self.record, examples)
        known = self.store.get_many(keys)
        if self.compute:
            lacking: dict[bytes, MnerExample] = {}
            for key, example in zip(keys, examples, strict=True):
                if key not in known:
                    lacking.setdefault(key, example)
            self._report(len(known), 0, len(known) + len(lacking))
            if lacking:
                self._fill(lacking, len(known))
                known |= self.store.get_many(lacking)
        answers = [copy.deepcopy(known.get(key)) for key in keys]
        if self.record.completes and not self.compute:
            pairs = zip(answers, examples, strict=True)
            return [own_value(example, self.column) if answer is None else answer for answer, example in pairs]
        return answers

    def _is_held(self, example: MnerExample) -> bool:
        """Tell whether the store has an answer other than None."""
        (key,) = example_keys(self.store, self.record, [example])
        return self.store.get_many([key]).get(key) is not None

    def _fill(self, lacking: dict[bytes, MnerExample], found: int) -> None:
        """Compute what is lacking; first all that is free, then what other processes left."""
        waiting, is_announced = list(lacking), False
        with Filling(self.store, self.record) as filling:
            while waiting:
                before, waiting = waiting, self._fill_free(waiting, lacking, filling, found)
                if waiting == before:
                    if not is_announced:
                        is_announced = True
                        logger.warning(
                            "%s: waiting for %d items that others compute (%s). What a stopped process leaves is taken"
                            " over, after %.0f s if the process cannot be seen from here.",
                            *(self.record.name, len(waiting), filling.describe_others(), filling.lease_s),
                        )
                    time.sleep(POLL_S)
                    filling.free_stopped()

    def _fill_free(
        self, waiting: list[bytes], lacking: dict[bytes, MnerExample], filling: Filling, found: int
    ) -> list[bytes]:
        """Go once through the waiting keys; return those that other processes are computing."""
        busy: list[bytes] = []
        for start in range(0, len(waiting), self.batch_size):
            batch = waiting[start : start + self.batch_size]
            mine, others = filling.claim(batch)
            if mine:
                filling.finish(dict(zip(mine, self._ask([lacking[key] for key in mine]), strict=True)))
            busy += others
            done = len(lacking) - len(busy) - len(waiting[start + self.batch_size :])
            self._report(found, done, found + len(lacking), done - filling.finished)
        return busy

    def _ask(self, examples: list[MnerExample]) -> list[Any]:
        values = cast(KnowledgeSource, self.source)(examples)
        check_values(values, examples, self.column, self.record.name)  # a wrong one must not be kept
        return values

    def _report(self, found: int, finished: int, total: int, by_others: int = 0) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(found, finished, total, by_others))
