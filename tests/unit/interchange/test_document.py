"""The code of docs/interchange.md runs and shows what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "interchange.md"


def test_the_code_of_the_document(tmp_path, monkeypatch):
    pytest.importorskip("spacy", reason='needs spaCy: pip install "hf-mner[spacy]"')
    monkeypatch.chdir(tmp_path)
    code = DOCUMENT.read_text(encoding="utf-8").replace("```", "\n```")
    test = doctest.DocTestParser().get_doctest(code, {}, DOCUMENT.name, str(DOCUMENT), 0)
    assert len(test.examples) > 15
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
