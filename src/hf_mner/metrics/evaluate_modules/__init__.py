"""Thin `evaluate.Metric` wrappers, one folder each, so that `evaluate.load(metric_path(name))` works offline."""

from __future__ import annotations

from pathlib import Path

METRIC_NAMES = ("gmner_f1", "grounding_accuracy", "mner_span_f1")


def metric_path(name: str) -> str:
    """Return the folder of a metric for `evaluate.load`.

    Args:
        name: one of `METRIC_NAMES`.

    Raises:
        ValueError: if there is no such metric.

    Example:
        `evaluate.load(metric_path("mner_span_f1")).compute(predictions=tags, references=gold_tags)`
    """
    if name not in METRIC_NAMES:
        raise ValueError(f"`name={name!r}` is no metric of this package; choose one of {', '.join(METRIC_NAMES)}.")
    return str(Path(__file__).parent / name)
