"""The grounding head: an image read once for all queries, losses by hand, and the box of the best place."""

import math

import pytest
import torch
from torch.nn import functional as F

from hf_mner.layers.anchors import PHRASE_ANCHORS, anchor_grid, assign_anchors, encode_boxes
from hf_mner.layers.grounding import GroundingHead, GroundingScores, coordinate_map, ground, grounding_loss

GRID = anchor_grid(PHRASE_ANCHORS, (4, 2, 1))
PLACES = GRID.offsets[-1]
BOXES = torch.tensor([[0.1, 0.2, 0.4, 0.9], [0.55, 0.55, 0.75, 0.7], [0.0, 0.0, 1.0, 1.0]])


def maps(count, width=8):
    return [torch.randn(count, width, side, side) for side in (4, 2, 1)]


def head(**kwargs):
    torch.manual_seed(0)
    made = GroundingHead(8, **kwargs).eval()
    for scale in made.scales:
        scale.norm.running_mean.normal_()
        scale.norm.running_var.uniform_(0.5, 2)
    return made


@pytest.mark.parametrize("has_coordinates", [False, True])
def test_two_halves_are_the_printed_convolution(has_coordinates):
    """Broadcast, concatenate, 1x1 convolution (the paper) against our sum of two."""
    made = head(has_coordinates=has_coordinates)
    features, queries, index = maps(2), torch.randn(5, 8), torch.tensor([0, 1, 1, 0, 1])
    expected = []
    for scale, states in zip(made.scales, features, strict=True):
        states = states[index]
        if has_coordinates:
            where = coordinate_map(*states.shape[2:], states.device, states.dtype)
            states = torch.cat([states, where.expand(5, -1, -1, -1)], dim=1)
        broadcast = queries[:, :, None, None].expand(-1, -1, *states.shape[2:])
        weight = torch.cat([scale.image.weight, scale.query.weight[:, :, None, None]], dim=1)
        fused = F.relu(scale.norm(F.conv2d(torch.cat([states, broadcast], dim=1), weight)))
        output = scale.output(fused)  # m 15 h w
        expected.append(output.view(5, 3, 5, *output.shape[2:]).permute(0, 3, 4, 1, 2).reshape(5, -1, 5))
    scores, joined = made(queries, features, index), torch.cat(expected, dim=1)
    # sums of 16 products in another order: 1e-6 measured
    assert torch.allclose(scores.shifts, joined[..., :4], atol=1e-5)
    assert torch.allclose(scores.confidence, joined[..., 4], atol=1e-5)
    assert scores.confidence.shape == (5, PLACES)


def test_coordinates_are_those_of_the_cells():
    where = coordinate_map(2, 4, torch.device("cpu"), torch.float32)[0]
    left, top, right, bottom, x, y, across, down = where
    assert left[0].tolist() == [-1, -0.5, 0, 0.5]
    assert right[0].tolist() == [-0.5, 0, 0.5, 1]
    assert top[:, 0].tolist() == [-1, 0]
    assert bottom[:, 0].tolist() == [0, 1]
    assert torch.equal(x, (left + right) / 2)
    assert torch.equal(y, (top + bottom) / 2)
    assert across.unique().tolist() == [0.25]
    assert down.unique().tolist() == [0.5]


def perfect(boxes, confidence=20.0):
    """Scores that say exactly what the gold boxes are."""
    places = assign_anchors(boxes, GRID)
    code = encode_boxes(boxes, GRID, places)
    shifts = torch.zeros(len(boxes), PLACES, 4)
    rows = torch.arange(len(boxes))
    shifts[rows, places] = torch.cat([torch.logit(code[:, :2], eps=1e-6), code[:, 2:]], dim=-1)
    scores = torch.full((len(boxes), PLACES), -confidence)
    scores[rows, places] = confidence
    return GroundingScores(scores, shifts)


@pytest.mark.parametrize("object_loss", ["bce", "cross_entropy"])
def test_perfect_scores_have_no_loss_and_give_the_boxes(object_loss):
    scores = perfect(BOXES)
    assert grounding_loss(scores, BOXES, torch.ones(3, dtype=torch.bool), GRID, object_loss) < 1e-4
    found, confidence = ground(scores, GRID, object_loss)
    assert torch.allclose(found, BOXES, atol=1e-5)
    assert (confidence > 0.999).all()


def test_the_loss_is_the_printed_sum():
    """One query: 5 x (four squared errors) + BCE over all places, worked out by hand."""
    torch.manual_seed(3)
    scores = GroundingScores(torch.randn(1, PLACES), torch.randn(1, PLACES, 4))
    box = BOXES[:1]
    place = assign_anchors(box, GRID).item()
    x, y, w, h = encode_boxes(box, GRID, torch.tensor([place]))[0].tolist()
    tx, ty, tw, th = scores.shifts[0, place].tolist()
    sigmoid = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
    errors = (sigmoid(tx) - x) ** 2 + (sigmoid(ty) - y) ** 2 + (tw - w) ** 2 + (th - h) ** 2
    probabilities = [sigmoid(value) for value in scores.confidence[0].tolist()]
    bce = -sum(math.log(p if index == place else 1 - p) for index, p in enumerate(probabilities))
    total = sum(math.exp(value) for value in scores.confidence[0].tolist())
    ce = -math.log(math.exp(scores.confidence[0, place].item()) / total)
    there = torch.tensor([True])
    assert grounding_loss(scores, box, there, GRID, "bce").item() == pytest.approx(5 * errors + bce, rel=1e-4)
    assert grounding_loss(scores, box, there, GRID, "cross_entropy").item() == pytest.approx(5 * errors + ce, rel=1e-4)


def test_a_query_that_is_not_in_the_image_has_objects_nowhere():
    scores = perfect(BOXES)
    absent = torch.tensor([False, False, False])
    assert grounding_loss(scores, BOXES, absent, GRID, "bce") == pytest.approx(20, rel=1e-3), "three confident places"
    assert grounding_loss(scores, BOXES, absent, GRID, "cross_entropy") == 0
    silent = GroundingScores(torch.full((3, PLACES), -20.0), scores.shifts)
    assert grounding_loss(silent, BOXES, absent, GRID, "bce") < 1e-4


def test_no_query_at_all_has_no_loss():
    nothing = GroundingScores(torch.zeros(0, PLACES, requires_grad=True), torch.zeros(0, PLACES, 4))
    loss = grounding_loss(nothing, torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), GRID, "bce")
    assert loss == 0


def test_boxes_stay_in_the_image():
    scores = GroundingScores(torch.zeros(1, PLACES), torch.full((1, PLACES, 4), 5.0))
    found, _ = ground(scores, GRID, "bce")
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_confidence_starts_low():
    scale = head().scales[0]
    with torch.no_grad():
        scale.output.draw_weights()
    assert scale.output.bias[4::5].tolist() == [-7.0] * 3
    assert not (scale.output.bias.view(3, 5)[:, :4] == -7).any()
