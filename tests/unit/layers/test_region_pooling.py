"""Averages over regions of a feature map: against averages over the pixels of a map of finer cells."""

import pytest
import torch

from hf_mner.layers.regions import pool_regions

FINER = 32  # pixels in a cell, each way


def by_hand(features, boxes):
    """Average the pixels of each box, whose corners lie between pixels, in a map of `FINER` times as many cells."""
    fine = features.repeat_interleave(FINER, dim=2).repeat_interleave(FINER, dim=3)
    height, width = fine.shape[-2:]
    means = []
    for image, image_boxes in zip(fine, boxes, strict=True):
        for left, top, right, bottom in image_boxes.tolist():
            rows, columns = (
                slice(round(top * height), round(bottom * height)),
                slice(round(left * width), round(right * width)),
            )
            means.append(image[:, rows, columns].mean((1, 2)))
    return torch.stack(means).view(len(boxes), -1, features.shape[1])


def random_boxes(num_images, num_boxes, height, width):
    """Fractions that lie between the pixels of a map of `height` and `width` cells."""
    columns, rows = width * FINER, height * FINER
    x, y = (torch.stack([torch.randperm(n + 1)[:2] for _ in range(num_images * num_boxes)]) for n in (columns, rows))
    x, y = x.sort(dim=1).values / columns, y.sort(dim=1).values / rows
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1).view(num_images, num_boxes, 4)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5), (1, 2), (7, 7)])
def test_means_are_those_of_a_finer_map(height, width):
    torch.manual_seed(height)
    features, boxes = torch.randn(2, 6, height, width), random_boxes(2, 50, height, width)
    # float32 sums of up to 50 thousand pixels: 1e-6 measured.
    torch.testing.assert_close(pool_regions(features, boxes), by_hand(features, boxes), rtol=0, atol=2e-5)


def test_the_whole_image_is_the_mean_of_the_map():
    features = torch.randn(3, 6, 7, 5)
    pooled = pool_regions(features, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, 1, 4))
    torch.testing.assert_close(pooled[:, 0], features.mean((2, 3)), rtol=0, atol=1e-6)


def test_a_box_smaller_than_a_cell_reads_that_cell():
    features = torch.randn(1, 6, 4, 4)
    pooled = pool_regions(features, torch.tensor([[[0.30, 0.55, 0.31, 0.57], [0.0, 0.0, 1e-4, 1e-4]]]))
    torch.testing.assert_close(pooled[0], features[0, :, [2, 0], [1, 0]].T, rtol=0, atol=1e-5)


def test_x_is_across_and_y_is_down():
    features = torch.zeros(1, 1, 2, 2)
    features[0, 0, 0, 1] = 1.0  # the upper right
    assert pool_regions(features, torch.tensor([[[0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]]])).flatten().tolist() == [
        1,
        0,
    ]


def test_a_box_without_area_has_no_features():
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.2, 0.3, 0.2, 0.9], [0.0, 0.0, 0.0, 0.0], [0.8, 0.8, 0.2, 0.2]]])
    features = torch.randn(1, 6, 4, 4, requires_grad=True)
    pooled = pool_regions(features, boxes)
    assert torch.equal(pooled, torch.zeros(1, 4, 6))
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features)), "and no gradient that is no number"


def test_gradients_reach_the_cells_of_a_box_by_their_share():
    features = torch.randn(1, 1, 2, 2, requires_grad=True)
    pool_regions(features, torch.tensor([[[0.25, 0.0, 1.0, 0.5]]])).sum().backward()
    torch.testing.assert_close(features.grad, torch.tensor([[[[1 / 3, 2 / 3], [0.0, 0.0]]]]))


def test_maps_of_half_precision_are_pooled():
    features, boxes = torch.randn(1, 6, 4, 4), random_boxes(1, 5, 4, 4)
    pooled = pool_regions(features.bfloat16(), boxes)
    assert pooled.dtype == torch.bfloat16
    # bfloat16 has 8 bits: 0.01 measured.
    torch.testing.assert_close(pooled.float(), pool_regions(features, boxes), rtol=0, atol=0.1)


@pytest.mark.parametrize("side", [2, 4, 20])
def test_small_boxes_survive_bfloat16(side):
    """Steps of bfloat16 are 1/256 of an image: corners are not rounded to them."""
    features = torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    left, top = 700, 500
    boxes = torch.tensor([[[left / 1200, top / 800, (left + side) / 1200, (top + side) / 800]]])
    expected = pool_regions(features.bfloat16().float(), boxes)
    pooled = pool_regions(features.bfloat16(), boxes)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), expected, atol=0, rtol=0.01)
