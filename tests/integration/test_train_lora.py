"""Adapters from a recipe: what is saved, that both checkpoints are one model, and that runs go on and learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_posts import RESNET, posts_of, same_weights, tiny_backbones, write_planted_posts
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor, TrainerCallback

from hf_mner.models.base.recognition import recognize_entities, run_rows
from hf_mner.models.scanner.modeling_scanner import ScannerForMultimodalNer
from hf_mner.training.options import RunOptions
from hf_mner.training.recipes import RECIPES, parse_recipe
from hf_mner.training.run import train_from_recipe

LORA = {"rank": 4, "alpha": 8, "targets": ["query", "value", "dense"]}
RATES = {"learning_rate": 1e-2, "head_learning_rate": 2e-2, "weight_decay": 0.0}
SCHEDULE = {"epochs": 12, "batch_size": 5, **RATES, "lora": LORA}
SYSTEMS: dict[str, dict[str, Any]] = {
    "scanner": {"detection": SCHEDULE, "recognition": SCHEDULE, "cross_fitting": {"folds": 2, "epochs": 2}},
    "mmavk": {"fusion": "none", "training": {**SCHEDULE, "crf_learning_rate": 0.1}},
    "ham_learning": {
        "knowledge": ["knowledge.jsonl"],
        "max_objects": 5,
        "model": {
            **{"num_attention_heads": 2, "num_iterations": 1, "image_size": 64},
            **{"label_embedding_size": 8, "num_semantic_layers": 1, "is_vision_frozen": False},
        },
        "vision_config": RESNET,
        "training": SCHEDULE,
    },
    "mner_qg": {
        "query_style": "keyword",
        "query_max_length": 16,
        "model": {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64},
        "vision_config": RESNET,
        "training": SCHEDULE,
    },
}
STAGES = {"scanner": {"detection": "detection", "recognition": "recognition"}}


class KeepEncoder(TrainerCallback):
    """Remembers the text encoder as it is after training, before its adapters are merged."""

    def __init__(self):
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.states.append({name: value.clone() for name, value in model.text_model.state_dict().items()})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_planted_posts(tmp_path_factory.mktemp("planted") / "posts", with_knowledge=True)


@pytest.fixture(scope="module")
def backbone(data, tmp_path_factory) -> str:
    return tiny_backbones(data, tmp_path_factory.mktemp("backbones"))["text"]


def recipe_of(system: str, backbone: str, **fields: Any) -> Any:
    values = {"system": system, "dataset": "folder", "backbone": backbone, **SYSTEMS[system], **fields}
    return parse_recipe(values, RECIPES[system], "test")


@pytest.fixture(
    scope="module", params=["scanner", "mmavk", "ham_learning", pytest.param("mner_qg", marks=pytest.mark.slow)]
)
def trained(request, data, backbone, tmp_path_factory):
    folder, kept = tmp_path_factory.mktemp("run") / "run", KeepEncoder()
    recipe = recipe_of(request.param, backbone)
    return folder, train_from_recipe(recipe, folder, data, callbacks=[kept]), recipe, kept.states


def folders(folder: Path, system: str) -> list[Path]:
    return [folder / name for name in STAGES.get(system, {".": "recognition"})]


def test_a_run_keeps_the_merged_model_and_its_adapters(trained):
    folder, model, recipe, _ = trained
    assert same_weights(AutoModelForTokenClassification.from_pretrained(folder), model)
    for stage in folders(folder, recipe.system):
        whole, adapted = (
            load_file(stage / "model.safetensors"),
            load_file(stage / "lora" / "model.adapter.safetensors"),
        )
        assert not any("lora" in name or "base_layer" in name for name in whole)
        assert not any("text_model" in name for name in adapted), "the encoder is not saved again"
        assert (stage / "lora" / "adapter" / "adapter_model.safetensors").is_file()
        counts = json.loads((stage / "parameters.json").read_text())
        assert 0 < counts["trained"] < counts["all"]
        assert counts["share"] == counts["trained"] / counts["all"]
        assert counts["all"] == sum(parameter.numel() for parameter in AutoModel.from_pretrained(stage).parameters())
        assert not list(stage.rglob("checkpoints"))


def outputs(model: torch.nn.Module, processor: Any, posts: list[Any], stage: str) -> torch.Tensor:
    rows = processor.rows(posts, stage)
    return torch.cat([torch.as_tensor(output["logits"]).flatten() for output in run_rows(model, processor, rows, 10)])


@pytest.mark.parametrize("auto_class", [AutoModelForTokenClassification, AutoModel])
def test_the_adapters_are_loaded_as_the_merged_model(trained, data, auto_class):
    folder, _, recipe, _ = trained
    posts = posts_of(data)
    for path in folders(folder, recipe.system):
        whole, adapted = (auto_class.from_pretrained(where).eval() for where in (path, path / "lora"))
        assert type(whole) is type(adapted)
        processor = AutoProcessor.from_pretrained(path / "lora")
        stage = STAGES.get(recipe.system, {}).get(path.name, "recognition")
        scores, expected = (outputs(model, processor, posts, stage) for model in (adapted, whole))
        # The same sums in the same order: 0 measured.
        assert torch.allclose(scores, expected, atol=1e-6)
    models = [auto_class.from_pretrained(path / "lora") for path in folders(folder, recipe.system)]
    model = ScannerForMultimodalNer.from_stages(*models) if len(models) > 1 else models[0]
    found = recognize_entities(model.eval(), processor, posts)
    assert found == recognize_entities(auto_class.from_pretrained(folder).eval(), processor, posts)
    if recipe.system in ("scanner", "mmavk"):  # the others, which learn more slowly, have their scores compared
        assert any(example["entities"] for example in found), "else this test says nothing"


def test_the_encoder_is_the_backbone_until_adapters_are_merged(trained, backbone):
    folder, _, recipe, states = trained
    source = load_file(Path(backbone) / "model.safetensors")
    source = {name.removeprefix("bert."): value for name, value in source.items()}
    num_folds = recipe.cross_fitting.folds if recipe.system == "scanner" else 0
    assert len(states) == len(folders(folder, recipe.system)) + num_folds
    for state in states:
        plain = {name.replace(".base_layer.", "."): value for name, value in state.items() if "lora_" not in name}
        adapters = [name for name in state if "lora_" in name]
        assert len(adapters) == 2 * 2 * 5, "A and B, in two layers, for query, value and three that are dense"
        for name, value in plain.items():
            rows = len(source[name]) if "embeddings" in name else None  # tokens of the system are added behind
            assert torch.equal(value[:rows], source[name]), name
        assert any(value.abs().sum() > 0 for name, value in state.items() if "lora_B" in name), "they were trained"
    for path in folders(folder, recipe.system):
        merged = load_file(path / "model.safetensors")
        name = "text_model.encoder.layer.0.attention.self.query.weight"
        assert not torch.equal(merged[name], source[name.removeprefix("text_model.")])


class StopAfterSecondEpoch(TrainerCallback):
    """Ends the process, as it were, in each of its trainings once."""

    def on_save(self, args, state, control, **kwargs):
        if round(state.epoch) == 2:
            raise InterruptedError("stopped")


@pytest.mark.parametrize("system", ["mmavk", "scanner"])
def test_a_stopped_run_goes_on_and_ends_where_it_would_have(system, data, backbone, tmp_path):
    recipe = recipe_of(system, backbone)
    if system == "scanner":
        recipe.cross_fitting.folds = 0
    whole = train_from_recipe(recipe, tmp_path / "whole", data)
    for _ in folders(tmp_path, system):
        with pytest.raises(InterruptedError):
            train_from_recipe(recipe, tmp_path / "run", data, callbacks=[StopAfterSecondEpoch()])
    assert same_weights(train_from_recipe(recipe, tmp_path / "run", data), whole)
    assert list((tmp_path / "run").rglob("lora"))


def test_a_student_with_adapters_learns_from_a_full_teacher(data, backbone, tmp_path):
    full = recipe_of("mmavk", backbone, training={"epochs": 12, "batch_size": 5, **RATES, "crf_learning_rate": 0.1})
    teacher = train_from_recipe(full, tmp_path / "teacher", data)
    taught = {**SYSTEMS["mmavk"]["training"], "distillation": "tyt", "teacher": str(tmp_path / "teacher")}
    student = train_from_recipe(recipe_of("mmavk", backbone, training=taught), tmp_path / "run", data)
    alone = train_from_recipe(recipe_of("mmavk", backbone), tmp_path / "alone", data)
    assert (tmp_path / "run" / "lora").is_dir()
    assert not (tmp_path / "run" / "teacher").exists()
    assert not same_weights(student, alone)
    assert not same_weights(student, teacher)
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    assert any(example["entities"] for example in recognize_entities(student, processor, posts_of(data)))


def test_shared_layers_and_adapters_are_refused(backbone):
    stage = {**SCHEDULE, "num_shared_layers": 1}
    with pytest.raises(ValueError, match="`num_shared_layers` must be null with `lora`.*got 1"):
        recipe_of("scanner", backbone, recognition=stage)


def test_sharded_adapters_are_refused(data, backbone, tmp_path):
    with pytest.raises(ValueError, match="`lora` merges its adapters into whole matrices, and `--fsdp` cuts them up"):
        train_from_recipe(recipe_of("mmavk", backbone), tmp_path, data, options=RunOptions(is_sharded=True))
