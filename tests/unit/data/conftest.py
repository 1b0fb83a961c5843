"""Fixtures of the data tests: the folder of published sets (if it is here) and small files written in code."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hf_mner.data import count_dataset, load_mner_dataset


@pytest.fixture(scope="session")
def published_dir() -> Path:
    folder = os.environ.get("HF_MNER_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HF_MNER_DATA does not name the folder of published data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def load_published(published_dir: Path) -> Callable:
    """`load_mner_dataset` on the published sets; each variant is read once."""

    @functools.cache
    def load(name: str, granularity: str = "coarse", unify_types: bool = True):
        return load_mner_dataset(name, published_dir, granularity=granularity, unify_types=unify_types)

    return load


@pytest.fixture(scope="session")
def count_published(load_published: Callable) -> Callable:
    """`count_dataset` of a published set; each variant is counted once."""
    return functools.cache(lambda name, granularity="coarse": count_dataset(load_published(name, granularity)))


@pytest.fixture
def write_file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write text or bytes to a path below `tmp_path`, making folders."""

    def write(relative: str, content: str | bytes) -> Path:
        path = tmp_path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Write a one-coloured image to a path below `tmp_path`."""

    def write(relative: str, size: tuple[int, int] = (8, 6), color: object = (10, 200, 30), mode: str = "RGB") -> Path:
        path = tmp_path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, color).save(path)
        return path

    return write
