"""Stage 1 of a recipe with one process and with two: how far their losses and weights are apart, and the seconds.

    python -m benchmarks.training_processes --data-dir DATA --output results/training/processes.json

Both have the same updates, of the same rows in the same order. Dropout is off: it draws other numbers in each process.
The processes share this machine's cores and talk through `gloo`, so seconds say little about machines with GPUs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.timing import report
from benchmarks.training_runs import add_options, command, prepare, start, updates


def run(folder: Path, processes: int) -> float:
    """Train; return the seconds from the first update to the end."""
    name = f"processes-{processes}"
    process = start(command(folder, name, "--no-dropout", processes=processes))
    while process.poll() is None and not updates(folder, name):
        time.sleep(0.01)
    started = time.perf_counter()
    _, told = process.communicate()
    assert process.returncode == 0, told
    return time.perf_counter() - started


def compare(one: list[tuple], other: list[tuple]) -> list[dict[str, Any]]:
    """Compare the losses of each model's epochs, relative to those of one process."""
    assert [line[:2] for line in one] == [line[:2] for line in other], "not the same updates"
    epochs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for first, second in zip(one, other, strict=True):
        epochs.setdefault((first[0], int(first[2] - 1e-6)), []).append((first[3], second[3]))
    return [
        {
            "model": model,
            "epoch": epoch,
            "mean_loss": [round(statistics.fmean(losses), 6) for losses in zip(*pairs, strict=True)],
            "largest_relative_difference": max(abs(b - a) / a for a, b in pairs),
            "mean_relative_difference": statistics.fmean(abs(b - a) / a for a, b in pairs),
        }
        for (model, epoch), pairs in epochs.items()
    ]


def weight_differences(one: Path, other: Path) -> dict[str, dict[str, float]]:
    """Return the largest and the mean difference of each model's weights."""
    result = {}
    for path in sorted(one.glob("*/model.safetensors")):
        expected, found = load_file(path), load_file(other / path.relative_to(one))
        apart = [(found[name] - value).abs() for name, value in expected.items() if value.is_floating_point()]
        mean = sum(float(value.sum()) for value in apart) / sum(value.numel() for value in apart)
        result[path.parent.name] = {"largest": max(float(value.max()) for value in apart), "mean": mean}
    return result


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train with one process and with two."""
    changed = prepare(options, folder, epochs=options.epochs, bf16=options.bf16)
    seconds = {str(processes): round(run(folder, processes), 1) for processes in (1, 2)}
    one, two = (updates(folder, f"processes-{processes}") for processes in (1, 2))
    return {
        "set": changed,
        "updates": len(one),
        "seconds_after_the_first_update": seconds,
        "epochs": compare(one, two),
        "weight_differences": weight_differences(folder / "processes-1", folder / "processes-2"),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="as the recipe has it; rounding adds to the differences")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    named = {"recipe": options.recipe.as_posix(), "tweets": options.tweets, "cores": os.cpu_count()}
    report({**named, **result}, options.output)


if __name__ == "__main__":
    main()
