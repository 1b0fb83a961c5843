"""Fixtures of all tests: nothing is fetched, and tiny models are saved once for those that only read them."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest
import tiny

import hf_mner  # noqa: F401 registers the systems


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the package computes once and for all out of the user's own cache."""
    os.environ["HF_MNER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def examples() -> list[dict]:
    return tiny.tiny_examples()


@pytest.fixture(scope="session")
def scanner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny SCANNER of both stages that finds entities and grounds them; only for reading."""
    folder = tmp_path_factory.mktemp("tiny-scanner")
    tiny.tiny_scanner("ScannerForMultimodalNer", grounding_weight=1.0).save_pretrained(folder)
    tiny.tiny_processor("bert", grounding_threshold=0.5).save_pretrained(folder)
    return folder
