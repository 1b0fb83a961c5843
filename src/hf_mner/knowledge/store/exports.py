"""What a store holds for a data set, as rows that say where each value is from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from hf_mner.data.schema import Knowledge, MnerExample

from .keys import example_keys
from .knowledge_store import KnowledgeStore
from .records import SourceRecord
from .row_files import ROW_FIELDS
from .stored import Stored


def find_source(store: KnowledgeStore, name: str) -> SourceRecord:
    """Return the source that a name stands for.

    Args:
        store: what holds it.
        name: its kind (`"ImageCaptioner"`), its name in `registry.SOURCES` (`"captions"`), column or model, if that is
            enough to tell it from the others; or its number in `KnowledgeStore.sources()`, from 1.

    Raises:
        ValueError: if none or several fit; the text lists those that fit, or all if none does.
    """
    from hf_mner.knowledge.registry import SOURCES

    held = [items.source for items in store.sources()]
    numbered = {str(number): source for number, source in enumerate(held, start=1)}
    if name in numbered:
        return numbered[name]
    kind = SOURCES[name].place.partition(":")[2] if name in SOURCES else name
    fitting = [source for source in held if source.identity["source"] == kind]
    if name not in SOURCES or not fitting:  # "objects" is a source and a column
        fitting = [
            source for source in held if name in (source.column, source.identity["source"], source.identity["model"])
        ]
    if len(fitting) == 1:
        return fitting[0]
    choices = "; ".join(
        f"{number} = {source.name}, {source.identity['model']}, {source.identity['revision']}, reads"
        f" {' and '.join(source.reads)}"
        for number, source in numbered.items()
        if source in fitting or not fitting
    )
    raise ValueError(
        f"Source {name!r} fits {len(fitting)} of those in '{store.path}', expected one; name it by its number:"
        f" {choices or 'there is none, the store is empty'}."
    )


def export_rows(
    store: KnowledgeStore, source: SourceRecord, examples: Iterable[MnerExample]
) -> Iterator[dict[str, Any]]:
    """Yield a row of `ROW_FIELDS` for each example of which the store knows something; None says nothing.

    Args:
        store: what is asked; nothing is computed.
        source: whose answers are wanted, see `find_source`.
        examples: a data set or a list. What the source read of other sources is taken from the store where the
            examples lack it.
    """
    rows = add_earlier(store, source, list(examples))
    keys = example_keys(store, source, rows)
    known = store.get_many(keys)
    fixed = {"part": source.column, **source.identity}
    for key, example in zip(keys, rows, strict=True):
        if known.get(key) is not None:
            row = {"id": example.get("id"), "value": known[key], **fixed, "reads": list(source.reads)}
            yield {name: {**row, "needs_entities": source.needs_entities}[name] for name in ROW_FIELDS}


def add_earlier(store: KnowledgeStore, source: SourceRecord, examples: Sequence[MnerExample]) -> Sequence[MnerExample]:
    """Return the examples with the knowledge that the source read, from sources that were stored before it.

    Where two of them fill the same column, the first counts, and then those that complete it, see
    `SourceRecord.completes`.
    """
    for items in store.sources():
        earlier = items.source
        if earlier == source or not set(source.reads) & set(Knowledge.__annotations__):
            break
        if earlier.column in Knowledge.__annotations__:
            values = Stored(earlier, store, compute=False)(examples)
            pairs = zip(examples, values, strict=True)
            examples = [_with_value(example, earlier, value) for example, value in pairs]
    return examples


def _with_value(example: MnerExample, source: SourceRecord, value: Any) -> MnerExample:
    knowledge: dict[str, Any] = dict(example.get("knowledge") or {})
    if value is not None and (knowledge.get(source.column) is None or source.completes):
        knowledge[source.column] = value
    return {**example, "knowledge": cast(Knowledge, knowledge)}
