"""Kinds of errors on cases worked by hand."""

import random

import pytest

from hf_mner.metrics import classify_errors, confusion_table, count_kinds, score_grounded_entities, score_spans
from hf_mner.metrics.errors import GROUNDING_KINDS, SPAN_AND_TYPE_RIGHT


def entity(start, end, entity_type, *boxes, **more):
    return {"start": start, "end": end, "type": entity_type, "boxes": list(boxes), **more}


PERSON = entity(0, 2, "PER")


def kinds(predicted, gold, **options):
    return [finding.kind for finding in classify_errors([predicted], [gold], **options)]


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ([], [], []),
        ([PERSON], [PERSON], ["right"]),
        ([PERSON, PERSON], [PERSON], ["right"]),
        ([entity(0, 1, "PER")], [PERSON], ["boundary"]),
        ([entity(0, 3, "PER")], [PERSON], ["boundary"]),
        ([entity(0, 2, "LOC")], [PERSON], ["type"]),
        ([entity(1, 3, "LOC")], [PERSON], ["boundary_and_type"]),
        ([entity(2, 3, "PER")], [PERSON], ["spurious", "missed"]),
        ([], [PERSON], ["missed"]),
        ([entity(0, 1, "PER"), entity(1, 2, "PER")], [PERSON], ["boundary", "boundary"]),
        ([entity(0, 2, "LOC"), PERSON], [PERSON], ["type", "right"]),
        # of two gold entities the one of the same type is meant, whatever the overlap; the other is missed
        ([entity(0, 4, "LOC")], [entity(0, 3, "PER"), entity(3, 4, "LOC")], ["boundary", "missed"]),
        ([entity(0, 4, "ORG")], [entity(0, 1, "PER"), entity(1, 4, "LOC")], ["boundary_and_type", "missed"]),
    ],
)
def test_kinds(predicted, gold, expected):
    assert kinds(predicted, gold) == expected


def test_the_gold_entity_that_was_meant():
    gold = [entity(0, 1, "PER"), entity(1, 4, "LOC"), entity(4, 6, "LOC")]
    (wide, *missed) = classify_errors([[entity(0, 5, "ORG")]], [gold])
    assert wide.gold == gold[1], "it shares most words"
    assert [finding.gold for finding in missed] == [gold[0], gold[2]]
    first, second = classify_errors([[gold[1], entity(3, 5, "LOC")]], [gold[1:]])
    assert (first.kind, second.kind, second.gold) == ("right", "boundary", gold[2]), "the other one is found already"
    (typed, *_) = classify_errors([[entity(0, 2, "LOC")]], [[entity(0, 2, "PER"), entity(1, 3, "LOC")]])
    assert typed.kind == "type", "the same span goes before the same type"


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ([], [], "right"),
        ([[0, 0, 10, 10]], [[0, 0, 10, 9]], "right"),
        ([[0, 0, 10, 10]], [[50, 50, 60, 60], [0, 0, 10, 9]], "right"),
        ([[0, 0, 10, 5]], [[0, 0, 10, 10]], "wrong_box"),  # an IoU of exactly 0.5 is not enough
        ([[0, 0, 10, 10]], [], "box_for_ungroundable"),
        ([], [[0, 0, 10, 10]], "no_box"),
    ],
)
def test_kinds_of_grounding(predicted, gold, expected):
    pair = [entity(0, 1, "PER", *predicted)], [entity(0, 1, "PER", *gold)]
    assert kinds(*pair, is_grounded=True) == [expected]
    assert kinds(*pair) == ["right"], "boxes are not asked for"
    retyped = [{**pair[0][0], "type": "LOC"}]
    assert kinds(retyped, pair[1], is_grounded=True) == ["type"], "the box of a wrong entity is not judged"


def test_counts_agree_with_the_scores():
    generator = random.Random(0)

    def text():
        cuts = sorted(generator.sample(range(12), 6))
        boxes = ([], [[0, 0, 10, 10]], [[0, 0, 10, 4]])
        return [
            entity(start, end, generator.choice(["PER", "LOC"]), *generator.choice(boxes))
            for start, end in zip(cuts[::2], cuts[1::2], strict=True)
        ]

    gold = [text() for _ in range(200)]
    predicted = [generator.choice([text(), answer, answer[:2]]) for answer in gold]
    predicted = [
        [{**item, "boxes": generator.choice([item["boxes"], [], [[0, 0, 3, 3]]])} for item in items]
        for items in predicted
    ]
    findings = classify_errors(predicted, gold, is_grounded=True)
    counts = count_kinds(findings, is_grounded=True)
    assert all(counts[kind] for kind in counts), counts
    assert sum(counts.values()) - counts["missed"] == sum(map(len, predicted))
    spans = score_spans(
        *([[(e["start"], e["end"], e["type"]) for e in t] for t in side] for side in (predicted, gold))
    )
    right = sum(counts[kind] for kind in SPAN_AND_TYPE_RIGHT)
    assert right / sum(map(len, gold)) == spans["recall"]
    assert counts["right"] == score_grounded_entities(predicted, gold)["tp"]
    table = confusion_table(findings)
    assert table[None, "PER"] + table[None, "LOC"] == counts["spurious"]
    assert table["PER", None] + table["LOC", None] == counts["missed"]
    assert table["PER", "PER"] + table["LOC", "LOC"] == right + counts["boundary"]
    assert not set(GROUNDING_KINDS) & set(count_kinds(classify_errors(predicted, gold)))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`predictions` has 1 texts but `references` has 0"):
        classify_errors([[]], [])
    with pytest.raises(ValueError, match=r"Text 1, prediction .* lacks \['type'\]"):
        classify_errors([[], [{"start": 0, "end": 1}]], [[], []])
    with pytest.raises(ValueError, match="is not a span"):
        classify_errors([[entity(1, 1, "PER")]], [[]])
