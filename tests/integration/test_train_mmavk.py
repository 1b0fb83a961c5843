"""MMAVK from a recipe to a checkpoint, on a folder of six posts with images: every fusion of Table 4."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import TYPES, tiny_encoder_folder, tiny_examples, tiny_image, tiny_resnet_config
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor, TrainerCallback
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from typer.testing import CliRunner

import hf_mner
from hf_mner.cli import main
from hf_mner.data import load_mner_dataset
from hf_mner.data.labels import bio_labels, encode_bio
from hf_mner.evaluation import evaluate_model
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.mmavk.configuration_mmavk import FUSIONS
from hf_mner.models.mmavk.modeling_mmavk import MmavkForTokenClassification
from hf_mner.training import run
from hf_mner.training.mmavk import MmavkTraining, mmavk_processor
from hf_mner.training.recipes import MmavkRecipe, TaggingRecipe
from hf_mner.training.run import examples_of, recipe_values, train_from_recipe
from hf_mner.training.trainer import TrustYourTeacherTrainer


class NamedPlaces:
    """A knowledge source that says, in place of a multimodal model, which words are names; one post has no text."""

    column, needs_entities = "auxiliary", False

    def __call__(self, examples) -> list[str | None]:
        names = [" and ".join(word for word in example["tokens"] if word[0].isupper()) for example in examples]
        return [f"The image shows {text}" if text != "I" else None for text in names]


class StopAfterFirstEpoch(TrainerCallback):
    """Ends the process, as it were, as soon as the first checkpoint is written."""

    def on_save(self, args, state, control, **kwargs):
        raise InterruptedError("stopped")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set `folder` whose splits hold the same six posts."""
    folder = tmp_path_factory.mktemp("posts")
    (folder / "images").mkdir()
    lines = []
    for number, example in enumerate(tiny_examples()):
        spans = [(entity["start"], entity["end"], entity["type"]) for entity in example["entities"]]
        tags = encode_bio(spans, len(example["tokens"]))
        words = [f"{word}\t{tag}" for word, tag in zip(example["tokens"], tags, strict=True)]
        lines += [f"IMGID:{number}", *words, ""]
        if number != 2:
            tiny_image((40 * number, 200 - 30 * number, 90)).save(folder / "images" / f"{number}.png")
    for split in ("train", "validation", "test"):
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    AutoModel.from_config(tiny_resnet_config()).save_pretrained(folder / "vision")
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder / "vision")
    return {"text": str(tiny_encoder_folder(folder / "text")), "vision": str(folder / "vision")}


def tiny_recipe(backbones: dict[str, str], fusion: str, epochs: int = 14) -> MmavkRecipe:
    rates = {"learning_rate": 5e-3, "head_learning_rate": 1e-2, "crf_learning_rate": 5e-2}
    return MmavkRecipe(
        system="mmavk",
        dataset="folder",
        backbone=backbones["text"],
        vision_backbone=backbones["vision"] if fusion == "prefix" else None,
        fusion=fusion,
        max_length=64,
        knowledge_max_length=32,
        training=TaggingRecipe(epochs=epochs, batch_size=2, weight_decay=0.01, warmup=0.1, **rates),
    )


@pytest.fixture(scope="module")
def with_source():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "open_sources", lambda *_: [NamedPlaces()])
        yield


@pytest.fixture(scope="module", params=FUSIONS)
def trained(request, data, backbones, with_source, tmp_path_factory):
    folder, recipe = tmp_path_factory.mktemp("run") / "run", tiny_recipe(backbones, request.param)
    return folder, train_from_recipe(recipe, folder, data), recipe


def posts_of(data: Path) -> list[dict[str, Any]]:
    examples = examples_of(load_mner_dataset("folder", data)["test"], has_images=True)
    return [{**e, "knowledge": {"auxiliary": text}} for e, text in zip(examples, NamedPlaces()(examples), strict=True)]


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    values = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())


# ------------------------------------------------------------------------------------------------------------ one run


