"""A training that TensorBoard follows: what it wrote is there when the training is finished."""

from __future__ import annotations

from planted_posts import tiny_backbones, write_planted_posts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TYPES, tiny_examples

from hf_mner.training.mmavk import MmavkTraining
from hf_mner.training.options import RunOptions
from hf_mner.training.recipes import RECIPES, parse_recipe


def test_tensorboard_keeps_losses_and_scores(tmp_path):
    backbone = tiny_backbones(write_planted_posts(tmp_path / "posts"), tmp_path / "backbones")["text"]
    training = {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "weight_decay": 0.01}
    values = {"system": "mmavk", "dataset": "folder", "backbone": backbone, "fusion": "none", "training": training}
    recipe, options = parse_recipe(values, RECIPES["mmavk"], "test"), RunOptions(trackers=("tensorboard",))
    MmavkTraining(recipe, tiny_examples(), tiny_examples(), TYPES, tmp_path / "run", options=options).run()
    assert not (tmp_path / "run" / "checkpoints").exists()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [2, 4]
    assert len(events.Scalars("eval/f1")) == 2
