"""`hf-mner demo` without serving, and `hf-mner predict --html`."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from tiny import noisy_image
from typer.testing import CliRunner

import hf_mner
from hf_mner.cli import main
from hf_mner.demo import interface
from hf_mner.demo.models import VARIABLE
from hf_mner.demo.requests import Limits

TEXT = "Steve Kerr coaches the Warriors in Oakland"


def run(*arguments):
    return CliRunner().invoke(main.app, [*map(str, arguments)])


def test_a_page_of_what_was_found(scanner_folder, tmp_path):
    noisy_image(0).save(tmp_path / "a.png")
    posts = [{"text": TEXT, "image": "a.png"}, {"tokens": ["Anna", "&", "Bob"]}, {"text": "x", "image": "none.png"}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, posts)), encoding="utf-8")
    page, lines = tmp_path / "new" / "page.html", tmp_path / "found.jsonl"
    files = ["--input", tmp_path / "posts.jsonl", "--output", lines, "--html", page]
    done = run("predict", "--model", scanner_folder, *files, "--on-error", "skip")
    assert done.exit_code == 0, done.output
    html = page.read_text(encoding="utf-8")
    found = [json.loads(line)["entities"] for line in lines.read_text(encoding="utf-8").splitlines()]
    expected = hf_mner.render(found, [TEXT, "Anna & Bob"], [tmp_path / "a.png", None], page=True, jupyter=False)
    assert html == expected
    assert html.count("<mark") >= len(found[0]) > 0
    assert str(tmp_path) not in html


def test_a_page_that_is_named_as_something_else_is_refused_before_reading(tmp_path):
    done = run("predict", "--html", tmp_path / "page.pdf", "--input", tmp_path / "missing.jsonl")
    assert (
        str(done.exception) == f"`--html` is '{tmp_path / 'page.pdf'}'; expected a file that ends in .html. Rename it."
    )


def test_the_demo_gets_its_options(monkeypatch):
    calls = {}
    page = SimpleNamespace(block_thread=lambda: calls.update(blocked=True))

    def build(models, **options):
        calls.update(models=models, **options)
        return page

    def launch(demo, *places, **options):
        calls.update(places=places)
        return None, "http://127.0.0.1:8000/", None

    monkeypatch.setattr(interface, "build_demo", build)
    monkeypatch.setattr(interface, "launch_demo", launch)
    monkeypatch.setenv(VARIABLE, "a=x,b=y")
    done = run("demo", "--port", 8000, "--model", "b=z", "--queue-size", 2, "--max-characters", 10, "--max-bytes", 9)
    assert done.exit_code == 0, done.output
    assert "Demo: http://127.0.0.1:8000/" in done.output
    limits = Limits(text_characters=10, file_bytes=9, queue_size=2)
    assert calls == {
        "models": {"a": "x", "b": "z"},
        "sources": [],
        "limits": limits,
        "places": ("127.0.0.1", 8000, limits),
        "blocked": True,
    }


def test_bad_models_are_named(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "expected NAME=CHECKPOINT" in str(run("demo", "--model", "folder").exception)


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["hf-mner", "demo"])
    with pytest.raises(SystemExit) as stopped:
        main.run()
    assert stopped.value.code == 1
    message = 'hf-mner: The demo is a page of Gradio, which is missing: pip install "hf-mner[demo]"\n'
    assert capsys.readouterr().err == message
