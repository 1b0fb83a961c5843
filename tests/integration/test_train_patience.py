"""Early stopping: when it stops, what it keeps, and that a stopped run counts on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_posts import same_weights, tiny_backbones, write_planted_posts
from tiny import TYPES, tiny_examples
from transformers import AutoModel, TrainerCallback

from hf_mner.training.mmavk import MmavkTraining
from hf_mner.training.recipes import RECIPES, parse_recipe
from hf_mner.training.scanner import ScannerTraining


class StopAt(TrainerCallback):
    """Ends the process, as it were, once the checkpoint of an epoch is written."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_save(self, args, state, control, **kwargs):
        if round(state.epoch) == self.epoch:
            raise InterruptedError("stopped")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    posts = write_planted_posts(tmp_path_factory.mktemp("planted") / "posts")
    return tiny_backbones(posts, tmp_path_factory.mktemp("backbones"))["text"]


def recipe(backbone: str, **training: Any) -> Any:
    schedule = {"epochs": 9, "batch_size": 3, "learning_rate": 1e-3, "weight_decay": 0.01, "patience": 2}
    values = {"system": "mmavk", "dataset": "folder", "backbone": backbone, "fusion": "none"}
    return parse_recipe({**values, "training": {**schedule, **training}}, RECIPES["mmavk"], "test")


class KeepEveryEpoch(TrainerCallback):
    def __init__(self):
        self.states: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})


def train(folder: Path, recipe: Any, scores: list[float], *callbacks: TrainerCallback) -> Any:
    """Train on the tiny posts; the epochs' validation scores are given."""
    training = MmavkTraining(recipe, tiny_examples(), tiny_examples(), TYPES, folder, callbacks=callbacks)
    remaining = iter(scores)
    training.score = lambda *_: {"f1": next(remaining)}  # type: ignore[method-assign]
    return training.run()


def epochs(folder: Path) -> list[float]:
    return [entry["epoch"] for entry in json.loads((folder / "log.json").read_text()) if "eval_f1" in entry]


SCORES = [0.1, 0.5, 0.4, 0.6, 0.6, 0.2, 0.9]  # the best of the first six is the fourth; as good is no better


def test_training_stops_once_patience_is_at_its_end_and_keeps_the_best(backbone, tmp_path):
    kept = KeepEveryEpoch()
    model = train(tmp_path / "run", recipe(backbone), SCORES, kept)
    assert epochs(tmp_path / "run") == [1, 2, 3, 4, 5, 6]
    saved = AutoModel.from_pretrained(tmp_path / "run")
    assert same_weights(saved, model)
    is_best = [
        all(torch.equal(value, state[name]) for name, value in saved.state_dict().items()) for state in kept.states
    ]
    assert is_best == [False, False, False, True, False, False]


def test_without_patience_all_epochs_are_trained(backbone, tmp_path):
    train(tmp_path / "run", recipe(backbone, patience=None, epochs=7), SCORES)
    assert len(epochs(tmp_path / "run")) == 7


@pytest.mark.parametrize("stopped_at", [3, 5, 6])
def test_a_stopped_run_counts_on(backbone, tmp_path, stopped_at):
    whole = train(tmp_path / "whole", recipe(backbone), SCORES)
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", recipe(backbone), SCORES, StopAt(stopped_at))
    resumed = train(tmp_path / "run", recipe(backbone), SCORES[stopped_at:])
    assert epochs(tmp_path / "run") == [1, 2, 3, 4, 5, 6]
    assert same_weights(resumed, whole)


def test_patience_needs_validation(backbone, tmp_path):
    training = MmavkTraining(recipe(backbone), tiny_examples(), [], TYPES, tmp_path / "run")
    message = "`patience=2` waits for better validation scores, and there are no validation examples; leave it out, or"
    with pytest.raises(ValueError, match=message):
        training.run()


def test_the_folds_of_scanner_have_no_validation_and_no_patience(backbone, tmp_path):
    rates = {"learning_rate": 5e-3, "head_learning_rate": 5e-2, "weight_decay": 0.0}
    stage = {"epochs": 8, "batch_size": 2, "patience": 7, **rates}  # else stage 1 proposes nothing
    values = {"system": "scanner", "dataset": "folder", "backbone": backbone, "cross_fitting": {"folds": 2}}
    scanner = parse_recipe({**values, "detection": stage, "recognition": stage}, RECIPES["scanner"], "test")
    training = ScannerTraining(scanner, tiny_examples(), tiny_examples()[:3], TYPES, tmp_path / "run")
    training.run()
    assert (tmp_path / "run" / "model.safetensors").is_file()
