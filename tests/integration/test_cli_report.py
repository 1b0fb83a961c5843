"""`hf-mner report` on a tiny checkpoint: the same predictions as `hf-mner evaluate`, a page, and clear refusals."""

import json

import pytest
from tiny import tiny_examples, tiny_image, tiny_processor, tiny_scanner
from typer.testing import CliRunner

from hf_mner.cli import main
from hf_mner.data import encode_bio


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny data set as a folder of BIO files with images."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    lines = []
    for example in tiny_examples():
        tiny_image(size=(8, 8)).save(folder / "images" / f"{example['id']}.png")
        spans = [(entity["start"], entity["end"], entity["type"]) for entity in example["entities"]]
        tags = encode_bio(spans, len(example["tokens"]))
        words = [f"{token}\t{tag}" for token, tag in zip(example["tokens"], tags, strict=True)]
        lines += [f"IMGID:{example['id']}", *words, ""]
    (folder / "test.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def call(scanner_folder, folder):
    def run(command, *arguments, model=scanner_folder):
        data = ["--dataset", "folder", "--data-dir", str(folder), "--model", str(model)]
        return CliRunner().invoke(main.app, [command, *data, *arguments])

    return run


def test_a_page_and_the_predictions(call, tmp_path):
    page, lines, scores = tmp_path / "new" / "report.html", tmp_path / "found.jsonl", tmp_path / "scores.json"
    done = call("report", "--output", str(page), "--predictions", str(lines))
    assert done.exit_code == 0, done.output
    assert f"Report: {page}" in done.output
    assert call("evaluate", "--output", str(scores)).exit_code == 0
    overall = json.loads(scores.read_text(encoding="utf-8"))["entities"]
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [post["image"] for post in found] == [f"{example['id']}.png" for example in tiny_examples()]
    assert [post["gold"] for post in found] == [
        [{**entity, "boxes": []} for entity in example["entities"]] for example in tiny_examples()
    ]
    html = page.read_text(encoding="utf-8")
    assert f'<th scope="row">all</th><td>{100 * overall["precision"]:.2f}</td>' in html
    assert str(page.parent) not in html
    assert html.count("<article") == min(50, sum(len(post["entities"]) for post in found))
    fewer = call("report", "--output", str(page), "--max-mistakes", "1")
    assert fewer.exit_code == 0
    assert page.read_text(encoding="utf-8").count("<article") == 1


def test_files_that_are_named_as_something_else_are_refused(call, tmp_path):
    done = call("report", "--output", str(tmp_path / "report.pdf"))
    assert "`--output` is" in str(done.exception)
    assert "ends in .html" in str(done.exception)
    done = call("report", "--predictions", str(tmp_path / "found.json"))
    assert "expected a file that ends in .jsonl" in str(done.exception)


def test_a_split_that_is_not_there_is_named(call, tmp_path):
    done = call("report", "--split", "dev", "--output", str(tmp_path / "r.html"))
    assert str(done.exception) == "`--split dev` is not in folder; it has test."


def test_one_stage_is_refused(call, tmp_path):
    tiny_scanner("ScannerForSpanDetection").save_pretrained(tmp_path / "stage")
    tiny_processor("bert").save_pretrained(tmp_path / "stage")
    done = call("report", "--output", str(tmp_path / "r.html"), model=tmp_path / "stage")
    assert "stops after the stage detection and finds no typed entities" in str(done.exception)
