"""Anchors: the coding of boxes and the choice of places, against straightforward loops."""

import math

import pytest
import torch

from hf_mner.layers.anchors import (
    PHRASE_ANCHORS,
    YOLOV3_ANCHORS,
    anchor_grid,
    assign_anchors,
    decode_boxes,
    encode_boxes,
)

SIDES = (32, 16, 8)


def random_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lower = torch.rand(count, 2, generator=generator) * 0.9
    size = 0.005 + torch.rand(count, 2, generator=generator) * (0.995 - lower)
    return torch.cat([lower, (lower + size).clamp(max=1)], dim=-1)


def test_there_are_three_places_in_each_of_1344_cells():
    grid = anchor_grid(PHRASE_ANCHORS, SIDES)
    assert grid.offsets == (0, 3072, 3840, 4032)
    assert len(grid.corners) == len(grid.cells) == len(grid.sizes) == 3 * 1344
    assert grid.cells.unique().tolist() == [1 / 32, 1 / 16, 1 / 8]


def test_places_go_row_by_row():
    grid = anchor_grid(YOLOV3_ANCHORS, (2, 1, 1))
    assert grid.corners[:12:3].tolist() == [[0, 0], [0.5, 0], [0, 0.5], [0.5, 0.5]], "x first, then y"
    assert torch.allclose(grid.sizes[:3] * 416, torch.tensor(YOLOV3_ANCHORS[:3], dtype=torch.float32))
    assert torch.allclose(grid.sizes[-1] * 416, torch.tensor([373.0, 326.0]))


@pytest.mark.parametrize("anchors", [YOLOV3_ANCHORS, PHRASE_ANCHORS])
def test_coding_and_decoding_change_nothing(anchors):
    grid, boxes = anchor_grid(anchors, SIDES), random_boxes(500)
    places = assign_anchors(boxes, grid)
    code = encode_boxes(boxes, grid, places)
    assert ((code[:, :2] >= 0) & (code[:, :2] <= 1)).all(), "the centre is in its cell"
    shifts = torch.cat([torch.logit(code[:, :2].double(), eps=1e-12).float(), code[:, 2:]], dim=-1)
    # float32 through log and sigmoid: 4e-7 measured; a centre in the next cell is off by 1/32.
    assert torch.allclose(decode_boxes(shifts, grid, places), boxes, atol=5e-6)


def assign_by_hand(box, anchors, sides):
    """The best of nine anchors by the IoU of two boxes with one corner in common, then the cell of the centre."""
    width, height = box[2] - box[0], box[3] - box[1]
    overlaps = []
    for anchor in anchors:
        w, h = anchor[0] / 416, anchor[1] / 416
        shared = min(width, w) * min(height, h)
        overlaps.append(shared / (width * height + w * h - shared))
    best = overlaps.index(max(overlaps))
    side = sides[best // 3]
    column = min(math.floor((box[0] + box[2]) / 2 * side), side - 1)
    row = min(math.floor((box[1] + box[3]) / 2 * side), side - 1)
    before = sum(3 * other * other for other in sides[: best // 3])
    return before + 3 * (row * side + column) + best % 3


@pytest.mark.parametrize("anchors", [YOLOV3_ANCHORS, PHRASE_ANCHORS])
def test_places_are_those_of_a_loop_over_anchors(anchors):
    boxes = random_boxes(1000, seed=1)
    found = assign_anchors(boxes, anchor_grid(anchors, SIDES)).tolist()
    assert found == [assign_by_hand(box, anchors, SIDES) for box in boxes.tolist()]
    assert len({place // 3072 for place in found}) > 1, "several grids are in use"


def test_a_centre_on_the_last_edge_belongs_to_the_last_cell():
    edge = torch.tensor([[0.99, 0.99, 1.01, 1.01], [0.0, 0.0, 1.0, 1.0]])
    grid = anchor_grid(YOLOV3_ANCHORS, SIDES)
    places = assign_anchors(edge, grid)
    assert places[0] // 3 == 1023
    assert (places < grid.offsets[-1]).all()


def test_a_wild_width_gives_a_finite_box():
    grid = anchor_grid(YOLOV3_ANCHORS, SIDES)
    assert torch.isfinite(decode_boxes(torch.full((1, 4), 1e4), grid, torch.tensor([0]))).all()


def test_grids_need_three_anchors_each():
    with pytest.raises(ValueError, match="9 anchors for 2 grids; give three for each"):
        anchor_grid(YOLOV3_ANCHORS, (16, 8))
