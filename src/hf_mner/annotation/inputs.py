"""What a user may name as input, opened as a collection."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from .parts import Collection

JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def open_collection(data: Any, split: str | None = None) -> Collection:
    """Open a collection of posts.

    Args:
        data: Parquet or JSON lines (`.jsonl`, `.jsonl.gz`): a file, several, a pattern (`posts/*.parquet`), or a
            folder of them; a folder of `Dataset.save_to_disk`; a `datasets.Dataset`; or a name on the Hub.
        split: of a data set that has several.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: if it is none of these, has no rows, or `split` is missing or unknown.
    """
    collection = _open(data, split)
    if not collection.num_rows:
        raise ValueError(f"The input {_name(data)} has no rows; expected at least one post.")
    return collection


def _open(data: Any, split: str | None) -> Collection:
    if type(data).__module__.partition(".")[0] == "datasets":
        return _open_dataset(data, split, type(data).__name__)
    if isinstance(data, list | tuple):
        return open_files([Path(path) for path in data])
    if not isinstance(data, str | os.PathLike):
        raise ValueError(f"The input is a {type(data).__name__}; expected a path, or a `datasets.Dataset`.")
    path = Path(data)
    if path.is_dir():
        return _open_folder(path, split)
    if path.is_file():
        return open_files([path])
    if has_magic(str(data)):
        return open_files([Path(name) for name in sorted(glob(str(data), recursive=True))], str(data))
    if HUB_NAME.fullmatch(str(data)) and not path.suffix:
        from datasets import load_dataset

        return _open_dataset(load_dataset(str(data), split=split), split, str(data))
    raise FileNotFoundError(
        f"The input '{data}' does not exist; expected a Parquet or JSON lines file, a folder of them, or a name on the"
        " Hub. Correct the path."
    )


def open_files(paths: Sequence[Path], pattern: str = "") -> Collection:
    """Open files of one kind as a collection.

    Raises:
        FileNotFoundError: if there is none, or one is missing.
        ValueError: if they are of two kinds, or of none that can be read.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"The input '{missing[0]}' does not exist; correct its path.")
    kinds = {find_kind(path) for path in paths}
    if not paths or len(kinds) != 1:
        given = f"'{pattern}' names no file" if not paths else f"The input has files of {len(kinds)} kinds"
        raise (ValueError if paths else FileNotFoundError)(f"{given}; give Parquet or JSON lines, one of them.")
    if kinds == {"parquet"}:
        from .parquet_files import ParquetFiles

        return ParquetFiles(paths)
    from .json_lines_files import JsonLinesFiles

    return JsonLinesFiles(paths)


def find_kind(path: Path) -> str:
    """Return `"parquet"` or `"jsonl"`.

    Raises:
        ValueError: naming the file that is of another kind.
    """
    if path.suffix == ".parquet":
        return "parquet"
    if path.name.endswith(JSON_LINES):
        return "jsonl"
    raise ValueError(f"The input '{path}' is neither `.parquet` nor `.jsonl` (or `.jsonl.gz`); convert it.")


def _open_folder(folder: Path, split: str | None) -> Collection:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        from datasets import load_from_disk

        return _open_dataset(load_from_disk(str(folder)), split, folder.name)
    files = sorted(path for path in folder.rglob("*") if path.suffix == ".parquet" or path.name.endswith(JSON_LINES))
    if not files:
        raise ValueError(f"The folder '{folder}' holds no Parquet or JSON lines; expected some. Correct the path.")
    return open_files(files)


def _open_dataset(data: Any, split: str | None, name: str) -> Collection:
    from datasets import Dataset, DatasetDict

    from .dataset_rows import DatasetRows

    if isinstance(data, DatasetDict):
        if split not in data:
            raise ValueError(f"`split` is {split!r}; {name} has {', '.join(data)}. Give one of them (`--split`).")
        data = data[split]
    if not isinstance(data, Dataset):
        raise ValueError(f"The input is a {type(data).__name__}; expected a `datasets.Dataset`, which has a length.")
    return DatasetRows(data, name)


def _name(data: Any) -> str:
    return f"'{data}'" if isinstance(data, str | os.PathLike) else f"({type(data).__name__})"
