"""Entity F1 of tags and spans: equal to seqeval, and right on cases worked by hand."""

import random
import subprocess
import sys
import warnings

import pytest

from hf_mner.metrics import score_spans, score_tags

TYPES = ("PER", "LOC", "ORG", "MISC")


def random_tags(generator, length):
    # Prefix and type are drawn independently, so most sequences are invalid BIO: stray I-, I- of another type.
    choices = ["O", *(f"{prefix}-{name}" for prefix in "BI" for name in TYPES)]
    return [generator.choice(choices) for _ in range(length)]


def random_sentences(seed, count):
    generator = random.Random(seed)
    gold = [random_tags(generator, generator.randint(1, 12)) for _ in range(count)]
    predicted = [[tag if generator.random() < 0.7 else random_tags(generator, 1)[0] for tag in tags] for tags in gold]
    return predicted, gold


@pytest.mark.parametrize(("seed", "count"), [(0, 1000), (1, 3), (2, 1)])
def test_score_tags_equals_seqeval(seed, count):
    seqeval = pytest.importorskip("seqeval.metrics")
    predicted, gold = random_sentences(seed, count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where a type was never predicted
        report = seqeval.classification_report(gold, predicted, output_dict=True)
    scores = score_tags(predicted, gold)
    expected = {name: part for name, part in report.items() if name in TYPES}
    assert set(scores["per_type"]) == set(expected)
    for ours, theirs in [
        (scores, report["micro avg"]),
        *((scores["per_type"][key], expected[key]) for key in expected),
    ]:
        theirs = [theirs[key] for key in ("precision", "recall", "f1-score", "support")]
        assert [ours[key] for key in ("precision", "recall", "f1", "support")] == pytest.approx(theirs, abs=1e-12)


def test_score_tags_on_one_sentence_by_hand():
    # Gold: PER(0,2), LOC(3,4). Predicted: PER(0,2) right, ORG(3,4) wrong type, LOC(4,5) where nothing is.
    scores = score_tags([["B-PER", "I-PER", "O", "B-ORG", "B-LOC"]], [["B-PER", "I-PER", "O", "B-LOC", "O"]])
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 2)
    assert scores["f1"] == pytest.approx(2 / 5)
    assert scores["support"] == 2
    assert scores["per_type"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert scores["per_type"]["ORG"]["support"] == 0
    assert scores["per_type"]["PER"]["f1"] == 1.0


def test_readings_differ_on_a_stray_inside_tag():
    predicted, gold = [["O", "I-PER"]], [["O", "B-PER"]]
    assert score_tags(predicted, gold)["f1"] == 1.0
    assert score_tags(predicted, gold, reading="strict")["f1"] == 0.0
    assert score_tags(gold, predicted, reading="strict")["support"] == 0  # the reading holds for the gold, too


@pytest.mark.parametrize(("predicted", "gold"), [([], []), ([["O"]], [["O"]]), ([["B-PER"]], [["O"]])])
def test_nothing_right_gives_zeros_not_errors(predicted, gold):
    scores = score_tags(predicted, gold)
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.0, 0.0, 0.0)


def test_score_tags_names_the_sentence_whose_length_differs():
    with pytest.raises(ValueError, match="Sentence 1 has 1 predicted and 2 gold labels"):
        score_tags([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(ValueError, match="`predictions` has 1 sentences but `references` has 2"):
        score_tags([["O"]], [["O"], ["O"]])


def test_typed_and_untyped_spans():
    predicted, gold = [[(0, 2, "PER"), (3, 4, "LOC")]], [[(0, 2, "ORG"), (3, 4, "LOC")]]
    assert score_spans(predicted, gold)["f1"] == pytest.approx(1 / 2)
    untyped = score_spans(predicted, gold, typed=False)
    assert untyped == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}


def test_a_repeated_span_counts_once_on_both_sides():
    gold = [[(0, 1, "PER")]]
    assert score_spans([[(0, 1, "PER"), (0, 1, "PER")]], gold)["precision"] == 1.0
    assert score_spans(gold, [[(0, 1, "PER"), (0, 1, "PER")]])["recall"] == 1.0
    assert score_spans([[(0, 1, "PER"), (0, 1, "LOC")]], gold)["precision"] == pytest.approx(1 / 2)
    assert score_spans([[(0, 1, "PER"), (0, 1, "LOC")]], gold, typed=False)["precision"] == 1.0


def test_a_span_is_right_only_in_its_own_sentence():
    assert score_spans([[], [(0, 1, "PER")]], [[(0, 1, "PER")], []])["f1"] == 0.0


def test_spans_and_tags_agree():
    from hf_mner.data.labels import decode_bio

    predicted, gold = random_sentences(3, 50)
    spans = [[decode_bio(tags) for tags in part] for part in (predicted, gold)]
    assert score_spans(*spans) == score_tags(predicted, gold)


@pytest.mark.parametrize(
    "span", [(2, 2, "PER"), (3, 1, "PER"), (-1, 1, "PER"), (0, 1), {"start": 0, "end": 1, "type": "A"}]
)
def test_what_is_not_a_span_is_refused(span):
    with pytest.raises(ValueError, match="Sentence 0: .* is not a span"):
        score_spans([[span]], [[]])


def test_metrics_import_nothing_heavy():
    code = (
        "import sys; import hf_mner; base = set(sys.modules);"
        " import hf_mner.metrics; new = set(sys.modules) - base;"
        " print(sorted(new & {'torch', 'transformers', 'numpy', 'datasets', 'evaluate'}))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
