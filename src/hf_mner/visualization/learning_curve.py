"""A picture of how runs learn: loss and validation F1 by epoch, read from what their trainings log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LINE_STYLES = ("-", "--", ":", "-.")  # of a run's stages, in their order
SUFFIXES = (".png", ".svg")
LOG = "log.json"
CHECKPOINTS = "checkpoints"

Points = list[tuple[float, float]]  # (epoch, value)


class Curve(NamedTuple):
    """What one training logged.

    Args:
        stage: its folder, as a path inside the run; empty for the run's own folder.
        entries: the `log_history` of transformers' Trainer.
        is_finished: False while it trains, and for one that was stopped.
    """

    stage: str
    entries: Sequence[Mapping[str, Any]]
    is_finished: bool

    def points(self, name: str) -> Points:
        """Return `(epoch, value)` of a logged number, such as `loss` or `eval_f1`; empty if there is none."""
        return [(entry["epoch"], entry[name]) for entry in self.entries if name in entry and "epoch" in entry]


def draw_learning_curves(runs: Mapping[str, str | Path], output: str | Path) -> dict[str, list[Curve]]:
    """Draw loss and validation F1 by epoch: a run has one color, and each of its stages a line style.

    Args:
        runs: for each label the folder of a run. Every `log.json` in it and below is drawn (SCANNER has one in each
            stage's folder and in those of the teachers), and of trainings without one their newest checkpoint.
        output: file for the picture, .png or .svg.

    Returns:
        For each label its curves, as drawn.

    Raises:
        ImportError: if matplotlib is missing, with the command that installs it.
        FileNotFoundError: if a folder does not exist.
        ValueError: if `output` has another ending, there is no run, or a run has logged nothing.
    """
    output = Path(output)
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`output` is '{output}'; expected a file that ends in {' or '.join(SUFFIXES)}. Rename it.")
    if not runs:
        raise ValueError("`runs` is empty; give at least one label with the folder of a run.")
    curves = {label: read_curves(folder) for label, folder in runs.items()}
    figure = plot_curves(curves)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Without the date the same logs give the same file.
    figure.savefig(output, dpi=110, metadata={"Date": None} if output.suffix.lower() == ".svg" else None)
    return curves


def read_curves(folder: str | Path) -> list[Curve]:
    """Read what the trainings in a run's folder logged, the run's own first, then those of its stages by name.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if nothing was logged in it, or a log is none of Trainer's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Run '{folder}' does not exist or is no folder; give the folder of `hf-mner train`.")
    finished = {path.parent: read_log(path) for path in folder.rglob(LOG)}
    running = {path.parent: read_newest_checkpoint(path) for path in folder.rglob(CHECKPOINTS)}
    found = {**{place: entries for place, entries in running.items() if entries}, **finished}
    curves = [
        Curve("" if place == folder else place.relative_to(folder).as_posix(), found[place], place in finished)
        for place in sorted(found)
    ]
    if not any(curve.points("loss") or curve.points("eval_f1") for curve in curves):
        raise ValueError(
            f"Run '{folder}' has no log; expected {LOG} of a finished training, or {CHECKPOINTS}/checkpoint-*/"
            "trainer_state.json of one that goes on, in it or below. A training first writes after its first epoch."
        )
    return curves


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the log of a finished training.

    Raises:
        ValueError: naming the file, if it is not a JSON list of objects.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected the log of a training.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is no log of a training; expected a list such as [{{'epoch': 1.0, 'loss': 0.5}}].")
    return entries


def read_newest_checkpoint(folder: Path) -> list[dict[str, Any]]:
    """Read the log in the newest checkpoint that was written to its end; empty without one."""
    newest_first = sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)
    for checkpoint in newest_first:
        try:
            return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        except (FileNotFoundError, json.JSONDecodeError):  # Trainer is writing it, or was stopped in the middle
            continue
    return []


def checkpoint_step(checkpoint: Path) -> int:
    """Return the step that a checkpoint's folder is named after; -1 where that is no number."""
    step = checkpoint.name.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def summarise_curves(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """Return for each stage its last epoch, whether it is finished, and its best validation F1 with the epoch.

    The run's own folder has the name `.`; `best_f1` is None where no F1 was logged.
    """
    summary = {}
    for curve in curves:
        scores = curve.points("eval_f1")
        best = max(scores, key=lambda point: (point[1], -point[0]), default=(None, None))
        epochs = [entry["epoch"] for entry in curve.entries if "epoch" in entry]
        summary[curve.stage or "."] = {
            "epochs": max(epochs, default=0),
            "is_finished": curve.is_finished,
            "best_f1": best[1],
            "best_epoch": best[0],
        }
    return summary


def plot_curves(runs: Mapping[str, Sequence[Curve]]) -> Any:
    """Return a matplotlib figure of two panels, losses and F1.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Learning curves are drawn with matplotlib, which cannot be imported; `pip install hf-mner[sample]`."
        ) from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    names = list(dict.fromkeys(curve.stage for curves in runs.values() for curve in curves))
    for color, (label, curves) in zip(run_colors(len(runs)), runs.items(), strict=True):
        for curve in curves:
            style = {"color": color, "linestyle": LINE_STYLES[names.index(curve.stage) % len(LINE_STYLES)]}
            label_of_curve = describe_curve(label, curve)
            plot_points(losses, curve.points("loss"), marker=".", label=label_of_curve, **style)
            plot_points(losses, curve.points("eval_loss"), marker="x", alpha=0.5, **style)
            f1 = [(epoch, 100 * value) for epoch, value in curve.points("eval_f1")]
            plot_points(scores, f1, marker=".", label=label_of_curve, **style)
    losses.set(title="loss (pale, crosses: validation)", xlabel="epoch")
    scores.set(title="validation F1", xlabel="epoch")
    for panel in (losses, scores):
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[1]:
            panel.legend(fontsize=8)
        else:
            panel.text(0.5, 0.5, "nothing was logged", transform=panel.transAxes, ha="center")
    return figure


def plot_points(panel: Any, points: Points, **style: Any) -> None:
    """Draw one line, if there are points."""
    if points:
        panel.plot(*zip(*points, strict=True), **style)


def describe_curve(label: str, curve: Curve) -> str:
    """Name a curve in the legend; a label that starts with `_` would be left out by matplotlib."""
    name = f"{label}: {curve.stage}" if curve.stage else label
    return name.lstrip("_") + ("" if curve.is_finished else " (not finished)")


def run_colors(number: int) -> list[Any]:
    """Return a color for each run: ten that are easily told apart, else as many of a scale."""
    if number <= 10:
        return [f"C{index}" for index in range(number)]
    from matplotlib import colormaps

    return [colormaps["turbo"](index / (number - 1)) for index in range(number)]
