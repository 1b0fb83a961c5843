"""Grounded entity F1 on cases worked by hand, each one rule of the official GMNER scorer."""

import pytest

from hf_mner.metrics import score_grounded_entities

BOX = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU with BOX is exactly 1/2
MORE = [0, 0, 10, 6]  # IoU with BOX is 0.6
FAR = [50, 50, 60, 60]


def entity(start, end, entity_type="PER", *boxes):
    return {"start": start, "end": end, "type": entity_type, "boxes": list(boxes)}


# Each case: one tweet's predictions, its gold, and (tp, fp, fn) of the whole, of MNER and of EEG.
CASES = {
    "all right, groundable": ([entity(0, 2, "PER", BOX)], [entity(0, 2, "PER", BOX)], (1, 0, 0), (1, 0, 0), (1, 0, 0)),
    "all right, ungroundable": ([entity(0, 2)], [entity(0, 2)], (1, 0, 0), (1, 0, 0), (1, 0, 0)),
    "empty prediction": ([], [entity(0, 2, "PER", BOX), entity(3, 4)], (0, 0, 2), (0, 0, 2), (0, 0, 2)),
    "empty gold": ([entity(0, 2, "PER", BOX)], [], (0, 1, 0), (0, 1, 0), (0, 1, 0)),
    "nothing on either side": ([], [], (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    # The region is right, so EEG counts it; the wrong type costs a false positive and a false negative.
    "wrong type": ([entity(0, 2, "LOC", BOX)], [entity(0, 2, "PER", BOX)], (0, 1, 1), (0, 1, 1), (1, 0, 0)),
    "right span, wrong box": ([entity(0, 2, "PER", FAR)], [entity(0, 2, "PER", BOX)], (0, 1, 1), (1, 0, 0), (0, 1, 1)),
    "wrong boundary": ([entity(0, 1, "PER", BOX)], [entity(0, 2, "PER", BOX)], (0, 1, 1), (0, 1, 1), (0, 1, 1)),
    "IoU exactly at the threshold": (
        [entity(0, 2, "PER", HALF)],
        [entity(0, 2, "PER", BOX)],
        (0, 1, 1),
        (1, 0, 0),
        (0, 1, 1),
    ),
    "IoU above the threshold": ([entity(0, 2, "PER", MORE)], [entity(0, 2, "PER", BOX)], *[(1, 0, 0)] * 3),
    # MQSPN's scorer would accept this one.
    "box for an ungroundable": ([entity(0, 2, "PER", BOX)], [entity(0, 2)], (0, 1, 1), (1, 0, 0), (0, 1, 1)),
    "none for a groundable": ([entity(0, 2)], [entity(0, 2, "PER", BOX)], (0, 1, 1), (1, 0, 0), (0, 1, 1)),
    # Any gold box will do, be it the first or the last.
    "several gold boxes, first hit": ([entity(0, 2, "PER", BOX)], [entity(0, 2, "PER", BOX, FAR)], *[(1, 0, 0)] * 3),
    "several gold boxes, last hit": ([entity(0, 2, "PER", BOX)], [entity(0, 2, "PER", FAR, BOX)], *[(1, 0, 0)] * 3),
    "several gold boxes, none hit": (
        [entity(0, 2, "PER", [100, 100, 110, 110])],
        [entity(0, 2, "PER", BOX, FAR)],
        (0, 1, 1),
        (1, 0, 0),
        (0, 1, 1),
    ),
    # The later prediction of a span replaces the earlier: one prediction, and it is the wrong one.
    "duplicate span, right then wrong": (
        [entity(0, 2, "PER", BOX), entity(0, 2, "LOC", FAR)],
        [entity(0, 2, "PER", BOX)],
        *[(0, 1, 1)] * 3,
    ),
    "duplicate span, wrong then right": (
        [entity(0, 2, "LOC", FAR), entity(0, 2, "PER", BOX)],
        [entity(0, 2, "PER", BOX)],
        *[(1, 0, 0)] * 3,
    ),
    "duplicate gold span, the later holds": (
        [entity(0, 2, "LOC")],
        [entity(0, 2, "PER", BOX), entity(0, 2, "LOC")],
        *[(1, 0, 0)] * 3,
    ),
    # Boxes belong to a name: both mentions of it carry both boxes, and both may be answered with the same one.
    "two mentions share boxes": (
        [entity(0, 1, "PER", BOX), entity(4, 5, "PER", BOX)],
        [entity(0, 1, "PER", BOX, FAR), entity(4, 5, "PER", BOX, FAR)],
        *[(2, 0, 0)] * 3,
    ),
    "two mentions share boxes, one is missed": (
        [entity(4, 5, "PER", FAR)],
        [entity(0, 1, "PER", BOX, FAR), entity(4, 5, "PER", BOX, FAR)],
        *[(1, 0, 1)] * 3,
    ),
    # Gold: a right, b wrong region, c missed. Predicted besides: d.
    "a mixed tweet": (
        [entity(0, 1, "PER", MORE), entity(2, 3, "LOC", BOX), entity(8, 9, "ORG")],
        [entity(0, 1, "PER", BOX), entity(2, 3, "LOC"), entity(5, 6, "MISC")],
        (1, 2, 2),
        (2, 1, 1),
        (1, 2, 2),
    ),
}


def counts(scores):
    return scores["tp"], scores["fp"], scores["fn"]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_counts_by_hand(case):
    predicted, gold, overall, mner, eeg = case
    scores = score_grounded_entities([predicted], [gold])
    assert (counts(scores), counts(scores["mner"]), counts(scores["eeg"])) == (overall, mner, eeg)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_fractions_follow_from_the_counts(case):
    scores = score_grounded_entities([case[0]], [case[1]])
    for part in (scores, scores["mner"], scores["eeg"]):
        tp, fp, fn = counts(part)
        assert part["precision"] == (tp / (tp + fp) if tp else 0)
        assert part["recall"] == (tp / (tp + fn) if tp else 0)
        assert part["f1"] == (2 * tp / (2 * tp + fp + fn) if tp else 0)


def test_tweets_are_counted_together_and_kept_apart():
    predicted = [[entity(0, 1, "PER", BOX)], [entity(0, 1)], []]
    gold = [[entity(0, 1, "PER", BOX)], [entity(0, 1, "LOC")], [entity(0, 1)]]
    scores = score_grounded_entities(predicted, gold)
    assert counts(scores) == (1, 1, 2)  # the third tweet's gold is not found by the second tweet's prediction
    assert scores["precision"] == pytest.approx(1 / 2)
    assert scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(2 / 5)


def test_inclusive_accepts_an_iou_at_the_threshold():
    predicted, gold = [[entity(0, 2, "PER", HALF)]], [[entity(0, 2, "PER", BOX)]]
    assert score_grounded_entities(predicted, gold)["tp"] == 0
    assert score_grounded_entities(predicted, gold, inclusive=True)["tp"] == 1


def test_the_threshold_is_read():
    predicted, gold = [[entity(0, 2, "PER", MORE)]], [[entity(0, 2, "PER", BOX)]]
    assert [score_grounded_entities(predicted, gold, iou_threshold=limit)["tp"] for limit in (0.0, 0.59, 0.75)] == [
        1,
        1,
        0,
    ]
    with pytest.raises(ValueError, match=r"`iou_threshold` must be in \[0, 1\), got 50"):
        score_grounded_entities(predicted, gold, iou_threshold=50)


def test_a_perfect_answer_scores_one():
    gold = [case[1] for case in CASES.values() if case[1]]
    answer = [[{**one, "boxes": one["boxes"][:1]} for one in tweet] for tweet in gold]
    assert score_grounded_entities(answer, gold)["f1"] == 1.0


def test_two_predicted_boxes_are_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"Tweet 1, prediction .* has 2 boxes.*keep the box with the best score"):
        score_grounded_entities([[], [entity(0, 1, "PER", BOX, FAR)]], [[], []])


@pytest.mark.parametrize("role", ["prediction", "reference"])
def test_malformed_entities_are_refused(role):
    def score(bad):
        tweets = {"prediction": [[]], "reference": [[]], role: [[bad]]}
        return score_grounded_entities(tweets["prediction"], tweets["reference"])

    with pytest.raises(ValueError, match=rf"Tweet 0, {role} .*has no area; expected xmin < xmax"):
        score(entity(0, 1, "PER", [10, 0, 5, 5]))
    with pytest.raises(ValueError, match=r"lacks \['boxes'\].*`boxes=\[\]`"):
        score({"start": 0, "end": 1, "type": "PER"})
    with pytest.raises(ValueError, match="empty span"):
        score(entity(2, 2))


def test_number_of_tweets_must_agree():
    with pytest.raises(ValueError, match="has 0 tweets but `references` has 1"):
        score_grounded_entities([], [[]])