def test_run_leaves_a_whole_checkpoint(trained):
    folder, _, recipe = trained
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "checkpoints").exists(), "states of the optimizer are not kept"
    assert not (folder / "unfinished").exists()
    log = json.loads((folder / "log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == recipe.training.epochs
    assert losses[-1] < 0.5 * losses[0]
    config = AutoModel.from_pretrained(folder).config
    assert config.fusion == recipe.fusion
    assert config.similarity_threshold == recipe.similarity_threshold
    assert list(config.id2label.values()) == bio_labels(TYPES)


def test_loaded_model_and_pipeline_give_the_same_entities(trained, data):
    folder, model, recipe = trained
    posts = posts_of(data)
    before = recognize_entities(model, mmavk_processor(recipe), posts)
    assert sum(len(example["entities"]) for example in before) > 4, "else this test says nothing"
    loaded, processor = AutoModelForTokenClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert recognize_entities(loaded, processor, posts) == before
    pipe = hf_mner.pipeline("multimodal-ner", model=str(folder))
    inputs = [{name: post[name] for name in ("tokens", "image", "knowledge")} for post in posts]
    for entities, post in zip(pipe(inputs, batch_size=6), before, strict=True):
        text = " ".join(post["tokens"])
        assert [text[entity["start"] : entity["end"]] for entity in entities] == [e["word"] for e in entities]
        words = [" ".join(post["tokens"][entity["start"] : entity["end"]]) for entity in post["entities"]]
        assert [entity["word"] for entity in entities] == words
        assert [entity["entity_group"] for entity in entities] == [entity["type"] for entity in post["entities"]]
        scores = [entity["score"] for entity in post["entities"]]
        assert [entity["score"] for entity in entities] == pytest.approx(scores, abs=1e-5)


def test_what_was_learned_depends_on_what_the_fusion_reads(trained, data):
    folder, model, recipe = trained
    posts = posts_of(data)
    bare = [{**post, "image": None, "knowledge": None} for post in posts]
    processor = mmavk_processor(recipe)
    scores = [
        [
            entity["score"]
            for example in recognize_entities(model, processor, examples)
            for entity in example["entities"]
        ]
        for examples in (posts, bare)
    ]
    assert (scores[0] == scores[1]) == (recipe.fusion == "none")


def test_finished_run_is_not_trained_again(trained, data, monkeypatch):
    folder, model, recipe = trained

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrustYourTeacherTrainer, "train", refuse)
    assert same_weights(train_from_recipe(recipe, folder, data), model)


def test_folder_of_another_recipe_is_refused(trained, data):
    folder, _, recipe = trained
    with pytest.raises(ValueError, match="holds the run of another recipe .*choose another output folder"):
        train_from_recipe(replace(recipe, similarity_threshold=0.1), folder, data)


def test_command_line_scores_the_checkpoint(trained, data, tmp_path):
    folder, model, recipe = trained
    arguments = ["--model", str(folder), "--dataset", "folder", "--data-dir", str(data)]
    result = CliRunner().invoke(main.app, ["evaluate", *arguments, "--output", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    posts = [{**post, "knowledge": None} for post in posts_of(data)]
    expected = evaluate_model(model, mmavk_processor(recipe), posts)
    assert scores["entities"]["f1"] == pytest.approx(expected["entities"]["f1"])
    assert scores["examples"] == 6


# ---------------------------------------------------------------------------------------------------------- stop, best


@pytest.mark.parametrize("fusion", ["word_level", "prefix"])
def test_stopped_run_goes_on_and_ends_where_it_would_have(fusion, data, backbones, with_source, tmp_path):
    recipe = tiny_recipe(backbones, fusion, epochs=3)
    whole = train_from_recipe(recipe, tmp_path / "whole", data)
    with pytest.raises(InterruptedError, match="stopped"):
        train_from_recipe(recipe, tmp_path / "stopped", data, callbacks=[StopAfterFirstEpoch()])
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["checkpoint-3"]
    resumed = train_from_recipe(recipe, tmp_path / "stopped", data)
    assert same_weights(resumed, whole)
    log, expected = (json.loads((tmp_path / name / "log.json").read_text()) for name in ("stopped", "whole"))
    assert [e["loss"] for e in log if "loss" in e] == [e["loss"] for e in expected if "loss" in e]


class KeepEveryEpoch(TrainerCallback):
    """Remembers the weights after each epoch."""

    def __init__(self):
        self.states: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})


def test_the_best_epoch_is_kept(backbones, tmp_path, monkeypatch):
    recipe, kept, scores = tiny_recipe(backbones, "none", epochs=3), KeepEveryEpoch(), iter([0.1, 0.9, 0.5])
    monkeypatch.setattr(MmavkTraining, "score", lambda *_: {"f1": next(scores)})
    examples = tiny_examples()
    MmavkTraining(recipe, examples, examples, TYPES, tmp_path / "run", callbacks=[kept]).run()
    saved = AutoModel.from_pretrained(tmp_path / "run").state_dict()
    is_equal = [all(torch.equal(value, state[name]) for name, value in saved.items()) for state in kept.states]
    assert is_equal == [False, True, False]


def test_without_validation_the_last_epoch_is_kept(data, backbones, tmp_path):
    kept, recipe = KeepEveryEpoch(), tiny_recipe(backbones, "none", epochs=2)
    recipe.train_splits = ["train", "validation"]
    model = train_from_recipe(recipe, tmp_path / "run", data, callbacks=[kept])
    assert len(kept.states) == 2
    assert all(torch.equal(value, kept.states[-1][name]) for name, value in model.state_dict().items())


def test_a_folder_with_a_training_file_alone_is_enough(data, backbones, tmp_path):
    shutil.copytree(data, tmp_path / "posts")
    for split in ("validation", "test"):
        (tmp_path / "posts" / f"{split}.txt").unlink()
    train_from_recipe(tiny_recipe(backbones, "none", epochs=1), tmp_path / "run", tmp_path / "posts")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_validation_score_is_that_of_the_metrics(backbones, tmp_path):
    recipe, examples = tiny_recipe(backbones, "none"), tiny_examples()
    model = MmavkTraining(recipe, examples, examples, TYPES, tmp_path / "run").run()
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    best = max(entry["eval_f1"] for entry in log if "eval_f1" in entry)
    scores = evaluate_model(model, mmavk_processor(recipe), examples)
    assert 0 < best == pytest.approx(scores["entities"]["f1"])


# ---------------------------------------------------------------------------------------------- knowledge and teachers


def test_knowledge_dropout_hides_knowledge_from_training_alone(backbones, tmp_path, monkeypatch):
    seen = []
    rows_of = MmavkTraining.labelled_rows

    def watched(self, model, processor, examples):
        seen.append([(example["knowledge"] or {}).get("auxiliary") for example in examples])
        return rows_of(self, model, processor, examples)

    monkeypatch.setattr(MmavkTraining, "labelled_rows", watched)
    recipe = replace(tiny_recipe(backbones, "word_level", epochs=1), knowledge_dropout=1.0)
    examples = tiny_examples()
    MmavkTraining(recipe, examples, examples, TYPES, tmp_path / "run", [NamedPlaces()]).run()
    train, validation = seen
    assert not any(train)
    assert sum(text is not None for text in validation) == 5


def test_images_are_encoded_before_training_and_once(data, backbones, tmp_path, monkeypatch):
    encode, calls = MmavkForTokenClassification.encode_images, []
    monkeypatch.setattr(
        MmavkForTokenClassification, "encode_images", lambda *args: calls.append(len(args[1])) or encode(*args)
    )
    train_from_recipe(tiny_recipe(backbones, "prefix", epochs=2), tmp_path / "run", data)
    assert sum(calls) == 10, "five images of training and five of validation, whatever the number of epochs"


# -------------------------------------------------------------------------------------------------------------- sweep


@pytest.fixture
def recipe_file(backbones, tmp_path) -> Path:
    recipe = tiny_recipe(backbones, "none", epochs=1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe)))
    return tmp_path / "recipe.yaml"


