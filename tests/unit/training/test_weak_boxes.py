"""Weak boxes on a folder of planted-signal posts, given by a tiny model with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny import tiny_encoder_folder, tiny_mner_qg, tiny_mner_qg_processor, tiny_resnet_config
from typer.testing import CliRunner

from hf_mner.cli import main
from hf_mner.data import PlantedSignal, load_mner_dataset, write_planted_folder
from hf_mner.data.gmner_boxes import read_boxes_jsonl
from hf_mner.metrics import score_grounding
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.mner_qg.queries import build_queries
from hf_mner.training import weak_boxes
from hf_mner.training.weak_boxes import WeakQueries, list_questions, load_grounding, write_weak_boxes

SIZES = {"train": 12, "test": 4}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "fa-vg"
    tiny_mner_qg("MnerQgForVisualGrounding").save_pretrained(folder)
    tiny_mner_qg_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Sixteen posts with gold boxes."""
    return write_planted_folder(PlantedSignal(), SIZES, tmp_path_factory.mktemp("planted") / "posts")


@pytest.fixture
def posts(planted, tmp_path) -> Path:
    """The same posts with gold boxes for every other entity."""
    folder = tmp_path / "posts"
    shutil.copytree(planted, folder)
    lines = (folder / "boxes.jsonl").read_text().splitlines(keepends=True)
    (folder / "boxes.jsonl").write_text("".join(lines[::2]))
    return folder


def load(folder: Path):
    return load_mner_dataset("folder", folder)


def entities_of(dataset) -> list:
    return [entity for part in dataset.values() for row in part["entities"] for entity in row]


def records_of(output: Path) -> list[dict]:
    return [record for records in read_boxes_jsonl(output / "boxes.jsonl").values() for record in records]


def test_the_output_is_the_same_posts_with_boxes(posts, model_folder, tmp_path):
    before, output = load(posts), tmp_path / "out"
    report = write_weak_boxes(before, output, model_folder, about={"dataset": "folder"})
    after = load(output)
    for split, part in before.items():
        assert after[split].features == part.features
        for name in ("id", "tokens", "ner_tags", "image_size"):
            assert after[split][name][:] == part[name][:]
        for old, new in zip(part, after[split], strict=True):
            assert old["image"].tobytes() == new["image"].tobytes()
            for entity, found in zip(old["entities"], new["entities"], strict=True):
                assert len(found["boxes"]) == 1
                assert not entity["boxes"] or found == entity, "gold boxes stay"
    assert report["dataset"] == "folder"
    assert json.loads((output / "weak_boxes.json").read_text()) == report
    train = report["splits"]["train"]
    assert (train["sentences"], train["images"], train["share_with_box"]) == (12, 12, 1.0)
    assert train["weak"] + train["gold"] == train["entities"] == len(entities_of({"train": before["train"]}))
    assert train["gold"] == sum(bool(entity["boxes"]) for entity in entities_of({"train": before["train"]}))


def test_each_box_says_where_it_is_from(posts, model_folder, tmp_path):
    report = write_weak_boxes(load(posts), tmp_path / "out", model_folder)
    records = records_of(tmp_path / "out")
    queries = build_queries(["PER", "LOC", "ORG", "MISC"], "annotation")
    assert {record["source"] for record in records} == {"gold", "weak"}
    for record in records:
        if record["source"] == "weak":
            assert set(record) == {"id", "start", "end", "boxes", "source", "model", "revision", "query", "score"}
            assert record["query"] in queries.values()
            assert 0 <= record["score"] <= 1
            assert (record["model"], record["revision"]) == ("fa-vg", report["revision"])
    assert len(report["revision"]) == 12


def test_boxes_are_those_of_the_model(posts, model_folder, tmp_path):
    dataset = load(posts)
    output = tmp_path / "out"
    report = write_weak_boxes(dataset, output, model_folder, queries=WeakQueries("mention"), replaces_gold=True)
    assert {record["source"] for record in records_of(output)} == {"weak"}
    rows = list(dataset["test"])
    found = recognize_entities(*load_grounding(model_folder), rows)
    for row, example in zip(load(output)["test"], found, strict=True):
        for entity, box in zip(row["entities"], example["query_boxes"], strict=True):
            assert entity["boxes"][0] == pytest.approx(box["box"], abs=1e-3)  # the same rows in other batches
    asked = [
        (box["box"], e["boxes"])
        for x, y in zip(found, rows, strict=True)
        for box, e in zip(x["query_boxes"], y["entities"], strict=True)
        if e["boxes"]
    ]
    expected = score_grounding([box for box, _ in asked], [gold for _, gold in asked])
    assert report["splits"]["test"]["agreement"] == pytest.approx(expected, abs=1e-4)
    mentions = {" ".join(row["tokens"][e["start"] : e["end"]]) for row in dataset["train"] for e in row["entities"]}
    assert mentions <= {record["query"] for record in records_of(output)}


