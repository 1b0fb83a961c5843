"""Take knowledge into a store: published values, what examples bring along, and rows that a store exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import SourceIdentity

from .keys import example_keys
from .knowledge_store import KnowledgeStore
from .records import SourceRecord, check_part, find_remedy, make_record, missing_parts, own_value
from .row_files import ROW_FIELDS


class Imported(NamedTuple):
    """What became of the values: new in the store, there before, left out, of no id.

    Of values that differ for examples with one key, such as captions of one image, the first is kept and the others
    count as held. `left_out` counts the values of examples that lack what the source read, by the first part that
    they lack: `{"image": 2, "caption": 1}`.
    """

    new: int
    held: int
    left_out: Mapping[str, int]
    unknown_ids: int

    def describe_left_out(self) -> str:
        """Say how many values were left out, and what can be done."""
        texts = [
            f"{count} left out because their {part} is missing ({find_remedy(part)}, or import under `reads` what they"
            " have)"
            for part, count in self.left_out.items()
        ]
        return ", ".join(texts) or "none left out"


def import_rows(
    store: KnowledgeStore,
    rows: Sequence[Mapping[str, Any]],
    examples: Sequence[MnerExample],
    source: SourceRecord | None = None,
) -> Imported:
    """Put rows into the store under the content of the examples that have their ids.

    Args:
        store: what gets them.
        rows: see `read_rows`.
        examples: with what the source reads.
        source: what the values are from; None = what each row says.

    Raises:
        ValueError: if a row does not say where it is from and `source` is None, if two rows of one source have one id,
            or if nothing fits.
    """
    by_source: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = by_source.setdefault((source or _read_source(row)).to_row(), {})
        if row["id"] in values:
            raise ValueError(f"Two rows have the id {row['id']!r}; keep one of them.")
        values[row["id"]] = row["value"]
    ids = [example.get("id", "") for example in examples]
    known_ids = set(ids)
    counts = [
        _put(store, SourceRecord.from_row(record), zip(examples, map(values.get, ids), strict=True))
        for record, values in by_source.items()
    ]
    new, held = sum(count[0] for count in counts), sum(count[1] for count in counts)
    left_out = sum((count[2] for count in counts), Counter[str]())
    unknown = sum(identifier not in known_ids for values in by_source.values() for identifier in values)
    return _check_some(Imported(new, held, dict(left_out), unknown))


def import_column(store: KnowledgeStore, source: SourceRecord, examples: Sequence[MnerExample]) -> Imported:
    """Put the knowledge that examples bring along into the store, such as published captions.

    Args:
        store: what gets it.
        source: what the values are from; its `column` says which part of the knowledge it is.
        examples: with `knowledge` (or similarities of objects in their entities), and what the source reads.

    Raises:
        ValueError: if no example has a value that can be stored.
    """
    values = [(example, own_value(example, source.column)) for example in examples]
    new, held, left_out = _put(store, source, values)
    return _check_some(Imported(new, held, dict(left_out), unknown_ids=0))


def _put(
    store: KnowledgeStore, source: SourceRecord, values: Iterable[tuple[MnerExample, Any]]
) -> tuple[int, int, Counter[str]]:
    """Write values; return how many were new, held already, and of examples that lack what the source read.

    Without its image (or caption, ...) an example's key would be that of all posts without one.
    """
    check_part(source.column)
    given = [(example, value) for example, value in values if value is not None]
    lacking = [missing_parts(source.reads, example) for example, _ in given]
    ready = [pair for pair, missing in zip(given, lacking, strict=True) if not missing]
    keys = example_keys(store, source, [example for example, _ in ready])
    first: dict[bytes, Any] = {}
    for key, (_, value) in zip(keys, ready, strict=True):
        first.setdefault(key, value)
    new = store.put_many(source, first) if first else 0
    return new, len(ready) - new, Counter(missing[0] for missing in lacking if missing)


def _check_some(imported: Imported) -> Imported:
    if imported.new + imported.held == 0:
        raise ValueError(
            f"Nothing was imported: {imported.describe_left_out()}, {imported.unknown_ids} of ids that the data lacks."
            " Name the data that the values were made for."
        )
    return imported


def _read_source(row: Mapping[str, Any]) -> SourceRecord:
    if lacking := [name for name in ROW_FIELDS if name not in row]:
        raise ValueError(
            f"The row of id {row['id']!r} does not say where it is from, it lacks {', '.join(lacking)}; say it for all"
            " rows in `source`."
        )
    identity = {name: row[name] for name in SourceIdentity.__annotations__}
    return make_record(row["part"], identity, row["reads"], row["needs_entities"])
