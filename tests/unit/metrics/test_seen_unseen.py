"""F1 of seen and unseen entities by hand."""

import pytest

from hf_mner.metrics import score_seen_unseen, score_spans, surface_forms

TOKENS = [["Steve", "Kerr", "visits", "Paris"], ["kroger", "in", "Ohio"]]
GOLD = [[(0, 2, "PER"), (3, 4, "LOC")], [(0, 1, "ORG"), (2, 3, "LOC")]]
TRAINING = {"Paris", "Kroger"}


def test_surface_forms_join_words_by_single_spaces():
    assert surface_forms(TOKENS, GOLD) == {"Steve Kerr", "Paris", "kroger", "Ohio"}


def test_each_prediction_is_sorted_by_its_own_surface_form():
    predicted = [[(1, 2, "PER"), (3, 4, "ORG")], [(2, 3, "LOC")]]  # wrong boundary; wrong type; right
    scores = score_seen_unseen(predicted, GOLD, TOKENS, TRAINING)
    seen, unseen = scores["seen"], scores["unseen"]
    assert (seen["precision"], seen["recall"], seen["support"]) == (
        0.0,
        0.0,
        1,
    )  # Paris as ORG is a seen false positive
    assert (unseen["precision"], unseen["recall"], unseen["support"]) == (1 / 2, 1 / 3, 3)  # Kerr wrong, Ohio right
    assert unseen["f1"] == pytest.approx(2 / 5)
    assert scores["overall"] == score_spans(predicted, GOLD)


def test_case_decides_by_default_and_can_be_ignored():
    assert score_seen_unseen(GOLD, GOLD, TOKENS, TRAINING)["seen"]["support"] == 1
    assert score_seen_unseen(GOLD, GOLD, TOKENS, TRAINING, case_sensitive=False)["seen"]["support"] == 2


def test_the_two_sides_add_up():
    scores = score_seen_unseen(GOLD, GOLD, TOKENS, surface_forms(TOKENS[:1], GOLD[:1]))
    assert scores["seen"]["support"] + scores["unseen"]["support"] == scores["overall"]["support"] == 4
    assert scores["seen"]["f1"] == scores["unseen"]["f1"] == 1.0


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`training_entities` is one string"):
        score_seen_unseen(GOLD, GOLD, TOKENS, "Paris")
    with pytest.raises(ValueError, match=r"Sentence 0: span \(3, 5\) does not fit its 4 words"):
        score_seen_unseen([[(3, 5, "LOC")], []], GOLD, TOKENS, TRAINING)
    with pytest.raises(ValueError, match="has 1 sentences"):
        score_seen_unseen(GOLD, GOLD, TOKENS[:1], TRAINING)
