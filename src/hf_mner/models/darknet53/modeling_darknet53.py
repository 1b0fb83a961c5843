"""Darknet-53 and YOLOv3's feature pyramid (Redmon and Farhadi 2018), as a backbone of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.generic import can_return_tuple

from .configuration_darknet53 import PYRAMID_LEVELS, Darknet53Config


class Darknet53ConvLayer(nn.Module):
    """A convolution without bias, batch normalisation and a leaky ReLU."""

    def __init__(self, config: Darknet53Config, in_channels: int, out_channels: int, size: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)
        self.normalization = nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps)
        self.activation = nn.LeakyReLU(config.negative_slope)

    def forward(self, states: Tensor) -> Tensor:
        """Convolve `b c h w`."""
        return self.activation(self.normalization(self.convolution(states)))


class Darknet53ResidualLayer(nn.Module):
    """Half the channels by 1x1, all again by 3x3, and the input added."""

    def __init__(self, config: Darknet53Config, channels: int):
        super().__init__()
        self.reduction = Darknet53ConvLayer(config, channels, channels // 2, size=1)
        self.expansion = Darknet53ConvLayer(config, channels // 2, channels, size=3)

    def forward(self, states: Tensor) -> Tensor:
        """Map `b c h w` to the same shape."""
        return states + self.expansion(self.reduction(states))


class Darknet53Stage(nn.Module):
    """A 3x3 convolution of stride 2 that doubles the channels, then residual layers."""

    def __init__(self, config: Darknet53Config, in_channels: int, depth: int):
        super().__init__()
        self.downsampling = Darknet53ConvLayer(config, in_channels, 2 * in_channels, size=3, stride=2)
        self.layers = nn.Sequential(*(Darknet53ResidualLayer(config, 2 * in_channels) for _ in range(depth)))

    def forward(self, states: Tensor) -> Tensor:
        """Map `b c h w` to `b 2c h/2 w/2`."""
        return self.layers(self.downsampling(states))


class Darknet53PyramidLevel(nn.Module):
    """One level of the pyramid: what the coarser level says is laid beside the stage's map, then six convolutions.

    Args:
        config: the configuration.
        channels: channels of the stage and of the level's map.
        has_coarser: whether there is a coarser level to read.
    """

    def __init__(self, config: Darknet53Config, channels: int, has_coarser: bool):
        super().__init__()
        half = channels // 2
        # Here and in the pyramid, modules stand in the order of Darknet's files, which conversion relies on.
        self.lateral = Darknet53ConvLayer(config, channels, half, size=1) if has_coarser else None
        self.layers = nn.Sequential(
            Darknet53ConvLayer(config, channels + half if has_coarser else channels, half, size=1),
            Darknet53ConvLayer(config, half, channels, size=3),
            Darknet53ConvLayer(config, channels, half, size=1),
            Darknet53ConvLayer(config, half, channels, size=3),
            Darknet53ConvLayer(config, channels, half, size=1),
        )
        self.output = Darknet53ConvLayer(config, half, channels, size=3)

    def forward(self, stage: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the level's state, which the finer level reads (`b c/2 h w`), and its map (`b c h w`)."""
        if self.lateral is not None and coarser is not None:
            # To the size of the stage, which is twice the coarser one's where the image is a multiple of 32.
            upsampled = F.interpolate(self.lateral(coarser), size=stage.shape[-2:], mode="nearest")
            stage = torch.cat([upsampled, stage], dim=1)
        state = self.layers(stage)
        return state, self.output(state)


class Darknet53Pyramid(nn.Module):
    """YOLOv3's feature pyramid up to, and without, the convolutions that detect.

    Source: Redmon and Farhadi 2018, section 2.3 (https://arxiv.org/abs/1804.02767), and the public `yolov3.cfg`.
    """

    def __init__(self, config: Darknet53Config, channels: list[int]):
        super().__init__()
        self.levels = nn.ModuleList(
            Darknet53PyramidLevel(config, width, has_coarser=index > 0) for index, width in enumerate(channels[::-1])
        )

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        """Map the last stages, finest first, to as many maps of the same shapes, `b c h w` each."""
        state, maps = None, []
        for level, stage in zip(self.levels, stages[::-1], strict=True):
            state, output = level(stage, state)
            maps.append(output)
        return maps[::-1]


class Darknet53PreTrainedModel(PreTrainedModel):
    """What is general about models of Darknet-53: the start of their weights."""

    config_class = Darknet53Config
    base_model_prefix = "darknet53"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["Darknet53ResidualLayer", "Darknet53PyramidLevel"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, a=self.config.negative_slope, nonlinearity="leaky_relu")


class Darknet53Backbone(BackboneMixin, Darknet53PreTrainedModel):
    """Darknet-53: five stages of residual layers and, by default, YOLOv3's feature pyramid.

    An image is RGB from 0 to 1, not standardised, where the weights are those that Darknet's authors published.

    Source: Redmon and Farhadi 2018, Table 1 and sections 2.3 and 2.4 (https://arxiv.org/abs/1804.02767).
    Departure: batch normalisation follows new batches with PyTorch's momentum of 0.1, where Darknet has 0.01: short
    trainings would end with the statistics of the start.
    """

    has_attentions = False

    def __init__(self, config: Darknet53Config):
        super().__init__(config)
        widths = [config.embedding_size * 2**index for index in range(len(config.depths) + 1)]
        self.stem = Darknet53ConvLayer(config, config.num_channels, widths[0], size=3)
        self.stages = nn.ModuleList(
            Darknet53Stage(config, width, depth) for width, depth in zip(widths[:-1], config.depths, strict=True)
        )
        self.pyramid = Darknet53Pyramid(config, widths[-PYRAMID_LEVELS:]) if config.has_pyramid else None
        self.num_features = widths + (widths[-PYRAMID_LEVELS:] if config.has_pyramid else [])
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | None = None,  # noqa: ARG002 the decorator reads it
        **kwargs: Any,  # noqa: ARG002
    ) -> BackboneOutput:
        """Compute the maps that `config.out_features` names.

        Args:
            pixel_values: `b 3 h w`.
            output_hidden_states: whether to return the maps of all `config.stage_names` as well.
            kwargs: `return_dict`, and what other backbones know.

        Returns:
            `feature_maps`, `b c h w` each, finest first: by default strides of 8, 16 and 32.
        """
        states = [self.stem(pixel_values)]
        for stage in self.stages:
            states.append(stage(states[-1]))
        if self.pyramid is not None:
            states += self.pyramid(states[-PYRAMID_LEVELS:])
        chosen = tuple(
            state for name, state in zip(self.stage_names, states, strict=True) if name in self.out_features
        )
        return BackboneOutput(feature_maps=chosen, hidden_states=tuple(states), attentions=None)


__all__ = ["Darknet53Backbone", "Darknet53PreTrainedModel"]
