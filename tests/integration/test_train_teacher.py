"""Trust Your Teacher from a recipe, for the systems of one stage: teacher, then student; stopped and gone on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from planted_posts import RESNET, StopAfterFirstEpoch, same_weights, tiny_backbones, write_planted_posts
from transformers import AutoModel

from hf_mner.training import teacher as teacher_module
from hf_mner.training.fitting import Training
from hf_mner.training.recipes import RECIPES, AwpRecipe, load_recipe, parse_recipe
from hf_mner.training.run import recipe_values, train_from_recipe
from hf_mner.training.teacher import TEACHER_SCORES
from hf_mner.training.trainer import TrustYourTeacherTrainer

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SYSTEMS: dict[str, dict[str, Any]] = {
    "mmavk": {"fusion": "none"},
    "ham_learning": {
        "knowledge": ["knowledge.jsonl"],
        "max_objects": 5,
        "text_kwargs": QUIET,
        "model": {
            **{"num_attention_heads": 2, "num_iterations": 1, "classifier_dropout": 0.0},
            **{"image_size": 64, "label_embedding_size": 8, "num_semantic_layers": 1, "is_vision_frozen": False},
        },
        "vision_config": RESNET,
    },
    "mner_qg": {
        "query_style": "keyword",
        "query_max_length": 16,
        "text_kwargs": QUIET,
        "model": {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64, "classifier_dropout": 0.0},
        "vision_config": RESNET,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_planted_posts(tmp_path_factory.mktemp("planted") / "posts", with_knowledge=True)


@pytest.fixture(scope="module")
def backbone(data, tmp_path_factory) -> str:
    return tiny_backbones(data, tmp_path_factory.mktemp("backbones"))["text"]


def tiny_recipe(backbone: str, system: str, **training: Any) -> Any:
    schedule = {"epochs": 2, "batch_size": 5, "learning_rate": 1e-3, "weight_decay": 0.01, "distillation": "tyt"}
    values = {"system": system, "dataset": "folder", "backbone": backbone, **SYSTEMS[system]}
    return parse_recipe({**values, "training": {**schedule, **training}}, RECIPES[system], "test")


@pytest.fixture(scope="module", params=SYSTEMS)
def trained(request, data, backbone, tmp_path_factory):
    folder, recipe = tmp_path_factory.mktemp("run") / "run", tiny_recipe(backbone, request.param)
    return folder, train_from_recipe(recipe, folder, data), recipe


def test_teacher_and_student_are_kept_and_nothing_else(trained):
    folder, model, _ = trained
    student, teacher = AutoModel.from_pretrained(folder), AutoModel.from_pretrained(folder / "teacher")
    assert type(student) is type(teacher) is type(model)
    assert same_weights(student, model)
    assert not same_weights(student, teacher)
    assert not list(folder.rglob("checkpoints"))
    assert not list(folder.rglob(f"{TEACHER_SCORES}*"))


def test_the_teacher_is_what_the_plain_recipe_trains(trained, data, tmp_path):
    folder, _, recipe = trained
    plain = replace(recipe, training=replace(recipe.training, distillation="none"))
    alone = train_from_recipe(plain, tmp_path / "run", data)
    assert same_weights(AutoModel.from_pretrained(folder / "teacher"), alone)
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_second_run_trains_nothing(trained, data, monkeypatch):
    folder, model, recipe = trained
    monkeypatch.setattr(TrustYourTeacherTrainer, "train", None)
    assert same_weights(train_from_recipe(recipe, folder, data), model)


def test_a_stopped_student_goes_on_with_what_its_teacher_said(trained, data, tmp_path, monkeypatch):
    _, model, recipe = trained
    read, calls = teacher_module.read_rows, []
    monkeypatch.setattr(teacher_module, "read_rows", lambda *args: calls.append(1) or read(*args))
    train_model = Training.with_teacher

    def stop_the_student(self, name, settings, train, teacher_name=None):
        def stopping(name, *args, **kwargs):
            self.callbacks = [StopAfterFirstEpoch()] if name == "." else []
            return train(name, *args, **kwargs)

        return train_model(self, name, settings, stopping, teacher_name)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "with_teacher", stop_the_student)
        with pytest.raises(InterruptedError):
            train_from_recipe(recipe, tmp_path / "run", data)
    assert (tmp_path / "run" / "teacher" / "model.safetensors").is_file()
    assert (tmp_path / "run" / TEACHER_SCORES).is_file()
    assert len(calls) == 1
    assert same_weights(train_from_recipe(recipe, tmp_path / "run", data), model)
    assert len(calls) == 1, "the teacher, loaded from its folder now, was not asked again"


def test_a_named_teacher_is_used_and_none_is_trained(trained, data, backbone, tmp_path):
    folder, model, recipe = trained
    named = tiny_recipe(backbone, recipe.system, teacher=str(folder / "teacher"))
    assert same_weights(train_from_recipe(named, tmp_path / "run", data), model)
    assert not (tmp_path / "run" / "teacher").exists()


def test_an_online_teacher_trains_the_same_model(trained, data, backbone, tmp_path):
    folder, model, recipe = trained
    named = tiny_recipe(backbone, recipe.system, teacher=str(folder / "teacher"), teacher_mode="online")
    online = train_from_recipe(named, tmp_path / "run", data).state_dict()
    teacher = AutoModel.from_pretrained(folder / "teacher").state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            # AdamW moves each weight by about its rate (1e-3), whatever the gradient's size: where a gradient is
            # almost 0, float32 decides on its sign. The mean tells whether the same was learned.
            apart = (online[name] - value).abs().mean()
            assert apart <= 1e-5 + 0.1 * (teacher[name] - value).abs().mean(), name


def test_distorted_images_and_perturbed_weights_go_with_an_online_teacher(data, backbone, tmp_path):
    recipe = tiny_recipe(
        backbone, "mner_qg", is_distorted=True, teacher_mode="online", awp={"start_epoch": 1, "gamma": 0.005}
    )
    assert recipe.training.awp == AwpRecipe(start_epoch=1, gamma=0.005)
    model = train_from_recipe(recipe, tmp_path / "run", data)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe)))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
