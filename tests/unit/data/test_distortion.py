"""Distorted images and their boxes."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from hf_mner.data.distortion import Distortion

NOTHING = Distortion(saturation=1.0, brightness=1.0, scale=1.0, degrees=0.0, shift=(0.0, 0.0))


def white_box(box: tuple[int, int, int, int], side: int = 200) -> Image.Image:
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


def test_no_distortion_changes_nothing():
    image, boxes = white_box((20, 40, 100, 90)), torch.tensor([[0.1, 0.2, 0.5, 0.45], [-1.0, -1.0, -1.0, -1.0]])
    assert np.array_equal(np.asarray(NOTHING.image(image, (0, 0, 0))), np.asarray(image))
    assert torch.allclose(NOTHING.boxes(boxes), boxes)


def test_boxes_move_with_the_pixels():
    random.seed(1)
    for _ in range(30):
        distortion = Distortion.draw()._replace(saturation=1.0, brightness=1.0)
        moved = distortion.image(white_box((60, 70, 120, 110)), (0, 0, 0))
        rows, columns = (np.asarray(moved)[..., 0] > 127).nonzero()
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = 200 * distortion.boxes(torch.tensor([0.3, 0.35, 0.6, 0.55]))
        assert expected.tolist() == pytest.approx(seen, abs=2.5)


def test_a_box_that_left_the_image_is_none():
    away = NOTHING._replace(shift=(0.5, 0.0))
    boxes = away.boxes(torch.tensor([[0.6, 0.1, 0.9, 0.4], [0.2, 0.1, 0.8, 0.4]]))
    assert boxes[0].tolist() == [-1.0] * 4
    assert boxes[1].tolist() == pytest.approx([0.7, 0.1, 1.0, 0.4])


def test_colour_changes_and_place_does_not():
    image = Image.new("RGB", (8, 8), (200, 100, 100))
    darker = np.asarray(NOTHING._replace(brightness=0.5).image(image, (0, 0, 0)))
    assert darker[0, 0].tolist() == [100, 50, 50]
    grey = np.asarray(NOTHING._replace(saturation=0.0).image(image, (0, 0, 0)))
    assert len(set(grey[0, 0].tolist())) == 1


def test_the_seed_decides():
    random.seed(3)
    first = Distortion.draw()
    random.seed(3)
    assert Distortion.draw() == first
