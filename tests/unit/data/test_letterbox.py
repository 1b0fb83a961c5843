"""Letterboxing: boxes there and back, and pixels where the boxes say."""

import pytest
from PIL import Image

from hf_mner.data.letterbox import from_letterbox, letterbox, to_letterbox

SIZES = [(100, 50), (50, 100), (64, 64), (37, 91), (3, 1000)]


@pytest.mark.parametrize("size", SIZES)
def test_there_and_back_changes_nothing(size):
    width, height = size
    for box in ([0, 0, width, height], [width / 4, height / 3, width / 2, height]):
        inside = to_letterbox(box, size)
        assert all(0 <= value <= 1 + 1e-9 for value in inside)
        assert from_letterbox(inside, size) == pytest.approx(box, abs=1e-6)


def test_a_wide_image_lies_in_the_middle():
    assert to_letterbox([0, 0, 100, 50], (100, 50)) == [0, 0.25, 1, 0.75]
    assert to_letterbox([0, 0, 50, 100], (50, 100)) == [0.25, 0, 0.75, 1]


def test_what_is_beside_the_image_is_cut_off():
    assert from_letterbox([0, 0, 1, 0.5], (100, 50)) == [0, 0, 100, 25]
    assert from_letterbox([0, 0, 1, 0.2], (100, 50)) is None


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_where_the_boxes_say(size):
    image = Image.new("RGB", size, (200, 0, 0))
    square = letterbox(image, 64, (1, 2, 3))
    assert square.size == (64, 64)
    left, top, right, bottom = (64 * value for value in to_letterbox([0, 0, *size], size))
    middle = (min(int((left + right) / 2), 63), min(int((top + bottom) / 2), 63))
    assert square.getpixel(middle) == (200, 0, 0)
    if left > 1:
        assert square.getpixel((0, 32)) == (1, 2, 3)
    if top > 1:
        assert square.getpixel((32, 0)) == (1, 2, 3)
