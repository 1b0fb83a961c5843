"""Intersection over union, by hand and by property."""

import random

import pytest

from hf_mner.metrics import box_iou


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [0, 0, 10, 5], 0.5),  # no +1 pixel: with it, 66/121 = 0.545
        ([0, 0, 10, 10], [5, 5, 15, 15], 25 / 175),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),  # they only touch
        ([0, 0, 1, 1], [5, 5, 6, 6], 0.0),  # apart in both directions: no product of two negative lengths
        ([0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 0.5], 1 / 3),
    ],
)
def test_iou_by_hand(a, b, expected):
    assert box_iou(a, b) == pytest.approx(expected, abs=1e-12)
    assert isinstance(box_iou(a, b), float)


def test_iou_is_symmetric_and_free_of_scale_and_place():
    generator = random.Random(0)

    def box():
        x, y = generator.uniform(0, 50), generator.uniform(0, 50)
        return [x, y, x + generator.uniform(1, 50), y + generator.uniform(1, 50)]

    for _ in range(200):
        a, b = box(), box()
        moved = [[3 * value + 7 for value in one] for one in (a, b)]
        assert 0 <= box_iou(a, b) <= 1
        assert box_iou(a, b) == box_iou(b, a) == pytest.approx(box_iou(*moved))


@pytest.mark.parametrize("box", [[10, 0, 10, 5], [5, 0, 1, 5], [0, 5, 5, 5], [0, 9, 5, 5]])
def test_an_empty_box_is_refused_with_the_cure(box):
    with pytest.raises(ValueError, match=r"has no area; expected xmin < xmax .* convert"):
        box_iou(box, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="has no area"):
        box_iou([0, 0, 1, 1], box)


@pytest.mark.parametrize("box", [[0, 0, 1], [0, 0, 1, 1, 1], {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}, "0011"])
def test_what_is_not_a_box_is_refused(box):
    with pytest.raises(ValueError, match="expected four numbers"):
        box_iou(box, [0, 0, 1, 1])


def test_a_box_with_nan_is_refused():
    with pytest.raises(ValueError, match="expected four numbers"):
        box_iou([0, 0, float("nan"), 1], [0, 0, 1, 1])
