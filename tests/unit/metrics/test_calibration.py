"""Bins of scores and the expected calibration error, by hand."""

import pytest

from hf_mner.metrics import expected_calibration_error, reliability


def test_bins_and_error_by_hand():
    bins = reliability([0.0, 0.5, 0.51, 0.9, 1.0], [False, True, True, True, False], num_bins=2)
    assert bins == [(0, 0.5, 2, 0.25, 0.5), (0.5, 1, 3, pytest.approx(0.80333333), pytest.approx(2 / 3))]
    assert expected_calibration_error(bins) == pytest.approx(2 / 5 * 0.25 + 3 / 5 * (0.80333333 - 2 / 3))


def test_scores_that_are_what_they_look_like_have_no_error():
    assert expected_calibration_error(reliability([0.75] * 4, [True, True, True, False])) == 0
    assert expected_calibration_error(reliability([], [])) == 0
    assert [part.size for part in reliability([n / 10 for n in range(1, 11)], [True] * 10)] == [1] * 10


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`scores` has 1 numbers but `is_right` has 0"):
        reliability([0.5], [])
    with pytest.raises(ValueError, match="`scores` holds 1.5; expected numbers"):
        reliability([1.5], [True])
    with pytest.raises(ValueError, match="`num_bins` must be at least 1, got 0"):
        reliability([], [], 0)
