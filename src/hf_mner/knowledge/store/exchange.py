"""Knowledge between a store and other files: what it holds for a data set goes out, what is published comes in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_mner.data.json_lines import read_json_lines
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import ENTITY_COLUMN, SourceIdentity

from .keys import example_keys
from .knowledge_store import KnowledgeStore
from .records import SourceRecord, make_record

FORMATS = (".jsonl", ".parquet")
ROW_FIELDS = ("id", "part", "value", *SourceIdentity.__annotations__, "reads", "needs_entities")


class Imported(NamedTuple):
    """What became of the values: new in the store, there before, without the image that the source reads, of no id.

    Of values that differ for examples with one key, such as captions of one image, the first is kept and the others
    count as held.
    """

    new: int
    held: int
    without_image: int
    unknown_ids: int


def find_source(store: KnowledgeStore, name: str) -> SourceRecord:
    """Return the source that a name stands for.

    Args:
        store: what holds it.
        name: its kind (`"ImageCaptioner"`), column or model, if that is enough to tell it from the others; or its
            number in `KnowledgeStore.sources()`, from 1.

    Raises:
        ValueError: if none or several fit; the text lists what there is.
    """
    held = [items.source for items in store.sources()]
    numbered = {str(number): source for number, source in enumerate(held, start=1)}
    fitting = [
        source for source in held if name in (source.column, source.identity["source"], source.identity["model"])
    ]
    if name in numbered:
        return numbered[name]
    if len(fitting) == 1:
        return fitting[0]
    choices = "; ".join(
        f"{number} = {source.name}, {source.identity['model']}, {source.identity['revision']}"
        for number, source in numbered.items()
    )
    raise ValueError(
        f"Source {name!r} fits {len(fitting)} of those in '{store.path}', expected one; name it by its number:"
        f" {choices or 'there is none, the store is empty'}."
    )


def export_rows(
    store: KnowledgeStore, source: SourceRecord, examples: Sequence[MnerExample]
) -> Iterator[dict[str, Any]]:
    """Yield a row of `ROW_FIELDS` for each example of which the store knows something; None says nothing."""
    keys = example_keys(store, source, examples)
    known = store.get_many(keys)
    fixed = {"part": source.column, **source.identity}
    for key, example in zip(keys, examples, strict=True):
        if known.get(key) is not None:
            row = {"id": example.get("id"), "value": known[key], **fixed, "reads": list(source.reads)}
            yield {name: {**row, "needs_entities": source.needs_entities}[name] for name in ROW_FIELDS}


def write_rows(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write rows as JSON lines or as Parquet, by the suffix; in Parquet the values are JSON.

    Returns:
        The number of rows.

    Raises:
        ValueError: for another suffix.
    """
    path, rows = check_format(path), list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    if path.suffix == ".jsonl":
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"reads": pa.list_(pa.string()), "needs_entities": pa.bool_()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in ROW_FIELDS])
        coded = [{**row, "value": json.dumps(row["value"])} for row in rows]
        pq.write_table(pa.Table.from_pylist(coded, schema=schema), unfinished)
    unfinished.replace(path)
    return len(rows)


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read what `write_rows` wrote, or rows that have `id` and `value` alone.

    Raises:
        ValueError: for another suffix, or naming the row that is no such row.
        FileNotFoundError: if the file is missing.
    """
    path = check_format(path)
    wanted = "expected an object with `id` and `value`"
    if path.suffix == ".jsonl":
        found = [(line.where, line.record) for line in read_json_lines(path, wanted)]
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(path).to_pylist()
        found = [(f"{path}, row {number}", _decode(row)) for number, row in enumerate(table, start=1)]
    for where, row in found:
        if not isinstance(row, dict) or not {"id", "value"} <= set(row):
            raise ValueError(f"{where} holds {row!r}; {wanted}.")
    return [row for _, row in found]


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
    new, held, without_image = (sum(count[place] for count in counts) for place in range(3))
    unknown = sum(identifier not in known_ids for values in by_source.values() for identifier in values)
    return _check_some(Imported(new, held, without_image, unknown))


def import_column(store: KnowledgeStore, source: SourceRecord, examples: Sequence[MnerExample]) -> Imported:
    """Put the knowledge that examples bring along into the store, such as published captions.

    Args:
        store: what gets it.
        source: what the values are from; its `column` says which part of the knowledge it is.
        examples: with `knowledge` (or similarities of objects in their entities), and what the source reads.

    Raises:
        ValueError: if no example has a value that can be stored.
    """
    values = [(example, _own_value(example, source.column)) for example in examples]
    return _check_some(Imported(*_put(store, source, values), unknown_ids=0))


def check_format(path: str | os.PathLike[str]) -> Path:
    """Return the path if its suffix says how it is to be written.

    Raises:
        ValueError: otherwise.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"'{path}' ends in {path.suffix!r}; expected one of {', '.join(FORMATS)}.")
    return path


def _put(
    store: KnowledgeStore, source: SourceRecord, values: Iterable[tuple[MnerExample, Any]]
) -> tuple[int, int, int]:
    """Write values; return how many were new, held already, and without the image that the source reads.

    Without its image an example's key would be that of all posts without one.
    """
    given = [(example, value) for example, value in values if value is not None]
    ready = [pair for pair in given if "image" not in source.reads or pair[0].get("image") is not None]
    keys = example_keys(store, source, [example for example, _ in ready])
    first: dict[bytes, Any] = {}
    for key, (_, value) in zip(keys, ready, strict=True):
        first.setdefault(key, value)
    new = store.put_many(source, first) if first else 0
    return new, len(ready) - new, len(given) - len(ready)


def _check_some(imported: Imported) -> Imported:
    if imported.new + imported.held == 0:
        raise ValueError(
            f"Nothing was imported: {imported.without_image} values belong to posts without an image, which the source"
            f" reads, and {imported.unknown_ids} to no id of the data. Name the data that the values were made for, or"
            " other parts in `reads`."
        )
    return imported


def _own_value(example: MnerExample, column: str) -> Any:
    if column != ENTITY_COLUMN:
        return (example.get("knowledge") or {}).get(column)
    values = [entity.get(ENTITY_COLUMN) for entity in example.get("entities") or ()]
    return values if values and None not in values else None


def _read_source(row: Mapping[str, Any]) -> SourceRecord:
    if lacking := [name for name in ROW_FIELDS if name not in row]:
        raise ValueError(
            f"The row of id {row['id']!r} does not say where it is from, it lacks {', '.join(lacking)}; say it for all"
            " rows in `source`."
        )
    identity = {name: row[name] for name in SourceIdentity.__annotations__}
    return make_record(row["part"], identity, row["reads"], row["needs_entities"])


def _decode(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": json.loads(row["value"])} if isinstance(row.get("value"), str) else row
