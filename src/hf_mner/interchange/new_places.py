"""Where exports are written: new files and folders, which are there as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(output: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `output` that takes its place in the end; after an error nothing is left.

    Args:
        output: a folder that does not exist or is empty.

    Raises:
        FileExistsError: if it holds something.
    """
    folder = Path(output)
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise FileExistsError(f"Output '{folder}' is there and not empty; choose a new folder.")
    unfinished = _unfinished(folder)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def new_file(output: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a file beside `output` that takes its place in the end; after an error nothing is left.

    Raises:
        FileExistsError: if there is a file or folder of that name.
    """
    file = Path(output)
    if file.exists():
        raise FileExistsError(f"Output '{file}' is there; choose a new file, or remove it.")
    unfinished = _unfinished(file)
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _unfinished(place: Path) -> Path:
    place = place.absolute()
    return place.with_name(f".{place.name}.{os.getpid()}.unfinished")
