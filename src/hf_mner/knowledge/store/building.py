"""Fill a store for a whole data set, source by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import KnowledgeSource, add_knowledge, source_name

from .knowledge_store import KnowledgeStore
from .pictures import pixel_digests
from .records import missing_parts
from .stored import Progress, Stored


class Answers(NamedTuple):
    """What became of the posts that lacked a source's part: all, those answered (not None), and what the others lack.

    `lacking` counts the posts without an answer by each part that the source reads and they have not, such as
    `{"image": 3}`. Alike posts are one item, so there may be fewer items than posts.
    """

    posts: int
    answered: int
    lacking: Mapping[str, int]


Report = Callable[[str, Progress], object]
Tell = Callable[[str, Answers], object]


def fill_store(
    sources: Sequence[KnowledgeSource],
    examples: Sequence[MnerExample],
    batch_size: int = 8,
    report: Report | None = None,
    tell: Tell | None = None,
) -> list[MnerExample]:
    """Let stores have what every source says of every example that lacks it.

    The first source goes through all examples before the second begins, so that one can read what another wrote.

    Args:
        sources: applied in order. A `Stored` one keeps what it finds; any other, such as a look-up in local files, is
            only asked for what later ones read.
        examples: not changed.
        batch_size: items that a stored source gets at once, and the most that a kill can lose.
        report: called with the name of a stored source at its begin and after each batch.
        tell: called with the name of a stored source in the end.

    Returns:
        Copies of the examples with the knowledge, as `add_knowledge` does.

    Raises:
        ValueError: if no source is `Stored`, or as `Stored` and `add_knowledge` do.
    """
    if not any(isinstance(source, Stored) for source in sources):
        names = ", ".join(source_name(source) for source in sources) or "there is none"
        raise ValueError(f"No source would keep what it finds ({names}); wrap one in `Stored(source, store)`.")
    return add_knowledge(examples, [_report_from(source, batch_size, report, tell) for source in sources])


def _report_from(
    source: KnowledgeSource, batch_size: int, report: Report | None, tell: Tell | None
) -> KnowledgeSource:
    if not isinstance(source, Stored):
        return source
    name = source.record.name
    hears = report and partial(report, name)
    stored = CountingStored(source.source, source.store, batch_size, source.compute, hears)
    stored.tell = tell and partial(tell, name)
    return stored


class CountingStored(Stored):
    """A `Stored` source that tells how many posts got an answer."""

    tell: Callable[[Answers], object] | None = None

    def __call__(self, examples: Sequence[MnerExample]) -> list[Any]:
        """Return the answer for each example, see `Stored`."""
        values = super().__call__(examples)
        if self.tell is not None:
            silent = [example for example, value in zip(examples, values, strict=True) if value is None]
            lacking = Counter(part for example in silent for part in missing_parts(self.reads, example))
            self.tell(Answers(len(examples), len(examples) - len(silent), dict(lacking)))
        return values


def describe_rivals(sources: Sequence[KnowledgeSource]) -> list[str]:
    """Return a warning for each source that gets only the posts which an earlier one of the same part left over.

    A source that completes what another one wrote has `lacks`, and is no rival.
    """
    first: dict[str, KnowledgeSource] = {}
    warnings = []
    for source in sources:
        if getattr(source, "lacks", None) is None and source.column in first:
            warnings.append(
                f"{_full_name(first[source.column])} and {_full_name(source)} both fill {source.column!r}: the second"
                " is asked only about posts for which the first has no answer. To keep what each says of all posts,"
                " build with one at a time."
            )
        first.setdefault(source.column, source)
    return warnings


def _full_name(source: KnowledgeSource) -> str:
    identity = getattr(source, "identity", None) or {}
    kind = identity.get("source") or type(source).__name__
    return f"{kind} ({identity['model']})" if identity.get("model") else kind


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
