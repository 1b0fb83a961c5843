"""Features of regions, from a feature map of the whole image."""

from __future__ import annotations

import torch
from torch import Tensor


def pool_regions(features: Tensor, boxes: Tensor) -> Tensor:
    """Average a feature map over each box, where a cell counts by the share of it that the box covers.

    That is the exact integral of the map as a function that is constant on each cell: nothing is rounded, and a box
    smaller than a cell reads that cell.

    Args:
        features: `k c h w`.
        boxes: `k n 4`, corners as fractions of the image.

    Returns:
        `k n c`; 0 for a box without an area.

    Source: in the place of RoI pooling (Girshick 2015) and RoIAlign (He et al. 2017).
    """
    height, width = features.shape[-2:]
    # Differences of corners do not survive bfloat16, whose steps are 1/256 of the image.
    with torch.autocast(features.device.type, enabled=False):
        boxes = boxes.float()
        across = covered(boxes[..., 0], boxes[..., 2], width)  # k n w
        down = covered(boxes[..., 1], boxes[..., 3], height)  # k n h
        sums = torch.einsum("kchw,knh,knw->knc", features.float(), down, across)
        area = down.sum(-1) * across.sum(-1)
        return (sums / area.unsqueeze(-1).clamp(min=torch.finfo(torch.float32).tiny)).to(features.dtype)


def covered(start: Tensor, end: Tensor, num_cells: int) -> Tensor:
    """Return `... n`, how much of each cell the stretch from `start` to `end` (fractions, `...`) covers, in cells."""
    first = torch.arange(num_cells, device=start.device, dtype=start.dtype)
    left = (start.unsqueeze(-1) * num_cells).clamp(min=first)
    right = (end.unsqueeze(-1) * num_cells).clamp(max=first + 1)
    return (right - left).clamp(min=0)
