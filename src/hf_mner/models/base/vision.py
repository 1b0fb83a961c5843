"""Any image model of transformers as feature maps of given strides."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneMixin

from .backbones import has_pooling_switch, resolve_backbone
from .onnx_encoders import OnnxImageEncoder

# The Auto classes are imported where they are used: importing them registers our models, which import this file.

STRIDES = (8, 16, 32)
IMAGE_SIZE = 256  # of the blank image, for models that take any


def feature_map_model(config: Any) -> PreTrainedModel:
    """Build an image model for `feature_maps`, with weights at random.

    Args:
        config: of a type that `AutoBackbone` knows, or of a model whose `hidden_states` are feature maps and whose
            maps `select_feature_maps` has chosen.

    Raises:
        ValueError: if no maps have been chosen.
    """
    model_class, kwargs = model_class_of(config)
    if not is_backbone(config) and not getattr(config, "feature_layers", None):
        raise ValueError(
            f"`{type(config).__name__}` does not say which hidden states are the feature maps; call"
            " `select_feature_maps(config)` first."
        )
    return model_class._from_config(config, **kwargs)


def load_feature_map_model(name: str, strides: Sequence[int] = STRIDES) -> PreTrainedModel:
    """Load a pretrained image model for `feature_maps`, in single precision.

    The choice of maps lies in the model's configuration, so that `feature_map_model(model.config)` builds the same.

    Args:
        name: Hub name or folder.
        strides: of the feature maps, in ascending order.

    Raises:
        ValueError: see `select_feature_maps`.
        OSError: if the checkpoint has no safetensors file.
    """
    from transformers import AutoConfig

    path = resolve_backbone(name)
    config = AutoConfig.from_pretrained(path)
    config = select_feature_maps(getattr(config, "vision_config", config), strides)
    model_class, kwargs = model_class_of(config)
    model = model_class.from_pretrained(path, config=config, dtype=torch.float32, use_safetensors=True, **kwargs)
    model.config.name_or_path = name  # never the folder of this machine
    return model


def select_feature_maps(config: Any, strides: Sequence[int] = STRIDES) -> Any:
    """Choose the last map of each stride, and write the choice into the configuration.

    Nothing is computed: the model is built and run on PyTorch's meta device, where tensors have shapes alone.

    Args:
        config: of an image model; backbones get `out_features`, others `feature_layers`, indices of `hidden_states`.
        strides: of the feature maps, in ascending order.

    Returns:
        The same configuration.

    Raises:
        ValueError: if the model gives no feature maps (a ViT, a text model), or none of a stride.
    """
    if not strides or list(strides) != sorted(set(strides)):
        raise ValueError(f"`strides={list(strides)}` must ascend, each given once; for example {STRIDES}.")
    copy = deepcopy(config)
    if is_backbone(config):
        copy.out_features = list(copy.stage_names)
    maps, size = blank_maps(copy)
    last = {round(size / states.shape[-1]): index for index, states in enumerate(maps)}
    if missing := [stride for stride in strides if stride not in last]:
        raise ValueError(
            f"`{type(config).__name__}` gives no feature map of stride {missing[0]}, only of {sorted(last)}; choose"
            " `strides` among these, or another image model."
        )
    layers = [last[stride] for stride in strides]
    if is_backbone(config):
        config.out_features = [config.stage_names[layer] for layer in layers]
    else:
        config.feature_layers = layers
    return config


def feature_maps(model: PreTrainedModel, pixel_values: Tensor) -> list[Tensor]:
    """Return the chosen feature maps of images, `b c h w` each, finest first.

    Args:
        model: of `feature_map_model` or `load_feature_map_model`.
        pixel_values: `b 3 h w`, prepared as the model wants them.
    """
    if isinstance(model, BackboneMixin | OnnxImageEncoder):
        return list(model(pixel_values).feature_maps)
    states = model(pixel_values, output_hidden_states=True).hidden_states
    return [states[layer] for layer in model.config.feature_layers]


def feature_channels(model: PreTrainedModel) -> list[int]:
    """Return the number of channels of each of `feature_maps`."""
    if isinstance(model, BackboneMixin):
        return list(model.channels)
    maps, _ = blank_maps(model.config)
    return [maps[layer].shape[1] for layer in model.config.feature_layers]


def blank_maps(config: Any) -> tuple[list[Tensor], int]:
    """Run a blank image through a model on the meta device.

    Args:
        config: of a backbone, whose `out_features` are run, or of a model with `hidden_states`.

    Returns:
        The maps, `1 c h w` without values, and the number of pixels of the image's sides.

    Raises:
        ValueError: if the model reads no images, or gives no maps for them.
    """
    model_class, kwargs = model_class_of(config)
    if model_class.main_input_name != "pixel_values":
        raise ValueError(f"`{model_class.__name__}` reads no images; use an image encoder such as ResNet.")
    given = getattr(config, "image_size", None)
    size = given if isinstance(given, int) else given[0] if given else IMAGE_SIZE
    with torch.device("meta"), torch.no_grad():
        model = model_class._from_config(config, **kwargs).eval()
        output = model(torch.zeros(1, getattr(config, "num_channels", 3), size, size), output_hidden_states=True)
    maps = output.feature_maps if is_backbone(config) else output.hidden_states
    if not maps or any(states.ndim != 4 for states in maps):
        raise ValueError(
            f"`{model_class.__name__}` gives no feature maps (`b c h w`); use an image encoder such as ResNet,"
            " ConvNeXt or MobileNetV2."
        )
    return list(maps), size


def is_backbone(config: PreTrainedConfig) -> bool:
    """Tell whether `AutoBackbone` knows models of this configuration."""
    from transformers import AutoBackbone

    return type(config) in AutoBackbone._model_mapping


def model_class_of(config: PreTrainedConfig) -> tuple[Any, dict[str, bool]]:
    """Return the backbone class of a configuration, else its `AutoModel` class; with the arguments to build it.

    Raises:
        ValueError: if transformers has no encoder of the configuration.
    """
    from transformers import AutoBackbone, AutoModel

    # The class itself: `AutoBackbone.from_pretrained` asks the Hub for a repository, also where a folder is given.
    if is_backbone(config):
        return AutoBackbone._model_mapping[type(config)], {}
    model_class = AutoModel._model_mapping.get(type(config), None)
    if not isinstance(model_class, type):  # a tuple holds the heads of a system of ours
        raise ValueError(f"`{type(config).__name__}` is of no image encoder; use one such as ResNet or MobileNetV2.")
    return model_class, {"add_pooling_layer": False} if has_pooling_switch(config) else {}
