"""A tiny pipeline that the tests of this folder share."""

from __future__ import annotations

import pytest

import hf_mner


@pytest.fixture(scope="session")
def pipe(scanner_folder):
    return hf_mner.pipeline(model=str(scanner_folder))
