"""`hf-mner export` and `hf-mner import` on a tiny checkpoint's predictions."""

from __future__ import annotations

import importlib.util
import json

import pytest
from random_posts import random_posts, without_image
from tiny import tiny_image
from typer.testing import CliRunner

from hf_mner.cli.main import app
from hf_mner.data import load_mner_dataset
from hf_mner.interchange import read_jsonl, write_jsonl


def run(*arguments) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_predictions_become_a_project_and_a_data_set(scanner_folder, tmp_path):
    tiny_image(size=(80, 60)).save(tmp_path / "a.png")
    post = {
        "id": "k",
        "text": "😀 The NBA and Adidas\nsign O'Brien",
        "image": "a.png",
        "knowledge": {"objects": []},
    }
    post["knowledge"]["objects"].append({"label": "person", "box": [0, 0, 4, 8]})
    (tmp_path / "posts.jsonl").write_text(json.dumps(post))
    output = tmp_path / "found.jsonl"
    run("predict", "--model", scanner_folder, "--input", tmp_path / "posts.jsonl", "--output", output)
    (found,) = read_jsonl(output)
    assert any(entity["boxes"] for entity in found["entities"])
    labels = [option for name in ("PER", "LOC", "ORG", "MISC") for option in ("--type", name)]
    project = tmp_path / "project"
    assert "1 posts" in run("export", "label-studio", output, project, *labels, "--model-version", "tiny")
    found_images = project / "images"
    again = tmp_path / "again.jsonl"
    run("import", "label-studio", project / "tasks.json", again, "--predictions", "--images", found_images)
    (back,) = read_jsonl(again)
    assert back["entities"] == found["entities"]
    run("import", "label-studio", project / "tasks.json", tmp_path / "data", "--predictions", "--images", found_images)
    (row,) = load_mner_dataset("folder", tmp_path / "data")["train"]
    assert len(row["entities"]) == len(found["entities"])
    assert row["image"] is not None


@pytest.mark.parametrize("form", ["coco", "jsonl", "spacy"])
def test_files_there_and_back(tmp_path, form):
    if form == "spacy":
        pytest.importorskip("spacy", reason='needs spaCy: pip install "hf-mner[spacy]"')
    posts = [without_image(post) for post in random_posts(0)]
    if form == "spacy":  # a document has no size of its image
        posts = [{key: value for key, value in post.items() if key != "image_size"} for post in posts]
    write_jsonl(posts, tmp_path / "posts.jsonl")
    run("export", form, tmp_path / "posts.jsonl", tmp_path / "file")
    run("import", form, tmp_path / "file", tmp_path / "back.jsonl")
    assert list(read_jsonl(tmp_path / "back.jsonl")) == posts


def test_a_data_set_becomes_a_project_and_conll(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "test.txt").write_text("Steve\tB-PER\nKerr\tI-PER\n\nso\tO\n")
    run("export", "label-studio", tmp_path / "own", tmp_path / "project", "--split", "test", "--gold")
    tasks = json.loads((tmp_path / "project" / "tasks.json").read_text())
    assert [len(task["annotations"][0]["result"]) for task in tasks] == [1, 0]
    run("import", "label-studio", tmp_path / "project" / "tasks.json", tmp_path / "back", "--split", "test")
    run("export", "conll", tmp_path / "own", tmp_path / "again", "--split", "test")
    expected = "IMGID:folder-test-0\nSteve\tB-PER\nKerr\tI-PER\n\nIMGID:folder-test-1\nso\tO\n\n"
    assert (tmp_path / "back" / "test.txt").read_text() == expected
    assert (tmp_path / "again" / "test.txt").read_text() == expected


def test_words_are_cut_where_a_format_has_words(tmp_path):
    entity = {"entity_group": "ORG", "start": 1, "end": 4}
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "text": "#NBAFinals", "entities": [entity]}))
    run("export", "conll", tmp_path / "a.jsonl", tmp_path / "conll", "--cut-words")
    if importlib.util.find_spec("spacy"):
        run("export", "spacy", tmp_path / "a.jsonl", tmp_path / "a.spacy", "--cut-words")
    for form in ("coco", "jsonl", "label-studio"):
        result = CliRunner().invoke(
            app, ["export", form, str(tmp_path / "a.jsonl"), str(tmp_path / "b"), "--cut-words"]
        )
        assert str(result.exception) == (
            f"`--cut-words` does not count for {form}, which counts characters. Leave it out."
        )
    result = CliRunner().invoke(
        app, ["import", "jsonl", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--cut-words"]
    )
    assert "`--cut-words` does not count for JSON lines" in str(result.exception)


def test_a_corrected_command_can_have_the_folder(tmp_path):
    entity = {"entity_group": "ORG", "start": 0, "end": 3}
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "text": "NBA", "entities": [entity]}))
    command = ["export", "label-studio", str(tmp_path / "a.jsonl"), str(tmp_path / "proj")]
    assert "'ORG' is not among" in str(CliRunner().invoke(app, [*command, "--type", "PER"]).exception)
    run(*command, "--type", "ORG")


def test_errors_of_the_command_line(tmp_path):
    result = CliRunner().invoke(app, ["import", "coco", str(tmp_path / "no.json"), str(tmp_path / "a")])
    assert "`FILE` is" in str(result.exception)
    result = CliRunner().invoke(app, ["export", "coco", str(tmp_path / "no.jsonl"), str(tmp_path / "a")])
    assert "`DATA` is" in str(result.exception)