def test_a_type_is_asked_once_for_all_its_entities():
    entities = [{"start": i, "end": i + 1, "type": t, "boxes": []} for i, t in enumerate(["LOC", "PER", "LOC"])]
    example = {"id": "1", "tokens": ["a", "b", "c"], "entities": entities}
    questions = list_questions(example, WeakQueries(style="keyword").describe(["PER", "LOC", "ORG"]))
    assert [(q.text, [e["start"] for e in q.entities]) for q in questions] == [("Person", [1]), ("Location", [0, 2])]
    own = WeakQueries(texts={"PER": "Who?"}).describe(["PER"])
    assert list_questions(example, own)[0].text == "Who?"
    mentions = list_questions(example, WeakQueries("mention").describe(["PER", "LOC", "ORG"]))
    assert [question.text for question in mentions] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="`query='words'` is not known; choose one of type, mention"):
        WeakQueries("words")


def test_unsure_boxes_are_left_out_without_asking_anew(posts, model_folder, tmp_path, monkeypatch):
    output = tmp_path / "out"
    write_weak_boxes(load(posts), output, model_folder)
    scores = sorted(record["score"] for record in records_of(output) if record["source"] == "weak")
    limit = scores[len(scores) // 2]
    monkeypatch.setattr(weak_boxes, "ask", lambda *_: pytest.fail("it was asked before"))
    report = write_weak_boxes(load(posts), output, model_folder, min_score=limit)
    kept = [record["score"] for record in records_of(output) if record["source"] == "weak"]
    assert sorted(kept) == [score for score in scores if score >= limit]
    assert report["splits"]["train"]["share_with_box"] < 1
    with pytest.raises(ValueError, match=r"`min_score` is 2; expected a confidence in \[0, 1\]"):
        write_weak_boxes(load(posts), output, model_folder, min_score=2)


def test_a_stopped_run_goes_on(posts, model_folder, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    monkeypatch.setattr(weak_boxes, "CHUNK", 3)
    write_weak_boxes(load(posts), whole, model_folder)

    def stop_after_two(chunks):
        yield from list(chunks)[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_weak_boxes(load(posts), stopped, model_folder, progress=stop_after_two)
    with (stopped / "weak_answers.jsonl").open("a") as file:
        file.write('{"split": "train", "row": 9')  # as a kill in the middle of a line leaves it
    asked = []
    monkeypatch.setattr(weak_boxes, "ask", lambda *args, ask=weak_boxes.ask: asked.extend(args[2]) or ask(*args))
    write_weak_boxes(load(posts), stopped, model_folder)
    assert {path.name for path in stopped.iterdir()} == {path.name for path in whole.iterdir()}
    for name in ("boxes.jsonl", "weak_boxes.json", "weak_answers.jsonl", "train.txt"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    with_entities = sum(bool(row) for part in load(posts).values() for row in part["entities"])
    assert len(asked) == with_entities - 6


def test_other_settings_texts_or_folders_are_refused(posts, model_folder, tmp_path):
    output = tmp_path / "out"
    dataset = load(posts)
    write_weak_boxes(dataset, output, model_folder)
    with pytest.raises(ValueError, match=r"answers to other settings \(queries\); choose another output folder"):
        write_weak_boxes(dataset, output, model_folder, queries=WeakQueries(style="keyword"))
    other = {**dataset, "train": dataset["train"].select(reversed(range(12)))}
    with pytest.raises(ValueError, match="has answers for other texts"):
        write_weak_boxes(other, output, model_folder)
    with pytest.raises(FileExistsError, match="is not empty; choose a new one"):
        write_weak_boxes(dataset, posts, model_folder)


def test_an_image_that_cannot_be_read_stops_or_is_skipped(posts, model_folder, tmp_path, caplog):
    dataset = load(posts)
    bad = next(row["id"] for row in dataset["train"].remove_columns("image") if row["entities"])
    path = posts / "images" / f"{bad}.png"
    path.write_bytes(path.read_bytes()[:200])  # the header is whole
    with pytest.raises(ValueError, match="cannot be decoded"):
        write_weak_boxes(dataset, tmp_path / "out", model_folder)
    report = write_weak_boxes(dataset, tmp_path / "out", model_folder, on_error="skip")
    assert [item["id"] for item in report["splits"]["train"]["skipped"]] == [bad]
    assert f"No box for {bad} (train)" in caplog.text
    after = load(tmp_path / "out")["train"]
    assert {row["id"]: row["image"] for row in after}[bad] is None
    assert len(after) == 12
    assert report["splits"]["train"]["images"] == 11


def test_texts_without_image_keep_their_gold_boxes(posts, model_folder, tmp_path, caplog):
    shutil.rmtree(posts / "images")
    before = load(posts)
    report = write_weak_boxes(before, tmp_path / "out", model_folder, replaces_gold=True)
    assert "No text has both an image and an entity" in caplog.text
    assert entities_of(load(tmp_path / "out")) == entities_of(before)
    assert [(part["queries"], part["weak"], part["agreement"]) for part in report["splits"].values()] == [
        (0, 0, None)
    ] * 2


def test_links_embedded_images_and_odd_ids(planted, model_folder, tmp_path):
    dataset = load(planted)
    write_weak_boxes(dataset, tmp_path / "linked", model_folder, links_images=True)
    assert all(path.is_symlink() for path in (tmp_path / "linked/images").iterdir())
    write_weak_boxes(dataset, tmp_path / "linked", model_folder)  # copies take the place of links
    assert not any(path.is_symlink() for path in (tmp_path / "linked/images").iterdir())
    assert all(path.is_file() for path in (planted / "images").iterdir())
    embedded = PlantedSignal().dataset("train", 4).map(lambda row, i: {**row, "id": f"a/{i // 2}"}, with_indices=True)
    write_weak_boxes({"train": embedded}, tmp_path / "odd", model_folder)
    after = load(tmp_path / "odd")["train"]
    assert after["id"][:] == ["a_0", "a_0-2", "a_1", "a_1-2"]
    assert after["entities"][:] == embedded["entities"][:]
    assert [image.tobytes() for image in after["image"]] == [image.tobytes() for image in embedded["image"]]


def test_other_models_are_refused(planted, tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint \(config\.json\); expected the folder"):
        load_grounding(tmp_path)
    tiny_mner_qg().config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["MnerQgForMultimodalNer"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="a MnerQgForMultimodalNer; expected a MnerQgForVisualGrounding"):
        load_grounding(tmp_path)


# ---------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe that trains a tiny FA-VG on a folder's entities."""
    vision = {**tiny_resnet_config().to_diff_dict(), "model_type": "resnet"}
    values = {
        "system": "mner_qg",
        "task": "grounding",
        "dataset": "folder",
        "backbone": str(tiny_encoder_folder(tmp_path / "encoder")),
        "vision_config": {
            k: vision[k] for k in ("model_type", "embedding_size", "hidden_sizes", "depths", "layer_type")
        },
        "model": {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64},
        "max_length": 64,
        "query_max_length": 16,
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0},
    }
    path = tmp_path / "fa-vg.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(*arguments: object):
    return CliRunner().invoke(main.app, ["data", "weak-boxes", "folder", *map(str, arguments)])


def test_a_recipe_is_trained_first_and_once(posts, planted, recipe, tmp_path, monkeypatch):
    output = tmp_path / "out"
    command = (output, "--data-dir", posts, "--recipe", recipe, "--phrases-dir", planted, "--fine-tune")
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "agreement with gold: Accu@0.5" in result.output
    report = json.loads((output / "weak_boxes.json").read_text())
    assert report["recipe"] == {"file": "fa-vg.yaml", "dataset": "folder"}
    assert (report["model"], report["is_fine_tuned"]) == ("fine-tuned-model", True)
    assert load_grounding(output / "grounding-model")[0].device.type
    monkeypatch.setattr("hf_mner.training.mner_qg.fit_model", lambda *_, **__: pytest.fail("it is trained"))
    before = (output / "boxes.jsonl").read_bytes()
    assert run(*command, "--min-score", 0).exit_code == 0
    assert (output / "boxes.jsonl").read_bytes() == before
    found = [len(entity["boxes"]) for entity in entities_of(load(output))]
    assert set(found) <= {0, 1}, "the box of a model that learned little may miss the image"
    assert sum(found) > len(found) / 2
    with pytest.raises(ValueError, match="holds a fine-tuning with other settings"):
        raise run(*command, "--query", "mention").exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give one of `--model` .* and `--recipe`"),
        (("--model", ".", "--recipe", "."), "not both or none"),
        (("--model", "MODEL", "--set", "seed=1"), "`--set` replaces values of a recipe"),
        (("--model", "MODEL", "--fine-tune"), "`--model` is .*recipe.yaml', which does not exist; expected a folder"),
        (("--recipe", "RECIPE", "--set", "task=recognition"), "expected `system: mner_qg` and `task: grounding`"),
    ],
)
def test_commands_that_make_no_sense(planted, model_folder, recipe, tmp_path, arguments, message):
    places = {"MODEL": model_folder, "RECIPE": recipe}
    result = run(tmp_path / "out", "--data-dir", planted, *(places.get(word, word) for word in arguments))
    assert result.exit_code != 0
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        raise result.exception


def test_fine_tuning_needs_gold_boxes(posts, model_folder, recipe, tmp_path):
    from hf_mner.training.recipes import load_recipe
    from hf_mner.training.weak_boxes import fine_tune

    (posts / "boxes.jsonl").unlink()
    with pytest.raises(ValueError, match="`--fine-tune` needs training texts with an image and a gold box"):
        fine_tune(model_folder, load_recipe(recipe), load(posts), WeakQueries(), tmp_path / "out")
