"""Query grounding: one box for each query, found among anchored places on feature maps at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from .anchors import ANCHORS_PER_CELL, AnchorGrid, assign_anchors, decode_boxes, encode_boxes
from .starts import Convolution, OwnStart, Projection

ObjectLoss = Literal["bce", "cross_entropy"]
OBJECT_LOSSES: tuple[str, ...] = get_args(ObjectLoss)
BOX_LOSS_WEIGHT = 5.0  # of FA-VG's public training code
COORDINATES = 8  # channels of `coordinate_map`


class GroundingScores(NamedTuple):
    """What a grounding head says of every place (see `AnchorGrid`): `confidence` `m a`, raw; `shifts` `m a 4`."""

    confidence: Tensor
    shifts: Tensor


class GroundingHead(nn.Module):
    """Fuses a query with the map at every location, then predicts three boxes and their confidence there.

    The printed order is: broadcast the query, concatenate it with the map, 1x1 convolution. Kept as two halves, that
    convolution reads an image once for all of its queries; the sum is the same.

    Args:
        width: channels of the maps and of the queries.
        num_scales: number of maps.
        has_coordinates: also read where a location is (FA-VG; the MNER-QG paper mentions no such map).

    Source: MNER-QG, "Query Grounding"; FA-VG (Yang et al. 2019), section 3.
    """

    def __init__(self, width: int, num_scales: int = 3, has_coordinates: bool = False):
        super().__init__()
        self.scales = nn.ModuleList(GroundingScale(width, has_coordinates) for _ in range(num_scales))

    def forward(self, queries: Tensor, maps: Sequence[Tensor], image_index: Tensor) -> GroundingScores:
        """Score every place for every query.

        Args:
            queries: `m d`.
            maps: `k d h w` for each scale, the finest first.
            image_index: `m`, long, the image of each query.
        """
        found = [scale(queries, features, image_index) for scale, features in zip(self.scales, maps, strict=True)]
        scores = torch.cat(found, dim=1)  # m a 5
        return GroundingScores(scores[..., 4], scores[..., :4])


class GroundingScale(nn.Module):
    """The grounding head at one scale."""

    def __init__(self, width: int, has_coordinates: bool):
        super().__init__()
        self.has_coordinates = has_coordinates
        self.image = Convolution(width + COORDINATES * has_coordinates, width, 1, bias=False)
        self.query = Projection(width, width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.output = PlaceScores(width, ANCHORS_PER_CELL * 5, 1)

    def forward(self, queries: Tensor, features: Tensor, image_index: Tensor) -> Tensor:
        """Score the places of one grid: `m (h w 3) 5`."""
        if self.has_coordinates:
            where = coordinate_map(features.shape[2], features.shape[3], features.device, features.dtype)
            features = torch.cat([features, where.expand(len(features), -1, -1, -1)], dim=1)
        fused = self.image(features)[image_index] + self.query(queries)[:, :, None, None]  # m d h w
        scores = self.output(F.relu(self.norm(fused)))  # m 15 h w
        return scores.flatten(2).transpose(1, 2).reshape(len(queries), -1, 5)


class PlaceScores(nn.Conv2d, OwnStart):
    """The last convolution of a grounding head: four shifts and a confidence for each anchor of a location."""

    def draw_weights(self) -> None:
        """Start from "no object": one place in a thousand is one, and a sum over all places drowns everything else."""
        if self.bias is not None:
            init.constant_(self.bias.view(ANCHORS_PER_CELL, 5)[:, 4], -7.0)


def coordinate_map(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Tell each location where it is: `1 8 h w`.

    Returns:
        Left, top, right and lower edge and centre (x, y) of each cell, from -1 to 1 over the map, and 1 / width and
        1 / height.

    Source: FA-VG (Yang et al. 2019), section 3.1, spatial encoding.
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    one = torch.ones_like(x)
    across, down = 2 / width, 2 / height
    channels = [
        x * across - 1,
        y * down - 1,
        (x + 1) * across - 1,
        (y + 1) * down - 1,
        (x + 0.5) * across - 1,
        (y + 0.5) * down - 1,
        one / width,
        one / height,
    ]
    return torch.stack(channels).unsqueeze(0).to(device, dtype)


def ground(scores: GroundingScores, grid: AnchorGrid, object_loss: ObjectLoss) -> tuple[Tensor, Tensor]:
    """Return the box of the most confident place of each query, and its confidence.

    Args:
        scores: of the head.
        grid: the places.
        object_loss: how the confidence was trained: `bce` reads it as a sigmoid, `cross_entropy` as a softmax over
            the places.

    Returns:
        `m 4`, corners as fractions of the image, clipped to it; `m`, in [0, 1].
    """
    confidence = scores.confidence.float()
    read = confidence.sigmoid() if object_loss == "bce" else confidence.softmax(-1)
    best, places = read.max(-1)
    shifts = scores.shifts[torch.arange(len(places), device=places.device), places].float()
    return decode_boxes(shifts, grid, places).clamp(0, 1), best


def grounding_loss(
    scores: GroundingScores, boxes_xyxy: Tensor, has_box: Tensor, grid: AnchorGrid, object_loss: ObjectLoss
) -> Tensor:
    """Score the place that stands for each gold box, and what is predicted there.

    Args:
        scores: of the head.
        boxes_xyxy: `m 4`, gold boxes, corners as fractions of the image; any numbers where there is none.
        has_box: `m`, bool, whether the query is in the image.
        grid: the places.
        object_loss: `bce`: the place of the gold box is an object, every other one is none; all places of a query
            that is not in the image are none. `cross_entropy`: one class for each place, as FA-VG's public code; a
            query that is not in the image counts for nothing.

    Returns:
        A scalar: 5 times the sum of the squared errors of the centre (after the sigmoid), `t_w` and `t_h`, a mean over
        the queries that are in the image, plus the object loss, a mean over all queries (`bce`) or over those
        (`cross_entropy`).

    Source: MNER-QG, L_QG (MSE and BCE); FA-VG's public training code for targets and the factor 5.
    Departure: the BCE is summed over the places of a query. A mean over 4,032 places of which one is an object would
        leave that one without weight.
    """
    grounded = has_box.nonzero().squeeze(-1)
    gold = boxes_xyxy[grounded]
    places = assign_anchors(gold, grid)
    shifts = scores.shifts[grounded, places].float()
    predicted = torch.cat([shifts[:, :2].sigmoid(), shifts[:, 2:]], dim=-1)
    errors = F.mse_loss(predicted, encode_boxes(gold, grid, places), reduction="sum")
    confidence = scores.confidence.float()
    if object_loss == "bce":
        target = torch.zeros_like(confidence)
        target[grounded, places] = 1
        objects = F.binary_cross_entropy_with_logits(confidence, target, reduction="sum") / max(len(confidence), 1)
    else:
        objects = F.cross_entropy(confidence[grounded], places, reduction="sum") / max(len(grounded), 1)
    return BOX_LOSS_WEIGHT * errors / max(len(grounded), 1) + objects
