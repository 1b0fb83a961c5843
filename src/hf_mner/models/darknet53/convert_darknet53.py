"""Weights as Darknet's authors publish them (`yolov3.weights`, `darknet53.conv.74`) to a `Darknet53Backbone`."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .configuration_darknet53 import PYRAMID_LEVELS, Darknet53Config
from .modeling_darknet53 import Darknet53Backbone, Darknet53ConvLayer

logger = logging.getLogger(__name__)

VERSION = struct.Struct("<3i")  # major, minor and revision
ANCHORS, BOX_SCORES = 3, 5  # a detection has anchors x (four sides, one objectness, classes) channels
COCO_CHANNELS = ANCHORS * (BOX_SCORES + 80)


class DarknetLayout(NamedTuple):
    """How many floats the parts of a file hold."""

    body: int
    pyramid: int
    detection_channel: int  # one channel of each of the three detection convolutions, together

    def detector(self, channels: int) -> int:
        """Count the floats of a whole detector with so many channels in each detection convolution."""
        return self.body + self.pyramid + channels * self.detection_channel


def convert_darknet_weights(path: str | PathLike[str], config: Darknet53Config | None = None) -> Darknet53Backbone:
    """Read Darknet's weights.

    A file of the body alone leaves the pyramid at random, and a warning says so. Of a whole detector, for any number
    of classes, the detection convolutions are left out; so is its pyramid where `config` has none.

    Args:
        path: `yolov3.weights`, `darknet53.conv.74`, or what Darknet itself wrote for the same network.
        config: shape of the network; `None` = YOLOv3's.

    Returns:
        The backbone, in evaluation.

    Raises:
        ValueError: if the file is of another size than the network, or holds numbers that are no weights.
        FileNotFoundError: if there is no such file.
    """
    config = config or Darknet53Config()
    values, layout = read_floats(Path(path)), darknet_layout(config)
    channels = detection_channels(path, values.size, layout)
    if config.has_pyramid and not channels:
        logger.warning(
            "%s holds the body alone; the feature pyramid starts at random: train it, or convert `yolov3.weights`.",
            path,
        )
    model = Darknet53Backbone(config).eval()
    start = 0
    for layer, detects in file_layers(model):
        if start == values.size:
            break
        start = fill_layer(layer, values, start, path)
        if detects:  # its input channels and a bias for each of its own
            start += channels * (layer.convolution.out_channels + 1)
    return model


def darknet_layout(config: Darknet53Config) -> DarknetLayout:
    """Count the floats of the parts of a file; the network is built without memory for its weights."""
    shape = Darknet53Config(
        num_channels=config.num_channels,
        embedding_size=config.embedding_size,
        depths=config.depths,
        has_pyramid=len(config.depths) >= PYRAMID_LEVELS,
    )
    with torch.device("meta"):
        model = Darknet53Backbone(shape)
    body = count_floats(model.stem) + count_floats(model.stages)
    channels = [layer.convolution.out_channels for layer, detects in file_layers(model) if detects]
    return DarknetLayout(body, count_floats(model) - body, sum(channels) + len(channels))


def file_layers(model: Darknet53Backbone) -> Iterator[tuple[Darknet53ConvLayer, bool]]:
    """Yield the convolutions in the order of Darknet's files, which is that of our modules.

    With each comes whether a detection convolution follows that reads it; ours has none.
    """
    for name, module in model.named_modules():
        if isinstance(module, Darknet53ConvLayer):
            yield module, name.startswith("pyramid.") and name.endswith(".output")


def count_floats(module: nn.Module) -> int:
    """Count the weights and the running statistics."""
    statistics = sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())
    return sum(parameter.numel() for parameter in module.parameters()) + statistics


def read_floats(path: Path) -> np.ndarray:
    """Map the numbers of a file, after its header, into memory.

    The header is three integers of four bytes, and the number of images seen in training: eight bytes since version
    0.2, else four.

    Raises:
        ValueError: if the file is too short or of an odd size.
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; give the path of `yolov3.weights` or `darknet53.conv.74`.")
    size = path.stat().st_size
    with path.open("rb") as file:
        major, minor, _ = VERSION.unpack(file.read(VERSION.size).ljust(VERSION.size, b"\0"))
    header = VERSION.size + (8 if major * 10 + minor >= 2 else 4)
    if size <= header or (size - header) % 4:
        raise ValueError(
            f"{path} has {size} bytes, which is no header and numbers of four bytes each; give a whole file of Darknet"
            " weights, such as `yolov3.weights` (248007048 bytes)."
        )
    return np.memmap(path, "<f4", mode="r", offset=header)


def detection_channels(path: str | PathLike[str], num_floats: int, layout: DarknetLayout) -> int:
    """Tell the channels of each detection convolution from the size of a file; 0 = it holds the body alone.

    Raises:
        ValueError: if no number of classes gives that size.
    """
    if num_floats == layout.body:
        return 0
    if layout.detection_channel:
        channels, rest = divmod(num_floats - layout.detector(0), layout.detection_channel)
        if rest == 0 and channels % ANCHORS == 0 and channels > ANCHORS * BOX_SCORES:
            return channels
    raise ValueError(
        f"{path} holds {num_floats} floats; expected {layout.body} (the body alone) or, with the pyramid and"
        f" detections of COCO's 80 classes, {layout.detector(COCO_CHANNELS)} ({ANCHORS * layout.detection_channel}"
        " more or less for each class). Give the weights of YOLOv3 and not of a variant, or `config` their shape."
    )


def fill_layer(layer: Darknet53ConvLayer, values: np.ndarray, start: int, path: str | PathLike[str]) -> int:
    """Fill a convolution and its normalisation from position `start` of a file, and return the position behind them.

    Raises:
        ValueError: for numbers that are not finite, or a negative variance.
    """
    norm: Any = layer.normalization
    tensors: tuple[Tensor, ...] = (norm.bias, norm.weight, norm.running_mean, norm.running_var)
    for tensor in (*tensors, layer.convolution.weight):
        chunk = torch.from_numpy(np.array(values[start : start + tensor.numel()], np.float32))
        if not chunk.isfinite().all() or (tensor is norm.running_var and (chunk < 0).any()):
            raise ValueError(
                f"{path} has numbers at {start} that cannot be weights (not finite, or a negative variance); it is"
                " damaged, or not of Darknet's format. Download it again."
            )
        with torch.no_grad():
            tensor.copy_(chunk.view_as(tensor))
        start += tensor.numel()
    return start


__all__ = ["convert_darknet_weights"]
