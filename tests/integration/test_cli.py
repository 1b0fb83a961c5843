"""The command line `hf-mner` on a tiny checkpoint: what it reads, what it writes, and how it fails."""

from __future__ import annotations

import json
import sys

import pytest
from tiny import tiny_image
from typer.testing import CliRunner

import hf_mner
from hf_mner.cli import main
from hf_mner.data.readers import DATASET_NAMES

TEXT = "Steve Kerr coaches the Warriors in Oakland"


@pytest.fixture
def predict(scanner_folder):
    def run(*arguments: str, **kwargs):
        return CliRunner().invoke(main.app, ["predict", "--model", str(scanner_folder), *arguments], **kwargs)

    return run


@pytest.fixture(scope="module")
def expected(scanner_folder) -> list[dict]:
    entities = hf_mner.pipeline(model=str(scanner_folder))(TEXT)
    assert entities
    return json.loads(json.dumps(entities))


@pytest.fixture
def fail(monkeypatch, capsys):
    """Run `hf-mner` as from a shell and return its one line of error."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["hf-mner", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main.run()
        assert stopped.value.code == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("hf-mner: ")
        return line

    return run


def lines(result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [rounded(json.loads(line)) for line in result.stdout.splitlines()]


def rounded(value):
    """Round scores: float32 sums differ by 1e-7 with the width of the batch."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_texts(predict, expected):
    (one, other) = lines(predict(TEXT, "nothing"))
    assert one == {"id": "0", "text": TEXT, "entities": expected}
    assert (other["id"], other["text"]) == ("1", "nothing")


def test_texts_with_images(predict, expected, tmp_path):
    tiny_image().save(tmp_path / "a.png")
    (post,) = lines(predict(TEXT, "--image", str(tmp_path / "a.png")))
    assert post == {"id": "0", "text": TEXT, "image": str(tmp_path / "a.png"), "entities": expected}


def test_json_lines(predict, expected, tmp_path):
    path = tmp_path / "posts.jsonl"
    posts = [{"id": "a", "text": TEXT}, {"tokens": TEXT.split()}, {"text": ""}]
    path.write_text("\n\n".join(map(json.dumps, posts)))
    found = lines(predict("--input", str(path)))
    assert [post["id"] for post in found] == ["a", "3", "5"], "the given id, else the line's number"
    assert [post["entities"] for post in found] == [expected, expected, []]
    assert found[1]["tokens"] == TEXT.split()


def test_lines_of_text(predict, expected, tmp_path):
    (tmp_path / "posts.txt").write_text(f"{TEXT}\n\nnothing\n")
    found = lines(predict("--input", str(tmp_path / "posts.txt")))
    assert [post["text"] for post in found] == [TEXT, "nothing"]
    assert found[0]["entities"] == expected


def test_standard_input(predict, expected):
    found = lines(predict("--input", "-", input=f"{TEXT}\n" + json.dumps({"id": "b", "text": TEXT})))
    assert [post["id"] for post in found] == ["1", "b"]
    assert [post["entities"] for post in found] == [expected, expected]


def test_output_file(predict, expected, tmp_path):
    result = predict(TEXT, "--output", str(tmp_path / "found.jsonl"))
    assert result.exit_code == 0
    assert result.stdout == ""
    post = rounded(json.loads((tmp_path / "found.jsonl").read_text()))
    assert post == {"id": "0", "text": TEXT, "entities": expected}


