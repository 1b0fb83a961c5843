"""The `evaluate` wrappers load from their folders without a network and equal the plain functions."""

from pathlib import Path

import pytest

from hf_mner.metrics import metric_path, score_grounded_entities, score_grounding, score_tags
from hf_mner.metrics.evaluate_modules import METRIC_NAMES

BOX = [0.1, 0.1, 10.3, 10.7]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    evaluate = pytest.importorskip("evaluate")
    cache = str(tmp_path_factory.mktemp("evaluate"))
    return lambda name: evaluate.load(metric_path(name), cache_dir=cache)


def test_mner_span_f1(load):
    predicted, gold = [["B-PER", "O"], ["I-LOC"]], [["B-PER", "O"], ["B-LOC"]]
    assert load("mner_span_f1").compute(predictions=predicted, references=gold) == score_tags(predicted, gold)
    strict = load("mner_span_f1").compute(predictions=predicted, references=gold, reading="strict")
    assert strict == score_tags(predicted, gold, reading="strict") != score_tags(predicted, gold)


def test_gmner_f1(load):
    predicted = [
        [
            {"start": 0, "end": 2, "type": "PER", "boxes": [[0, 0, 10, 5]]},
            {"start": 3, "end": 4, "type": "LOC", "boxes": []},
        ],
        [],
    ]
    gold = [
        [{"start": 0, "end": 2, "type": "PER", "boxes": [[0, 0, 10, 10], BOX]}],
        [{"start": 0, "end": 1, "type": "ORG", "boxes": []}],
    ]
    result = load("gmner_f1").compute(predictions=predicted, references=gold)
    assert result == score_grounded_entities(predicted, gold)
    inclusive = load("gmner_f1").compute(predictions=predicted, references=gold, inclusive=True)
    assert inclusive == score_grounded_entities(predicted, gold, inclusive=True) != result


def test_grounding_accuracy_with_and_without_a_box(load):
    predicted, gold = [BOX, None], [[BOX], [BOX, [1, 1, 2, 2]]]
    result = load("grounding_accuracy").compute(predictions=predicted, references=gold)
    assert result == score_grounding(predicted, gold)
    assert result["accu@0.5"] == 0.5


def test_batches_add_up(load):
    metric = load("mner_span_f1")
    metric.add_batch(predictions=[["B-PER"]], references=[["B-PER"]])
    metric.add_batch(predictions=[["B-PER"]], references=[["O"]])
    assert metric.compute()["precision"] == 0.5


def test_every_metric_has_its_file_and_a_wrong_name_lists_them():
    assert all((Path(metric_path(name)) / f"{name}.py").is_file() for name in METRIC_NAMES)
    with pytest.raises(ValueError, match="choose one of gmner_f1, grounding_accuracy, mner_span_f1"):
        metric_path("bleu")
