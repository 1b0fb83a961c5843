"""Fill a store for a whole data set, source by source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource, add_knowledge, source_name

from .knowledge_store import KnowledgeStore
from .pictures import pixel_digests
from .stored import Progress, Stored

Report = Callable[[str, Progress], object]


def fill_store(
    sources: Sequence[KnowledgeSource],
    examples: Sequence[MnerExample],
    batch_size: int = 8,
    report: Report | None = None,
) -> list[MnerExample]:
    """Let stores have what every source says of every example that lacks it.

    The first source goes through all examples before the second begins, so that one can read what another wrote.

    Args:
        sources: applied in order. A `Stored` one keeps what it finds; any other, such as a look-up in local files, is
            only asked for what later ones read.
        examples: not changed.
        batch_size: items that a stored source gets at once, and the most that a kill can lose.
        report: called with the name of a stored source at its begin and after each batch.

    Returns:
        Copies of the examples with the knowledge, as `add_knowledge` does.

    Raises:
        ValueError: if no source is `Stored`, or as `Stored` and `add_knowledge` do.
    """
    if not any(isinstance(source, Stored) for source in sources):
        names = ", ".join(source_name(source) for source in sources) or "there is none"
        raise ValueError(f"No source would keep what it finds ({names}); wrap one in `Stored(source, store)`.")
    return add_knowledge(examples, [_report_from(source, batch_size, report) for source in sources])


def _report_from(source: KnowledgeSource, batch_size: int, report: Report | None) -> KnowledgeSource:
    if not isinstance(source, Stored):
        return source
    name = source.record.name
    return Stored(source.source, source.store, batch_size, source.compute, report and partial(report, name))


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
