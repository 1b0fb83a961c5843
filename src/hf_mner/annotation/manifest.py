"""`manifest.json` of an output folder: what its shards were made of, and what became of the job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "manifest.json"
LOCK = ".lock"
FORMAT = 1


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON at once: whoever reads it finds the old content or the new."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder, None if it has none.

    Raises:
        ValueError: if it is no manifest of this version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); choose a new folder.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"'{path}' is no manifest of format {FORMAT}; choose a new folder.")
    return manifest


def check_folder(folder: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Refuse a folder of something else; return whether the job in it is finished.

    Raises:
        FileExistsError: if the folder is not empty and has no manifest.
        ValueError: if it has the shards of another job, saying what differs.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        if folder.exists() and (folder.is_file() or any(path.name != LOCK for path in folder.iterdir())):
            raise FileExistsError(f"Output '{folder}' is there, is not empty, and has no {FILE}; choose a new folder.")
        return False
    if differences := list(find_differences(manifest["fingerprint"], json.loads(json.dumps(fingerprint)))):
        raise ValueError(
            f"Output '{folder}' has shards of another job: {'; '.join(differences[:5])}. Choose a new folder, or say"
            " what was said then to go on."
        )
    return bool(manifest["finished"])


def find_differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield in words where two fingerprints differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from find_differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from find_differences(one, other, f"{name}[{number}]")
    elif old != new:
        yield f"`{name}` was {old!r} and is {new!r}"
