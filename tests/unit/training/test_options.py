"""How a training runs on a machine: what options become, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers.integrations import integration_utils

from hf_mner.training.fitting import training_arguments
from hf_mner.training.options import AS_USUAL, RunOptions, is_main_process
from hf_mner.training.recipes import FittingRecipe

SETTINGS = FittingRecipe(epochs=1, batch_size=16, learning_rate=1e-3, weight_decay=0.0)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)


@pytest.mark.parametrize("name", ["accumulation", "save_steps"])
def test_numbers_are_1_or_more(name):
    with pytest.raises(ValueError, match=f"`{name}` must be 1 or more, got 0"):
        RunOptions(**{name: 0})


@pytest.mark.parametrize(
    ("world", "accumulation", "size"),
    [(None, 1, 16), (None, 4, 4), ("1", 16, 1), ("2", 1, 8), ("2", 4, 2), ("4", 4, 1)],
)
def test_the_rows_of_an_update_are_parted(monkeypatch, world, accumulation, size):
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert RunOptions(accumulation).micro_batch_size(16) == size


@pytest.mark.parametrize(
    ("world", "accumulation", "processes", "multiple"), [("3", 1, 3, 3), ("2", 3, 2, 6), ("4", 8, 4, 32)]
)
def test_rows_that_cannot_be_parted_evenly_are_refused(monkeypatch, world, accumulation, processes, multiple):
    monkeypatch.setenv("WORLD_SIZE", world)
    message = (
        rf"`batch_size=16` are the rows of one update, and cannot be parted evenly among {processes} processes with"
        rf" {accumulation} micro-batches each; choose a multiple of {multiple}, other `--accumulation`"
    )
    with pytest.raises(ValueError, match=message):
        RunOptions(accumulation).micro_batch_size(16)


def test_the_starter_names_the_main_process(monkeypatch):
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_trackers_are_checked(monkeypatch):
    with pytest.raises(ValueError, match="Tracker 'tensorbord' is not known; choose of .*tensorboard"):
        RunOptions(trackers=("tensorbord",))
    monkeypatch.setattr(integration_utils, "get_available_reporting_integrations", lambda: [])
    with pytest.raises(ImportError, match="Tracker 'tensorboard' needs its package: pip install tensorboard"):
        RunOptions(trackers=("tensorboard",))


def test_options_become_training_arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(integration_utils, "get_available_reporting_integrations", lambda: ["tensorboard", "wandb"])
    trackers = ("tensorboard", "wandb")  # the first writes into the run's folder, see `callbacks`
    options = RunOptions(accumulation=4, has_gradient_checkpointing=True, save_steps=7, trackers=trackers)
    values = options.arguments("detection")
    assert values["gradient_accumulation_steps"] == 4
    assert values["activation_checkpointing"] is values["ddp_find_unused_parameters"] is True
    assert (values["save_strategy"], values["save_steps"]) == ("steps", 7)
    assert values["report_to"] == ["wandb"]
    assert values["run_name"] == "detection"
    assert "fsdp" not in values
    assert RunOptions(is_sharded=True).arguments("x")["fsdp"] is True
    args = training_arguments(SETTINGS, tmp_path, 1, None, replace(options, trackers=()))
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 4)
    assert (args.save_strategy, args.save_steps, args.report_to) == ("steps", 7, [])


def test_as_usual_nothing_is_tracked_and_epochs_are_saved(tmp_path):
    args = training_arguments(SETTINGS, tmp_path, 1, None, AS_USUAL)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (16, 1)
    assert (args.save_strategy, args.report_to, args.activation_checkpointing) == ("epoch", [], False)


def test_steps_are_not_saved_where_validation_chooses_the_epoch(tmp_path: Path):
    with pytest.raises(ValueError, match="`save_steps=7` would forget the best epoch.*leave it out where validation"):
        training_arguments(SETTINGS, tmp_path, 1, "f1", RunOptions(save_steps=7))
