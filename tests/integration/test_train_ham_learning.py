"""HamLearning from a recipe to a checkpoint, on ten planted-signal posts: with image and objects, and text alone."""

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
from hf_mner.data import bio_labels
from hf_mner.evaluation import evaluate_model
from hf_mner.hub.compact import write_compact_checkpoint
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.ham_learning.modeling_ham_learning import HamLearningForTokenClassification
from hf_mner.training.recipes import HamLearningRecipe, JointTaggingRecipe, load_recipe
from hf_mner.training.run import recipe_values, train_from_recipe
from hf_mner.training.trainer import TrustYourTeacherTrainer

KINDS = ("frozen", "learned", "text")
TINY = {"num_attention_heads": 2, "num_iterations": 1, "classifier_dropout": 0.0}
IMAGES = {"image_size": 64, "label_embedding_size": 8, "num_semantic_layers": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_planted_posts(tmp_path_factory.mktemp("planted") / "posts", with_knowledge=True)


@pytest.fixture(scope="module")
def backbones(data, tmp_path_factory) -> dict[str, str]:
    return tiny_backbones(data, tmp_path_factory.mktemp("backbones"))


def tiny_recipe(backbones: dict[str, str], kind: str = "frozen", epochs: int = 25, **model: Any) -> HamLearningRecipe:
    rates = {"learning_rate": 1e-3, "head_learning_rate": 3e-3, "crf_learning_rate": 1e-2}
    fields: dict[str, Any] = {}
    if kind == "frozen":
        fields, model = {"vision_backbone": backbones["vision"]}, {**IMAGES, **model}
    elif kind == "learned":
        fields, model = {"vision_config": RESNET}, {**IMAGES, "is_vision_frozen": False, **model}
    elif kind == "text":
        model = {"modality": "text", **model}
    return HamLearningRecipe(
        system="ham_learning",
        dataset="folder",
        knowledge=["knowledge.jsonl"],
        backbone=backbones["text"],
        max_objects=5,
        text_kwargs={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        model={**TINY, **model},
        training=JointTaggingRecipe(epochs=epochs, batch_size=2, weight_decay=0.01, warmup=0.1, **rates),
        **fields,
    )


@pytest.fixture(scope="module", params=KINDS)
def trained(request, data, backbones, tmp_path_factory):
    folder, recipe = tmp_path_factory.mktemp("run") / "run", tiny_recipe(backbones, request.param)
    return folder, train_from_recipe(recipe, folder, data), recipe


def shapes_of(data: Path) -> list[str]:
    """The classes of the objects that the posts' pictures show."""
    return sorted({item["label"] for post in posts_of(data) for item in post["knowledge"]["objects"]})


# ------------------------------------------------------------------------------------------------------------ one run


def test_run_leaves_a_whole_checkpoint(trained, data):
    folder, model, recipe = trained
    assert type(model) is HamLearningForTokenClassification
    assert not model.training
    assert (folder / "model.safetensors").is_file()
    assert not (folder / "checkpoints").exists(), "states of the optimizer are not kept"
    log = json.loads((folder / "log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == recipe.training.epochs
    assert min(losses) < 0.5 * losses[0]
    assert max(entry["eval_f1"] for entry in log if "eval_f1" in entry) > 0.3, "else the tests below say nothing"
    config = AutoModel.from_pretrained(folder).config
    assert {name: getattr(config, name) for name in recipe.model} == recipe.model
    assert list(config.id2label.values()) == bio_labels(TYPES)
    assert config.object_labels == (shapes_of(data) if recipe.reads_images_itself else [])


def test_processor_reads_as_the_recipe_says(trained):
    folder, model, recipe = trained
    processor = AutoProcessor.from_pretrained(folder)
    processor.check_model(model.config)
    assert (processor.max_objects, processor.max_length) == (5, 128)
    statistics = (processor.image_mean, processor.image_std)
    is_pretrained = recipe.vision_backbone is not None
    assert (statistics == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])) == is_pretrained


def test_loaded_model_gives_the_same_entities(trained, data):
    folder, model, recipe = trained
    loaded, processor = AutoModelForTokenClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert type(loaded) is type(model)
    before = recognize_entities(model, processor, posts_of(data))
    assert recognize_entities(loaded, processor, posts_of(data)) == before
    found = [entity for example in before for entity in example["entities"]]
    assert len(found) > 2, "else this test says nothing"
    assert all(entity["boxes"] == [] for entity in found)


def test_pipeline_gives_the_same_entities(trained, data):
    folder, model, _ = trained
    posts = posts_of(data)
    expected = recognize_entities(model, AutoProcessor.from_pretrained(folder), posts)
    pipe = hf_mner.pipeline("multimodal-ner", model=str(folder))
    inputs = [{name: post[name] for name in ("tokens", "image", "knowledge")} for post in posts]
    for entities, post in zip(pipe(inputs, batch_size=5), expected, strict=True):
        words = [" ".join(post["tokens"][entity["start"] : entity["end"]]) for entity in post["entities"]]
        assert [entity["word"] for entity in entities] == words
        assert [entity["entity_group"] for entity in entities] == [entity["type"] for entity in post["entities"]]
        for one, other in zip(entities, post["entities"], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)  # float32 sums differ by batch


def test_the_score_that_chose_the_epoch_is_that_of_the_metrics(trained, data):
    folder, model, _ = trained
    log = json.loads((folder / "log.json").read_text())
    scores = evaluate_model(model, AutoProcessor.from_pretrained(folder), posts_of(data))
    best = max(entry["eval_f1"] for entry in log if "eval_f1" in entry)
    assert best == pytest.approx(scores["entities"]["f1"])


def test_command_line_scores_the_checkpoint(trained, data, tmp_path):
    folder, model, _ = trained
    arguments = ["--model", str(folder), "--dataset", "folder", "--data-dir", str(data)]
    result = CliRunner().invoke(main.app, ["evaluate", *arguments, "--output", str(tmp_path / "scores.json")])
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    expected = evaluate_model(model, AutoProcessor.from_pretrained(folder), posts_of(data))
    assert scores["examples"] == NUM_POSTS
    assert scores["entities"]["f1"] == pytest.approx(expected["entities"]["f1"])


def test_finished_run_is_not_trained_again(trained, data, monkeypatch):
    folder, model, recipe = trained

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrustYourTeacherTrainer, "train", refuse)
    again = train_from_recipe(recipe, folder, data)
    assert type(again) is type(model)
    assert same_weights(again, model)
    with pytest.raises(ValueError, match="holds the run of another recipe .*choose another output folder"):
        train_from_recipe(replace(recipe, seed=1), folder, data)


def test_a_compact_checkpoint_reads_as_the_whole_one(trained, data, tmp_path):
    folder, model, _ = trained
    compact = write_compact_checkpoint(folder, tmp_path / "compact")
    small, processor = AutoModelForTokenClassification.from_pretrained(compact), AutoProcessor.from_pretrained(compact)
    one, other = (recognize_entities(m, processor, posts_of(data)) for m in (model, small))
    spans = [
        {(number, e["start"], e["end"], e["type"]) for number, post in enumerate(posts) for e in post["entities"]}
        for posts in (one, other)
    ]
    assert len(spans[0] & spans[1]) > 0.8 * len(spans[0])


# ---------------------------------------------------------------------------------------------------------- stop, data


@pytest.mark.parametrize("kind", ["frozen", "learned"])
def test_stopped_run_goes_on_and_ends_where_it_would_have(kind, data, backbones, tmp_path):
    recipe = tiny_recipe(backbones, kind, epochs=3, classifier_dropout=0.1)
    whole = train_from_recipe(recipe, tmp_path / "whole", data)
    with pytest.raises(InterruptedError, match="stopped"):
        train_from_recipe(recipe, tmp_path / "stopped", data, callbacks=[StopAfterFirstEpoch()])
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert len(list((tmp_path / "stopped" / "checkpoints").iterdir())) == 1
    resumed = train_from_recipe(recipe, tmp_path / "stopped", data)
    assert same_weights(resumed, whole)
    log, expected = (json.loads((tmp_path / name / "log.json").read_text()) for name in ("stopped", "whole"))
    assert [e["loss"] for e in log if "loss" in e] == [e["loss"] for e in expected if "loss" in e]


@pytest.mark.parametrize(("kind", "times"), [("frozen", 2), ("learned", 2 * 2)])
def test_a_frozen_image_encoder_sees_each_image_once(kind, times, data, backbones, tmp_path, monkeypatch):
    """In training and in validation; one that learns sees them in every epoch."""
    encode, calls = HamLearningForTokenClassification.encode_images, []
    monkeypatch.setattr(
        HamLearningForTokenClassification, "encode_images", lambda *args: calls.append(len(args[1])) or encode(*args)
    )
    model = train_from_recipe(tiny_recipe(backbones, kind, epochs=2), tmp_path / "run", data)
    assert sum(calls) == times * NUM_POSTS
    start = AutoModel.from_pretrained(backbones["vision"]).state_dict()
    kept = model.vision_model.state_dict()
    assert set(start) & set(kept)
    assert all(torch.equal(value, kept[name]) for name, value in start.items() if name in kept) == (kind == "frozen")


def test_posts_with_and_without_an_image_or_objects_share_a_training(data, backbones, tmp_path, caplog):
    posts = shutil.copytree(data, tmp_path / "posts")
    for image in sorted((posts / "images").iterdir())[::2]:
        image.unlink()
    told = (posts / "knowledge.jsonl").read_text().splitlines()
    bare = [json.dumps({**json.loads(line), "objects": []}) for line in told[:6]]
    (posts / "knowledge.jsonl").write_text("\n".join([*bare, *told[6:]]) + "\n")
    model = train_from_recipe(tiny_recipe(backbones, epochs=2), tmp_path / "run", posts)
    assert f"5 of {NUM_POSTS} training texts have no image: they are read as text alone." in caplog.text
    assert f"of {NUM_POSTS} training texts have an image without objects, which stands as one" in caplog.text
    found = recognize_entities(model, AutoProcessor.from_pretrained(tmp_path / "run"), posts_of(posts))
    assert len(found) == NUM_POSTS


# ------------------------------------------------------------------------------------------------------------ recipes


@pytest.fixture
def recipe_file(backbones, tmp_path) -> Path:
    values = recipe_values(tiny_recipe(backbones, "learned", epochs=1))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.num_iteration": 2}, r"`model` must be fields of `HamLearningConfig` \(.*views.*\), got \['num_iter"),
        ({"model.object_labels": ["cup"]}, r"`model` must be fields of `HamLearningConfig`.*got \['object_labels'\]"),
        ({"model.vision_config": {}}, "`model` must be fields of `HamLearningConfig` .*'vision_config'"),
        ({"model.views": []}, r"`views=\[\]` looks at no image"),
        ({"model.views": ["global"]}, "'views'.*'global'"),
        ({"model.image_size": 100}, "`image_size=100` must be a multiple of 32"),
        ({"model.num_iterations": 0}, "`num_iterations` must be 1 or more, got 0"),
        ({"vision_config": None}, "`vision_backbone` must be given, or `vision_config`, but not both, got None"),
        ({"vision_backbone": "a"}, "`vision_backbone` must be given, or `vision_config`, but not both, got 'a'"),
        (
            {"vision_config": {"model_type": "eye"}},
            "`vision_config` must be with a known `model_type`, such as resnet",
        ),
        ({"model.modality": "text"}, "`vision_config` must be left out for `model: {modality: text}`"),
        ({"max_length": 8}, "`max_length` must be 16 tokens or more, got 8"),
        ({"max_objects": 0}, "`max_objects` must be 1 or more, got 0"),
        ({"query_style": "keyword"}, r"has keys that nothing reads: \['query_style'\]"),
        ({"training.epochs": 0}, "`epochs` must be more than 0, got 0"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(recipe_file, changes, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(recipe_file, changes)


def test_the_objects_classes_follow_from_the_training_data(recipe_file):
    with pytest.raises(ValueError, match="`model` must be fields of") as error:
        load_recipe(recipe_file, {"model.object_labels": ["cup"]})
    named = str(error.value).partition(" (")[2].partition(")")[0].split(", ")
    assert "object_labels" not in named, "it is no choice"
    assert {"views", "has_relevance", "num_iterations", "object_feature_size"} <= set(named)


def test_a_sweep_runs_table_3(recipe_file, data):
    output = recipe_file.parent / "sweep"
    command = ["sweep", str(recipe_file), "--data-dir", str(data), "--output", str(output)]
    result = CliRunner().invoke(main.app, [*command, "--over", "model.num_iterations=1,2"])
    assert result.exit_code == 0, result.output
    folders = sorted(path.parent for path in output.rglob("model.safetensors"))
    assert sorted(AutoModel.from_pretrained(folder).config.num_iterations for folder in folders) == [1, 2]