def sweep(recipe_file: Path, data: Path, *arguments: str):
    command = ["sweep", str(recipe_file), "--data-dir", str(data), "--output", str(recipe_file.parent / "sweep")]
    return CliRunner().invoke(main.app, [*command, *arguments])


def test_a_sweep_scores_every_combination_once(recipe_file, data):
    over = ("--over", "fusion=none,concat", "--over", "seed=1,2,2")
    result = sweep(recipe_file, data, *over)
    assert result.exit_code == 0, result.output
    report = json.loads((recipe_file.parent / "sweep" / "sweep.json").read_text())
    assert [tuple(run["settings"].values()) for run in report["runs"]] == [
        ("none", 1),
        ("none", 2),
        ("concat", 1),
        ("concat", 2),
    ]
    assert [row["seeds"] for row in report["summary"]] == [2, 2]
    written = {path: path.stat().st_mtime_ns for path in recipe_file.parent.rglob("model.safetensors")}
    assert len(written) == 4
    assert sweep(recipe_file, data, *over).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is trained twice"


def test_a_sweep_refuses_runs_of_other_settings_and_checks_all_first(recipe_file, data):
    assert sweep(recipe_file, data, "--over", "seed=1").exit_code == 0
    other = sweep(recipe_file, data, "--over", "seed=1", "--set", "training.epochs=2")
    assert "holds the run of another recipe" in str(other.exception)
    wrong = sweep(recipe_file, data, "--over", "fusion=none,bogus")
    assert "fusion" in str(wrong.exception)
    assert not list((recipe_file.parent / "sweep").glob("fusion=none/model.safetensors"))


def test_a_training_without_knowledge_says_so(data, backbones, tmp_path, caplog):
    recipe = replace(tiny_recipe(backbones, "concat", epochs=1), knowledge_parts=["caption"])
    train_from_recipe(recipe, tmp_path / "run", data)
    assert "No training text has auxiliary text" in caplog.text


def test_a_misspelt_field_is_refused(backbones):
    with pytest.raises(TypeError, match="`MmavkConfig` has no field 'fusoin'; its own fields are .*fusion"):
        MmavkForTokenClassification.from_backbones(backbones["text"], fusoin="concat", id2label={0: "O"})
