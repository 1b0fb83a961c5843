"""Boxes as shifts of anchors on grids (YOLOv3): which anchor stands for a box, and how it codes the box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ANCHORS_PER_CELL = 3
ANCHOR_FRAME = 416  # pixels; anchors are published for images of this side
YOLOV3_ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
PHRASE_ANCHORS = ((29, 26), (55, 58), (137, 71), (82, 121), (124, 205), (204, 132), (209, 263), (369, 169), (352, 294))


class AnchorGrid(NamedTuple):
    """All places where a box can be, the finest grid first; in a grid row by row, and three anchors for each cell.

    Args:
        corners: `a 2`, x and y of the upper left corner of the place's cell.
        cells: `a 1`, side of the cell.
        sizes: `a 2`, width and height of the anchor. All three are fractions of the image's side.
        offsets: number of places before each grid, and of all places together.
        sides: cells on a side of each grid.
    """

    corners: Tensor
    cells: Tensor
    sizes: Tensor
    offsets: tuple[int, ...]
    sides: tuple[int, ...]


def anchor_grid(
    anchors: Sequence[Sequence[float]], sides: Sequence[int], device: torch.device | None = None
) -> AnchorGrid:
    """Lay anchors on square grids.

    Args:
        anchors: width and height in pixels of a 416-pixel image, small to large: three for each grid, those of the
            finest grid first.
        sides: cells on a side of each grid, the finest first (32, 16, 8 for an image of 256 pixels).
        device: of the result.

    Raises:
        ValueError: if there are not three anchors for each grid.

    Source: YOLOv3 (Redmon and Farhadi 2018, section 2.3); FA-VG (Yang et al. 2019) for one frame of 416 pixels.
    """
    if len(anchors) != ANCHORS_PER_CELL * len(sides):
        raise ValueError(f"`anchors` holds {len(anchors)} anchors for {len(sides)} grids; give three for each grid.")
    corners, cells, sizes, offsets = [], [], [], [0]
    for scale, side in enumerate(sides):
        steps = torch.arange(side, device=device, dtype=torch.float32) / side
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        corner = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, ANCHORS_PER_CELL, -1)
        chosen = anchors[ANCHORS_PER_CELL * scale : ANCHORS_PER_CELL * (scale + 1)]
        size = torch.tensor(chosen, device=device, dtype=torch.float32) / ANCHOR_FRAME
        corners.append(corner.reshape(-1, 2))
        sizes.append(size.repeat(side * side, 1))
        cells.append(torch.full((side * side * ANCHORS_PER_CELL, 1), 1 / side, device=device))
        offsets.append(offsets[-1] + side * side * ANCHORS_PER_CELL)
    return AnchorGrid(torch.cat(corners), torch.cat(cells), torch.cat(sizes), tuple(offsets), tuple(sides))


def assign_anchors(boxes_xyxy: Tensor, grid: AnchorGrid) -> Tensor:
    """Find the place that stands for each box: of all anchors the one most like it in shape, in its centre's cell.

    Args:
        boxes_xyxy: `m 4`, corners as fractions of the image.
        grid: the places.

    Returns:
        `m`, long, indices of places. A centre on the right or lower edge of the image counts to the last cell.

    Source: FA-VG's public training code: the shape IoU is that of the two boxes centred at one point.
    """
    centres, sizes = centres_and_sizes(boxes_xyxy)
    anchors = torch.cat([grid.sizes[first : first + ANCHORS_PER_CELL] for first in grid.offsets[:-1]])  # 9 2
    shared = torch.minimum(sizes.unsqueeze(1), anchors).prod(-1)  # m 9
    iou = shared / (sizes.prod(-1, keepdim=True) + anchors.prod(-1) - shared)
    best = iou.argmax(-1)  # m
    scale = best // ANCHORS_PER_CELL
    sides = torch.tensor(grid.sides, device=boxes_xyxy.device)[scale]
    offsets = torch.tensor(grid.offsets, device=boxes_xyxy.device)[scale]
    column, row = torch.minimum((centres * sides.unsqueeze(-1)).long(), (sides - 1).unsqueeze(-1)).unbind(-1)
    return offsets + (row * sides + column) * ANCHORS_PER_CELL + best % ANCHORS_PER_CELL


def encode_boxes(boxes_xyxy: Tensor, grid: AnchorGrid, places: Tensor) -> Tensor:
    """Code boxes by the places that stand for them.

    Args:
        boxes_xyxy: `m 4`, corners as fractions of the image.
        grid: the places.
        places: `m`, long, see `assign_anchors`.

    Returns:
        `m 4`: the centre in its cell (`x` and `y` in [0, 1], the sigmoid of `t_x` and `t_y`), and `t_w`, `t_h` =
        log(size / anchor).
    """
    centres, sizes = centres_and_sizes(boxes_xyxy)
    inside = (centres - grid.corners[places]) / grid.cells[places]
    return torch.cat([inside, torch.log(sizes / grid.sizes[places])], dim=-1)


def decode_boxes(shifts: Tensor, grid: AnchorGrid, places: Tensor) -> Tensor:
    """Turn predicted shifts into boxes.

    Args:
        shifts: `m 4`, raw `t_x, t_y, t_w, t_h`.
        grid: the places.
        places: `m`, long, the place of each.

    Returns:
        `m 4`, corners as fractions of the image, which they may leave.
    """
    centres = grid.corners[places] + shifts[..., :2].sigmoid() * grid.cells[places]
    sizes = shifts[..., 2:].clamp(max=10).exp() * grid.sizes[places]  # a wild `t_w` gives a large box, not infinity
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def centres_and_sizes(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centres and the sizes (`m 2` each) of boxes given by their corners (`m 4`)."""
    lower, upper = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return (lower + upper) / 2, upper - lower
