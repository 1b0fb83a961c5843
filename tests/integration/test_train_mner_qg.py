"""MNER-QG from a recipe to a checkpoint, on ten planted-signal posts: the joint model, text alone, boxes alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from planted_posts import (
    NUM_POSTS,
    RESNET,
    StopAfterFirstEpoch,
    posts_of,
    same_weights,
    tiny_backbones,
    write_planted_posts,
)
from tiny import TYPES
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor
from typer.testing import CliRunner

import hf_mner
from hf_mner.cli import main
from hf_mner.evaluation import evaluate_model
from hf_mner.hub.compact import write_compact_checkpoint
from hf_mner.hub.model_card import render_model_card
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.mner_qg.modeling_mner_qg import (
    MnerQgForMultimodalNer,
    MnerQgForVisualGrounding,
    MnerQgPreTrainedModel,
)
from hf_mner.training.recipes import GroundingRecipe, MnerQgRecipe, load_recipe
from hf_mner.training.run import recipe_values, train_from_recipe
from hf_mner.training.trainer import TrustYourTeacherTrainer

KINDS = ("joint", "text", "grounding")
TINY = {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64, "classifier_dropout": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_planted_posts(tmp_path_factory.mktemp("planted") / "posts")


@pytest.fixture(scope="module")
def backbones(data, tmp_path_factory) -> dict[str, str]:
    return tiny_backbones(data, tmp_path_factory.mktemp("backbones"))


def tiny_recipe(backbones: dict[str, str], kind: str = "joint", epochs: int = 25, **model: Any) -> MnerQgRecipe:
    rates = {"learning_rate": 1e-3, "head_learning_rate": 3e-3}
    if kind in ("joint", "grounding"):  # the kinds that train the image encoder
        rates["vision_learning_rate"] = 3e-3
    fields: dict[str, Any] = {"vision_config": RESNET}
    if kind == "joint":  # a hundred steps are few: most of them go into the entities
        model = {"grounding_weight": 0.1, **model}
    elif kind == "frozen":
        fields = {"vision_backbone": backbones["vision"]}
        model = {"is_vision_frozen": True, "has_feature_pyramid": True, **model}
    elif kind == "text":
        fields, model = {}, {"modality": "text", **model}
    elif kind == "grounding":
        fields["task"] = "grounding"
    return MnerQgRecipe(
        system="mner_qg",
        dataset="folder",
        backbone=backbones["text"],
        query_style="keyword",
        query_max_length=16,
        text_kwargs={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        model={**TINY, **model},
        training=GroundingRecipe(epochs=epochs, batch_size=2, weight_decay=0.01, warmup=0.1, **rates),
        **fields,
    )


@pytest.fixture(scope="module", params=KINDS)
def trained(request, data, backbones, tmp_path_factory):
    folder, recipe = tmp_path_factory.mktemp("run") / "run", tiny_recipe(backbones, request.param)
    return folder, train_from_recipe(recipe, folder, data), recipe


def without(data: Path, output: Path, name: str) -> Path:
    """Copy the posts without one file or folder of theirs."""
    shutil.copytree(data, output)
    shutil.rmtree(output / name) if (output / name).is_dir() else (output / name).unlink()
    return output


# ------------------------------------------------------------------------------------------------------------ one run


def test_run_leaves_a_whole_checkpoint(trained):
    folder, model, recipe = trained
    assert type(model) is (MnerQgForVisualGrounding if recipe.task == "grounding" else MnerQgForMultimodalNer)
    assert not model.training
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "checkpoints").exists(), "states of the optimizer are not kept"
    log = json.loads((folder / "log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == recipe.training.epochs
    assert min(losses) < 0.5 * losses[0]
    metric = "eval_accu@0.5" if recipe.task == "grounding" else "eval_f1"
    assert max(entry[metric] for entry in log if metric in entry) > 0.1, "else the tests below say nothing"
    config = AutoModel.from_pretrained(folder).config
    assert {name: getattr(config, name) for name in recipe.model} == recipe.model
    assert list(config.id2label.values()) == TYPES
    assert config.has_grounding == (recipe.reads_images_itself)


def test_loaded_model_gives_the_same_entities_and_boxes(trained, data):
    folder, model, recipe = trained
    posts = posts_of(data)
    loaded, processor = AutoModelForTokenClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(loaded) is type(model)
    before = recognize_entities(model, processor, posts)
    assert recognize_entities(loaded, processor, posts) == before
    found = [entity for example in before for entity in example["entities"]]
    assert len(found) > 2, "else this test says nothing"
    assert any(entity["boxes"] for entity in found) == recipe.reads_images_itself


def test_pipeline_gives_the_same_entities_and_boxes(trained, data):
    folder, model, recipe = trained
    posts = posts_of(data)
    if recipe.task == "grounding":  # a post of the pipeline has no entities: its text is the phrase
        posts = [{**post, "entities": None} for post in posts]
    expected = recognize_entities(model, AutoProcessor.from_pretrained(folder), posts)
    pipe = hf_mner.pipeline("multimodal-ner", model=str(folder))
    inputs = [{"tokens": post["tokens"], "image": post["image"]} for post in posts]
    for entities, post in zip(pipe(inputs, batch_size=5), expected, strict=True):
        words = [" ".join(post["tokens"][entity["start"] : entity["end"]]) for entity in post["entities"]]
        assert [entity["word"] for entity in entities] == words
        assert [entity["entity_group"] for entity in entities] == [entity["type"] for entity in post["entities"]]
        for one, other in zip(entities, post["entities"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
            assert len(one["boxes"]) == len(other["boxes"])
            for box, same in zip(one["boxes"], other["boxes"], strict=True):
                corners = [box["box"][name] for name in ("xmin", "ymin", "xmax", "ymax")]
                assert corners == pytest.approx(same["box"], abs=1e-2)  # pixels; float32 sums differ by batch


def test_command_line_scores_the_checkpoint(trained, data, tmp_path):
    folder, model, recipe = trained
    arguments = ["--model", str(folder), "--dataset", "folder", "--data-dir", str(data)]
    result = CliRunner().invoke(main.app, ["evaluate", *arguments, "--output", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    expected = evaluate_model(model, AutoProcessor.from_pretrained(folder), posts_of(data))
    assert scores["examples"] == NUM_POSTS
    assert ("entities" in scores) == (recipe.task == "recognition")
    assert ("grounding" in scores) == ("grounding\naccu@0.5" in result.output) == recipe.reads_images_itself
    if recipe.reads_images_itself:
        assert scores["grounding"] == pytest.approx(expected["grounding"])
        assert {"accu@0.5", "accu@0.75", "miou", "support"} <= set(scores["grounding"])
    if "entities" in scores:
        assert scores["entities"]["f1"] == pytest.approx(expected["entities"]["f1"])


def test_the_score_that_chose_the_epoch_is_that_of_the_metrics(trained, data):
    folder, model, recipe = trained
    log = json.loads((folder / "log.json").read_text())
    scores = evaluate_model(model, AutoProcessor.from_pretrained(folder), posts_of(data))
    if recipe.task == "recognition":
        best = max(entry["eval_f1"] for entry in log if "eval_f1" in entry)
        assert best == pytest.approx(scores["entities"]["f1"])
    else:
        assert recipe.task == "grounding"
        best = max(entry["eval_accu@0.5"] for entry in log if "eval_accu@0.5" in entry)
        # Boxes in the square and boxes in pixels have the same overlap, up to their clipping at the image's edge.
        assert best == pytest.approx(scores["grounding"]["accu@0.5"], abs=0.1)


def test_finished_run_is_not_trained_again(trained, data, monkeypatch):
    folder, model, recipe = trained

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrustYourTeacherTrainer, "train", refuse)
    again = train_from_recipe(recipe, folder, data)
    assert type(again) is type(model)
    assert same_weights(again, model)


def test_folder_of_another_recipe_is_refused(trained, data):
    folder, _, recipe = trained
    with pytest.raises(ValueError, match="holds the run of another recipe .*choose another output folder"):
        train_from_recipe(replace(recipe, seed=1), folder, data)


def test_a_compact_checkpoint_reads_as_the_whole_one(trained, data, tmp_path):
    folder, model, _ = trained
    compact = write_compact_checkpoint(folder, tmp_path / "compact")
    small = AutoModelForTokenClassification.from_pretrained(compact)
    assert type(small) is type(model)
    whole, restored = model.state_dict(), small.state_dict()
    assert whole.keys() == restored.keys()
    for name, value in whole.items():
        if value.ndim != 2:  # convolutions, normalisation and running means are kept in half precision, counts whole
            torch.testing.assert_close(restored[name], value, rtol=2**-10, atol=2**-24, msg=name)
    processor = AutoProcessor.from_pretrained(compact)
    one, other = (recognize_entities(m, processor, posts_of(data)) for m in (model, small))
    spans = [
        {(number, e["start"], e["end"], e["type"]) for number, post in enumerate(posts) for e in post["entities"]}
        for posts in (one, other)
    ]
    assert len(spans[0] & spans[1]) > 0.8 * len(spans[0])


def test_a_model_card_says_what_the_model_reads_and_gives(trained, data, tmp_path):
    folder, _, recipe = trained
    if recipe.task == "grounding":
        with pytest.raises(ValueError, match="grounds phrases and finds no entities"):
            render_model_card(folder, [])
        return
    arguments = ["--model", str(folder), "--dataset", "folder", "--data-dir", str(data)]
    result = CliRunner().invoke(main.app, ["evaluate", *arguments, "--output", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    card = render_model_card(folder, [tmp_path / "scores.json"])
    assert "MNER-QG for named entity recognition" in card
    assert "jia2023mnerqg" in card
    assert ("Accu@0.5" in card) == recipe.reads_images_itself
    assert ("It reads the image itself" in card) == recipe.reads_images_itself
    assert ("`boxes` is always empty" in card) != recipe.reads_images_itself


# ---------------------------------------------------------------------------------------------------------- stop, data


@pytest.mark.parametrize("kind", ["joint", "frozen", "grounding"])
def test_stopped_run_goes_on_and_ends_where_it_would_have(kind, data, backbones, tmp_path):
    recipe = tiny_recipe(backbones, kind, epochs=3, classifier_dropout=0.1)
    whole = train_from_recipe(recipe, tmp_path / "whole", data)
    with pytest.raises(InterruptedError, match="stopped"):
        train_from_recipe(recipe, tmp_path / "stopped", data, callbacks=[StopAfterFirstEpoch()])
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert len(list((tmp_path / "stopped" / "checkpoints").iterdir())) == 1
    resumed = train_from_recipe(recipe, tmp_path / "stopped", data)
    assert same_weights(resumed, whole), "running means and the balance of the losses are among them"
    log, expected = (json.loads((tmp_path / name / "log.json").read_text()) for name in ("stopped", "whole"))
    assert [e["loss"] for e in log if "loss" in e] == [e["loss"] for e in expected if "loss" in e]


def test_a_frozen_image_encoder_sees_each_image_once(data, backbones, tmp_path, monkeypatch):
    encode, calls = MnerQgPreTrainedModel.encode_images, []
    monkeypatch.setattr(
        MnerQgPreTrainedModel, "encode_images", lambda *args: calls.append(len(args[1])) or encode(*args)
    )
    model = train_from_recipe(tiny_recipe(backbones, "frozen", epochs=2), tmp_path / "run", data)
    assert sum(calls) == 2 * NUM_POSTS, "those of training and of validation, whatever the number of epochs"
    start = AutoModel.from_pretrained(backbones["vision"]).state_dict()
    kept = model.vision_model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in start.items() if name in kept)
    assert set(start) & set(kept)
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    assert (processor.image_mean, processor.image_std) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])


def test_an_image_encoder_that_learns_sees_images_in_every_step(data, backbones, tmp_path, monkeypatch):
    encode, calls = MnerQgPreTrainedModel.encode_images, []
    monkeypatch.setattr(
        MnerQgPreTrainedModel, "encode_images", lambda *args: calls.append(len(args[1])) or encode(*args)
    )
    train_from_recipe(tiny_recipe(backbones, "joint", epochs=2), tmp_path / "run", data)
    assert sum(calls) == 2 * 2 * NUM_POSTS


@pytest.mark.parametrize("missing", ["boxes.jsonl", "images"])
def test_without_boxes_no_grounding_is_learned(missing, data, backbones, tmp_path, caplog):
    posts = without(data, tmp_path / "posts", missing)
    model = train_from_recipe(tiny_recipe(backbones, epochs=1), tmp_path / "run", posts)
    assert "No training text has a box: `grounding_weight` becomes 0, and the model gives no boxes." in caplog.text
    assert ("No training text has an image" in caplog.text) == (missing == "images")
    assert model.config.grounding_weight == 0
    assert not hasattr(model, "grounding")
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path / "run")
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    found = recognize_entities(loaded, processor, posts_of(posts))
    assert not any(entity["boxes"] for example in found for entity in example["entities"])
    assert "grounding" not in evaluate_model(loaded, processor, posts_of(data)), "boxes that it does not give"


def test_grounding_alone_needs_boxes(data, backbones, tmp_path):
    posts = without(data, tmp_path / "posts", "boxes.jsonl")
    with pytest.raises(ValueError, match="has no training rows"):
        train_from_recipe(tiny_recipe(backbones, "grounding", epochs=1), tmp_path / "run", posts)


def test_posts_with_and_without_an_image_share_a_training(data, backbones, tmp_path):
    posts = shutil.copytree(data, tmp_path / "posts")
    for image in sorted((posts / "images").iterdir())[::2]:
        image.unlink()
    model = train_from_recipe(tiny_recipe(backbones, epochs=2), tmp_path / "run", posts)
    assert model.config.has_grounding
    found = recognize_entities(model, AutoProcessor.from_pretrained(tmp_path / "run"), posts_of(posts))
    assert all(bool(example["query_boxes"]) <= (example["image"] is not None) for example in found)


# ------------------------------------------------------------------------------------------------------------ recipes


@pytest.fixture
def recipe_file(backbones, tmp_path) -> Path:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(tiny_recipe(backbones, epochs=1))))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.hiden_size": 8},
            r"`model` must be fields of `MnerQgConfig` \(classifier_dropout, modality, hidden_size, .*'hiden_size'",
        ),
        ({"model.vision_config": {}}, "`model` must be fields of `MnerQgConfig` .*'vision_config'"),
        ({"model.hidden_size": 33}, "`hidden_size=33` cannot be cut into `num_attention_heads=2`; choose a multiple"),
        ({"model.image_size": 100}, "`image_size=100` must be a multiple of 32"),
        ({"model.modality": "picture"}, "modality.*'text_image', 'text'.*picture"),
        ({"model.object_loss": "focal"}, "object_loss.*'bce', 'cross_entropy'.*focal"),
        ({"model.grounding_weight": -1}, "`grounding_weight` must be 0 or more, got -1"),
        ({"vision_config": None}, "`vision_backbone` must be given, or `vision_config`, but not both, got None"),
        ({"vision_backbone": "a"}, "`vision_backbone` must be given, or `vision_config`, but not both, got 'a'"),
        ({"model.modality": "text"}, "`vision_config` must be left out for `model: {modality: text}`"),
        (
            {"model.modality": "text", "vision_config": None, "task": "grounding"},
            "`task` must be 'recognition' for `model: {modality: text}`, got 'grounding'",
        ),
        ({"task": "spans"}, "task.*'recognition', 'grounding'.*spans"),
        ({"query_style": "poem"}, "query_style.*'keyword', .*poem"),
        ({"training.crf_learning_rate": 0.1}, r"training has keys that nothing reads: \['crf_learning_rate'\]"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(recipe_file, changes, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(recipe_file, changes)


def test_a_query_for_a_type_that_is_not_there_is_refused(data, backbones, tmp_path):
    recipe = replace(tiny_recipe(backbones, "text", epochs=1), queries={"SHIP": "Ship: names of ships"})
    with pytest.raises(ValueError, match="`queries` asks for 'SHIP', which is not one of the types PER, LOC, ORG, M"):
        train_from_recipe(recipe, tmp_path / "run", data)


def test_a_sweep_runs_table_3(recipe_file, data):
    output = recipe_file.parent / "sweep"
    command = ["sweep", str(recipe_file), "--data-dir", str(data), "--output", str(output)]
    result = CliRunner().invoke(main.app, [*command, "--over", "model.grounding_weight=1,0"])
    assert result.exit_code == 0, result.output
    report = json.loads((output / "sweep.json").read_text())
    assert [run["settings"] for run in report["runs"]] == [
        {"model.grounding_weight": 1},
        {"model.grounding_weight": 0},
    ]
    folders = sorted(path.parent for path in output.rglob("model.safetensors"))
    assert [AutoModel.from_pretrained(folder).config.grounding_weight for folder in folders] == [0, 1]
