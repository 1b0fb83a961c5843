"""`kill -9` in the middle of an epoch: the same command goes on, and ends with bit-equal weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from planted_posts import tiny_backbones, write_planted_posts
from safetensors.torch import load_file

from hf_mner.training.options import RunOptions
from hf_mner.training.recipes import load_recipe
from hf_mner.training.run import train_from_recipe

WORKER = Path(__file__).with_name("training_worker.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_planted_posts(tmp_path_factory.mktemp("planted") / "posts")


@pytest.fixture(scope="module")
def backbone(data, tmp_path_factory) -> str:
    return tiny_backbones(data, tmp_path_factory.mktemp("backbones"))["text"]


def write_recipe(folder: Path, backbone: str, **training: Any) -> Path:
    """Write a recipe with dropout; it trains on `validation` as well, so that no epoch is chosen."""
    schedule = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup": 0.1}
    values = {
        "system": "mmavk",
        "dataset": "folder",
        "backbone": backbone,
        "fusion": "none",
        "train_splits": ["train", "validation"],
        "training": {**schedule, **training},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def train(recipe: Path, data: Path, output: Path, *options: str, processes: int = 1) -> None:
    """Train with processes of their own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(WORKER), str(recipe), str(data), str(output)]
    command += ["--save-steps", "3", "--losses", str(output.with_suffix(".losses")), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    is_killed = "--kill-at" in options
    assert (done.returncode != 0) == is_killed, done.stderr
    assert is_killed != (output / "model.safetensors").is_file()


def updates(output: Path) -> list[int]:
    """Number the updates that the processes of a run made, in their order."""
    return [json.loads(line)[0] for line in output.with_suffix(".losses").read_text().splitlines()]


def assert_same_weights(one: Path, other: Path) -> None:
    """Compare every file of weights, bit by bit."""
    paths = [path.relative_to(one) for path in sorted(one.rglob("*.safetensors"))]
    assert paths
    for path in paths:
        expected, found = load_file(one / path), load_file(other / path)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), path


SETTINGS = {
    "plain": {},
    "perturbed, taught": {"awp": {"start_epoch": 1, "gamma": 0.05}, "distillation": "tyt", "epochs": 2},
    "adapters": {"lora": {"rank": 2}},
}


# A process takes some 5 s to begin.
@pytest.mark.parametrize("name", ["plain", "perturbed, taught", pytest.param("adapters", marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(name, data, backbone, tmp_path):
    recipe = write_recipe(tmp_path, backbone, **SETTINGS[name])
    if "taught" in name:  # by a teacher that both share
        (tmp_path / "teacher").mkdir()
        plain = load_recipe(write_recipe(tmp_path / "teacher", backbone, epochs=1))
        train_from_recipe(plain, tmp_path / "teacher" / "run", data)
        recipe = write_recipe(tmp_path, backbone, teacher=str(tmp_path / "teacher" / "run"), **SETTINGS[name])
    whole = train_from_recipe(load_recipe(recipe), tmp_path / "whole", data, options=RunOptions(save_steps=3))
    assert not whole.training
    train(recipe, data, tmp_path / "run", "--kill-at", "8")
    train(recipe, data, tmp_path / "run")
    last = 5 * load_recipe(recipe).training.epochs
    assert updates(tmp_path / "run") == [*range(1, 8), *range(7, last + 1)], "it went on from the sixth"
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_two_killed_processes_end_with_the_weights_of_two_that_were_not(data, backbone, tmp_path):
    recipe = write_recipe(tmp_path, backbone)
    train(recipe, data, tmp_path / "whole", processes=2)
    train(recipe, data, tmp_path / "run", "--kill-at", "8", processes=2)
    train(recipe, data, tmp_path / "run", processes=2)
    assert updates(tmp_path / "run") == [*range(1, 8), *range(7, 16)]
    assert_same_weights(tmp_path / "whole", tmp_path / "run")
