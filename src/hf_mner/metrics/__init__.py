"""Scores of the field as plain functions: entities, spans, grounded entities, grounding, seen and unseen entities.

All scores are fractions in [0, 1]; papers print them times 100 (`format_scores` does so too). No function here needs
torch or transformers; the tests of significance alone import numpy, when they run. `metric_path` gives the folder of a
thin `evaluate.Metric` around each of the scores.
"""

from hf_mner.metrics.boxes import box_iou
from hf_mner.metrics.calibration import ScoreBin, expected_calibration_error, reliability
from hf_mner.metrics.errors import Finding, classify_errors, confusion_table, count_kinds
from hf_mner.metrics.evaluate_modules import metric_path
from hf_mner.metrics.grounded_f1 import count_grounded_entities, score_grounded_entities
from hf_mner.metrics.grounding import score_grounding
from hf_mner.metrics.report import format_scores
from hf_mner.metrics.seen_unseen import score_seen_unseen, select_seen, surface_forms
from hf_mner.metrics.significance import Difference, paired_bootstrap_interval, randomization_test
from hf_mner.metrics.span_f1 import count_spans, score_spans, score_tags

__all__ = [
    "Difference",
    "Finding",
    "ScoreBin",
    "box_iou",
    "classify_errors",
    "confusion_table",
    "count_grounded_entities",
    "count_kinds",
    "count_spans",
    "expected_calibration_error",
    "format_scores",
    "metric_path",
    "paired_bootstrap_interval",
    "randomization_test",
    "reliability",
    "score_grounded_entities",
    "score_grounding",
    "score_seen_unseen",
    "score_spans",
    "score_tags",
    "select_seen",
    "surface_forms",
]
