"""The program that tests of trainings in processes of their own start: it logs losses, and may be killed."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from transformers import TrainerCallback

import hf_mner  # noqa: F401 registers the systems
from hf_mner.training.options import RunOptions, leave_processes
from hf_mner.training.recipes import load_recipe
from hf_mner.training.run import open_training


class KillAt(TrainerCallback):
    """Ends this process as soon as its training has made so many updates."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class KeepLosses(TrainerCallback):
    """Writes the loss of each update behind those of earlier processes."""

    def __init__(self, file: Path):
        self.file = file

    def on_train_begin(self, args, state, control, **kwargs):
        args.logging_strategy, state.logging_steps = "steps", 1
        args.logging_steps = 1

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}) and args.process_index == 0:
            with self.file.open("a") as stream:
                stream.write(json.dumps([state.global_step, logs["loss"]]) + "\n")


class NoDropout(TrainerCallback):
    """Switches dropout off, which draws other numbers in each process."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--save-steps", type=int)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--only-detection", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    callbacks: list[TrainerCallback] = [KillAt(options.kill_at)]
    if options.losses:
        callbacks.append(KeepLosses(options.losses))
    if options.no_dropout:
        callbacks.append(NoDropout())
    how = RunOptions(accumulation=options.accumulation, save_steps=options.save_steps)
    training = open_training(load_recipe(options.recipe), options.output, options.data, callbacks, options=how)
    if options.only_detection:
        training.run_detection()
    else:
        training.run()
    leave_processes()


if __name__ == "__main__":
    main()