def test_threshold_and_knowledge(predict, expected, tmp_path):
    middle = sorted(entity["score"] for entity in expected)[len(expected) // 2]
    (post,) = lines(predict(TEXT, "--threshold", str(middle - 1e-4)))
    assert post["entities"] == [entity for entity in expected if entity["score"] >= middle - 1e-4]
    (tmp_path / "posts.jsonl").write_text(json.dumps({"text": TEXT, "knowledge": {"caption": "a man"}}))
    (post,) = lines(predict("--input", str(tmp_path / "posts.jsonl"), "--show-knowledge"))
    assert post["entities"]
    assert all(entity["knowledge"] == {"caption": "a man", "sources": []} for entity in post["entities"])


def test_standard_streams_stay_open(predict):
    predict(TEXT)
    predict("--input", "-", input=TEXT)
    assert not sys.stdout.closed
    assert not sys.stdin.closed


# ------------------------------------------------------------------------------------------------------------- errors

BAD_LINES = {
    "missing image": json.dumps({"id": "bad", "text": TEXT, "image": "absent.png"}),
    "no text": json.dumps({"id": "bad", "image": None}),
    "image of a wrong type": json.dumps({"id": "bad", "text": TEXT, "image": 5}),
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_bad_post_is_reported_with_its_id_and_skipped(predict, expected, tmp_path, bad, batch_size):
    good = [json.dumps({"id": name, "text": TEXT}) for name in "abc"]
    (tmp_path / "posts.jsonl").write_text("\n".join([*good[:2], bad, good[2]]))
    result = predict("--input", str(tmp_path / "posts.jsonl"), "--on-error", "skip", "--batch-size", str(batch_size))
    assert [post["id"] for post in lines(result)] == ["a", "b", "c"]
    (report,) = [line for line in result.stderr.splitlines() if line.startswith("skipped")]
    assert report.startswith("skipped post bad: ")


@pytest.mark.parametrize("line", ['{"text": ', "[1, 2]"])
def test_line_that_is_no_post_is_reported_and_skipped(predict, tmp_path, line):
    (tmp_path / "posts.jsonl").write_text(f"{line}\n" + json.dumps({"id": "good", "text": TEXT}))
    result = predict("--input", str(tmp_path / "posts.jsonl"), "--on-error", "skip")
    assert [post["id"] for post in lines(result)] == ["good"]
    assert "posts.jsonl, line 1" in result.stderr


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_bad_post_stops_the_job_with_its_id(fail, scanner_folder, tmp_path, bad):
    (tmp_path / "posts.jsonl").write_text(json.dumps({"id": "good", "text": TEXT}) + "\n" + bad)
    assert "Post bad: " in fail("predict", "--model", str(scanner_folder), "--input", str(tmp_path / "posts.jsonl"))


def test_errors_are_one_line(fail, scanner_folder, tmp_path):
    model = ("--model", str(scanner_folder))
    assert "Give either texts or `--input FILE`" in fail("predict", *model)
    assert "Got 1 texts and 2 images" in fail("predict", *model, "a", "--image", "x", "--image", "y")
    assert "absent.jsonl" in fail("predict", *model, "--input", str(tmp_path / "absent.jsonl"))
    assert "no-such-model" in fail("predict", "a", "--model", str(tmp_path / "no-such-model"))
    (tmp_path / "bad.jsonl").write_text('{"text": ')
    assert "bad.jsonl, line 1 is not JSON" in fail("predict", *model, "--input", str(tmp_path / "bad.jsonl"))
    assert "absent.yaml does not exist" in fail("train", "absent.yaml", "--output", str(tmp_path / "run"))


def test_recipe_errors_are_one_line(fail, tmp_path):
    (tmp_path / "recipe.yaml").write_text("system: scanner\nseeds: 1\n")
    assert "['seeds']" in fail("train", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run"))
    setting = ("--set", "seed")
    line = fail("train", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run"), *setting)
    assert "`seed` has no value; write KEY=VALUE" in line


def test_recipe_value_of_a_wrong_type_is_one_line(fail, tmp_path):
    stage = "{epochs: 1, batch_size: 2, learning_rate: 1e-4, weight_decay: 0.0}"
    recipe = (
        f"system: scanner\ndataset: wnut17\nbackbone: x\ndetection: {stage}\nrecognition: {stage}\ncross_fitting: {{}}"
    )
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert "write 1.0e-4" in fail("train", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run"))


def test_data_list():
    result = CliRunner().invoke(main.app, ["data", "list"])
    assert result.exit_code == 0
    assert result.stdout.split() == list(DATASET_NAMES)
    assert "twitter2017" in result.stdout


def test_help_names_every_command():
    result = CliRunner().invoke(main.app, ["--help"])
    assert result.exit_code == 0
    for command in ("predict", "train", "sweep", "evaluate", "data", "convert"):
        assert command in result.stdout


def test_an_endpoint_that_fails_is_not_a_bad_post(monkeypatch):
    from hf_mner.cli.predict import results
    from hf_mner.knowledge.endpoint_errors import EndpointError

    calls = []

    def pipe(posts, **_):
        calls.append(len(posts))
        raise EndpointError("the budget is used up")

    with pytest.raises(EndpointError):
        list(results(pipe, [{"text": "a"}, {"text": "b"}], {"batch_size": 2}, "skip"))
    assert calls == [2], "asking post by post would pay again"


def test_missing_files_are_named(fail, scanner_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = fail("predict", "--model", str(scanner_folder), TEXT, "--image", "nope.jpg")
    assert line == "hf-mner: Post 0: image 'nope.jpg' does not exist; correct its path."
    line = fail("predict", "--model", str(scanner_folder), TEXT, "--image", str(tmp_path))
    assert line == f"hf-mner: Post 0: image '{tmp_path}' is a folder; name a file."
    line = fail("predict", "--model", str(scanner_folder), "--input", "nope.jsonl")
    assert "`--input` is 'nope.jsonl', which does not exist; expected a .jsonl of posts" in line
    line = fail("predict", "--model", str(scanner_folder), TEXT, "--source", "{ocr")
    assert "`--source {ocr` is not YAML" in line
