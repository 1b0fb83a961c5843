"""Fill a store for a whole data set, source by source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource, add_knowledge

from .knowledge_store import KnowledgeStore
from .pictures import pixel_digests
from .records import describe_source
from .stored import Progress, Stored

Report = Callable[[str, Progress], object]


def fill_store(
    store: KnowledgeStore,
    sources: Sequence[KnowledgeSource],
    examples: Sequence[MnerExample],
    batch_size: int = 8,
    report: Report | None = None,
) -> list[MnerExample]:
    """Let the store have what every source says of every example that lacks it.

    The first source goes through all examples before the second begins, so that one can read what another wrote.

    Args:
        store: what is filled; what it has is not asked for again.
        sources: applied in order. All are checked before the first begins.
        examples: not changed.
        batch_size: items that a source gets at once, and the most that a kill can lose.
        report: called with the name of the source at its begin and after each batch.

    Returns:
        Copies of the examples with the knowledge, as `add_knowledge` does.

    Raises:
        ValueError: as `Stored` and `add_knowledge` do.
    """
    stored = [
        Stored(source, store, batch_size, on_progress=report and partial(report, describe_source(source).name))
        for source in sources
    ]
    return add_knowledge(examples, stored)


def find_unreadable(store: KnowledgeStore, examples: Sequence[MnerExample]) -> dict[int, str]:
    """Return the places of the examples whose image cannot be read or decoded, each with the reason.

    What is decoded is remembered by the store, so the sources' keys cost no second decoding.
    """
    unreadable = {}
    for place, example in enumerate(examples):
        try:
            pixel_digests(store, [example])
        except (ValueError, TypeError, OSError) as error:
            unreadable[place] = str(error)
    return unreadable
