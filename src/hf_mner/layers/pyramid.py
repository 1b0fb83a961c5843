"""From the maps of an image backbone to maps of one width: a pyramid for backbones that have none, projections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .starts import Convolution


class FeaturePyramid(nn.Module):
    """Let fine feature maps know what coarse ones do: the top-down pathway with lateral connections.

    Args:
        channels: channels of the backbone's maps, finest first.
        width: channels of each map of the pyramid.

    Raises:
        ValueError: without maps.

    Source: Lin et al. 2017, section 3 (https://arxiv.org/abs/1612.03144).
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        if not channels:
            raise ValueError("`channels` is empty; give the channels of each feature map, finest first.")
        self.laterals = nn.ModuleList(Convolution(size, width, kernel_size=1) for size in channels)
        self.outputs = nn.ModuleList(Convolution(width, width, kernel_size=3, padding=1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Compute the pyramid.

        Args:
            maps: `b c h w` each, finest first.

        Returns:
            As many maps of the same heights and widths, `b d h w` each, finest first.

        Raises:
            ValueError: if there are more or fewer maps than `channels`.
        """
        if len(maps) != len(self.laterals):
            raise ValueError(
                f"{len(maps)} feature maps were given to a pyramid of {len(self.laterals)}; `channels` must hold one"
                " number for each map."
            )
        states = [lateral(state) for lateral, state in zip(self.laterals, maps, strict=True)]
        for index in range(len(states) - 2, -1, -1):
            above = F.interpolate(states[index + 1], size=states[index].shape[-2:], mode="nearest")
            states[index] = states[index] + above
        return [output(state) for output, state in zip(self.outputs, states, strict=True)]


class MapProjection(nn.Module):
    """A 1x1 convolution with batch normalisation and ReLU: `k c h w` gives `k d h w`."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.convolution = Convolution(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """Project a map: `k c h w` gives `k d h w`."""
        return F.relu(self.norm(self.convolution(features)))
