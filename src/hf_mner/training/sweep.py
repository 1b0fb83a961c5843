"""One recipe with many settings: the combinations, and their scores as means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

SEED = "seed"


def grid(over: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of settings, the last key changing fastest.

    Args:
        over: for each key of a recipe (dotted, as in `load_recipe`) the values that it takes.
    """
    return [dict(zip(over, values, strict=True)) for values in product(*over.values())]


def run_name(settings: Mapping[str, Any]) -> str:
    """Name the folder of a run after its settings; characters that a folder should not have become `-`."""
    text = ",".join(f"{key}={value}" for key, value in settings.items())
    return "".join(letter if letter.isalnum() or letter in "=,._-" else "-" for letter in text) or "as-it-is"


def summarise(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group runs that differ in their seed alone.

    Args:
        runs: each with `settings`, and `precision`, `recall` and `f1` as fractions.

    Returns:
        In the order of the runs, for each group its `settings` without the seed, `seeds` (their number), the mean
        `precision`, `recall` and `f1`, and `f1_deviation`, the sample's standard deviation (`None` for one seed).
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        rest = {key: value for key, value in run["settings"].items() if key != SEED}
        groups.setdefault(run_name(rest), []).append(run)
    summary = []
    for group in groups.values():
        means = {name: statistics.fmean(run[name] for run in group) for name in ("precision", "recall", "f1")}
        deviation = statistics.stdev(run["f1"] for run in group) if len(group) > 1 else None
        settings = {key: value for key, value in group[0]["settings"].items() if key != SEED}
        summary.append({"settings": settings, "seeds": len(group), **means, "f1_deviation": deviation})
    return summary
