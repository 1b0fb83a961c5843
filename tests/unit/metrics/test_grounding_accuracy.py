"""Grounding accuracy by hand."""

import pytest

from hf_mner.metrics import score_grounding

BOX = [0, 0, 100, 100]


def test_by_hand():
    # IoU 1, 0.8, 0.6, exactly 0.75, exactly 0.5, and no box.
    predicted = [BOX, [0, 0, 100, 80], [0, 0, 60, 100], [0, 0, 100, 75], [0, 0, 50, 100], None]
    scores = score_grounding(predicted, [[BOX]] * 6)
    assert scores["accu@0.5"] == pytest.approx(4 / 6)  # strictly above: the fifth is wrong
    assert scores["accu@0.75"] == pytest.approx(2 / 6)
    assert scores["miou"] == pytest.approx((1 + 0.8 + 0.6 + 0.75 + 0.5) / 6)
    assert scores["support"] == 6


def test_the_best_of_several_gold_boxes_counts():
    far = [200, 200, 300, 300]
    assert score_grounding([BOX, BOX], [[far, BOX], [BOX, far]])["miou"] == 1.0


def test_no_queries_give_zeros():
    assert score_grounding([], []) == {"accu@0.5": 0.0, "accu@0.75": 0.0, "miou": 0.0, "support": 0}


def test_a_query_without_gold_box_is_refused_with_the_cure():
    with pytest.raises(ValueError, match="Query 1 has no gold box.*score_grounded_entities"):
        score_grounding([BOX, None], [[BOX], []])


def test_number_of_queries_must_agree():
    with pytest.raises(ValueError, match="has 1 queries but `references` has 2"):
        score_grounding([BOX], [[BOX], [BOX]])
