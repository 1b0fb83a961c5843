"""What the benchmarks of whole trainings share: posts cut from a data set, a recipe on them, and a logged run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainerCallback

from hf_mner.data import load_mner_dataset
from hf_mner.training.options import RunOptions, leave_processes
from hf_mner.training.recipes import load_recipe
from hf_mner.training.run import open_training, recipe_values


class LogUpdates(TrainerCallback):
    """Writes the model, the number and the loss of each update into a file, behind those of earlier processes."""

    def __init__(self, file: Path):
        self.file = file

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ARG002 the signature is that of transformers
        """Let the loss be logged after each update."""
        args.logging_strategy, args.logging_steps, state.logging_steps = "steps", 1, 1

    def on_log(self, args, state, control, logs=None, **kwargs):  # noqa: ARG002
        """Write one line."""
        if "loss" in (logs or {}) and args.process_index == 0:
            line = [Path(args.output_dir).parent.name, state.global_step, state.epoch, logs["loss"]]
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


class NoDropout(TrainerCallback):
    """Switches dropout off, which draws other numbers in each process."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):  # noqa: ARG002
        """Switch it off."""
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what all these benchmarks take."""
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/scanner/twitter2017-mini.yaml"))
    parser.add_argument("--tweets", type=int, default=256, help="the first so many of the training split")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the recipe")
    parser.add_argument("--output", type=Path)


def prepare(options: argparse.Namespace, folder: Path, **settings: Any) -> dict[str, Any]:
    """Write posts and a recipe of stage 1 on them; there is no validation, so the last epoch is kept.

    Returns:
        The values of the recipe that the benchmark set.
    """
    posts = folder / "posts"
    posts.mkdir()
    dataset = load_mner_dataset(load_recipe(options.recipe).dataset, options.data_dir, knowledge=[])["train"]
    names = dataset.features["ner_tags"].feature.names
    lines = []
    for number, row in enumerate(dataset.remove_columns("image").select(range(options.tweets))):
        words = (f"{word}\t{names[tag]}" for word, tag in zip(row["tokens"], row["ner_tags"], strict=True))
        lines += [f"IMGID:{number}", *words, ""]
    (posts / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    given = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.set)}
    changed = {**{f"detection.{name}": value for name, value in settings.items()}, **given}
    recipe = load_recipe(options.recipe, {"dataset": "folder", "knowledge": [], "sources": [], **changed})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe)), encoding="utf-8")
    return changed


def command(folder: Path, run: str, *options: str, processes: int = 1) -> list[str]:
    """Return the command that trains stage 1 of the recipe in `folder`, into `folder/run`."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [
        sys.executable,
        *(launcher if processes > 1 else []),
        "-m",
        "benchmarks.training_runs",
        str(folder),
        run,
        *options,
    ]


def start(line: list[str]) -> subprocess.Popen[str]:
    """Start a command with one thread for each process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def updates(folder: Path, run: str) -> list[tuple[str, int, float, float]]:
    """Return what was logged: model, number, epoch and loss of each update. The last line may be cut off."""
    file = folder / f"{run}.log"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [tuple(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def main() -> None:
    """Train stage 1, to its end or to the kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run")
    parser.add_argument("--save-steps", type=int)
    parser.add_argument("--no-dropout", action="store_true")
    options = parser.parse_args()
    callbacks: list[TrainerCallback] = [LogUpdates(options.folder / f"{options.run}.log")]
    if options.no_dropout:
        callbacks.append(NoDropout())
    how, recipe = RunOptions(save_steps=options.save_steps), load_recipe(options.folder / "recipe.yaml")
    open_training(
        recipe, options.folder / options.run, options.folder / "posts", callbacks, options=how
    ).run_detection()
    leave_processes()


if __name__ == "__main__":
    main()
