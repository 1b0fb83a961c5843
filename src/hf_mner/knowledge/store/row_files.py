"""Files of knowledge outside a store: rows that say what is known of an id, and where it is from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_mner.data.json_lines import read_json_lines
from hf_mner.knowledge.base import SourceIdentity

FORMATS = (".jsonl", ".parquet")
ROW_FIELDS = ("id", "part", "value", *SourceIdentity.__annotations__, "reads", "needs_entities")


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


def check_format(path: str | os.PathLike[str]) -> Path:
    """Return the path if its suffix says how it is to be written.

    Raises:
        ValueError: otherwise.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"'{path}' ends in {path.suffix!r}; expected one of {', '.join(FORMATS)}.")
    return path


def _decode(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "value": json.loads(row["value"])} if isinstance(row.get("value"), str) else row
