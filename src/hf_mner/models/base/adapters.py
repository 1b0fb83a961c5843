"""Low-rank adapters (LoRA) in the text encoders, through `peft`: added, saved apart, loaded, merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from .backbones import load_text_encoder, resolve_backbone

ADAPTER_FOLDER = "adapter"  # in peft's own format
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OTHER_WEIGHTS = "model.adapter.safetensors"  # all that is no text encoder, and the embeddings that were added to it
ADDED_EMBEDDINGS = "added_embeddings"
ENCODER = "text_model"
ALL_LINEAR = "all-linear"
PREFIX = "base_model.model."  # of the names in peft's files


def add_lora(
    model: PreTrainedModel, rank: int, alpha: float, dropout: float, targets: Sequence[str]
) -> tuple[int, int]:
    """Freeze the text encoder of a model and put low-rank adapters beside its linear layers.

    What is no text encoder is trained as before. Start: the adapters change nothing. Embeddings of added
    tokens (`[obj]` of SCANNER) are part of the encoder: they keep their start.

    Args:
        model: a model with one text encoder, `text_model`; changed in place.
        rank: inner width of the adapters.
        alpha: their outcome is scaled by `alpha / rank`.
        dropout: of what the adapters read, in training.
        targets: the last parts of the names of layers, such as `query`; `["all-linear"]` = every linear layer.

    Returns:
        The number of parameters that are trained, and of all without the adapters.

    Raises:
        ImportError: without `peft`.
        ValueError: if the encoder has no linear layer of such a name.

    Source: Hu et al. 2021, LoRA (https://arxiv.org/abs/2106.09685).
    """
    peft = import_peft()
    names = target_names(model, targets)
    total = sum(parameter.numel() for parameter in model.parameters())
    others = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and is_other(name)]
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    settings.base_model_name_or_path = model.get_submodule(ENCODER).config.name_or_path
    peft.inject_adapter_in_model(settings, model)  # freezes all but the adapters
    for parameter in others:
        parameter.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad), total


def target_names(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """Return the full names of the text encoder's linear layers that `add_lora` adapts."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not is_other(name)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no text encoder `{ENCODER}` with linear layers to adapt.")
    chosen = linear if list(targets) == [ALL_LINEAR] else [n for n in linear if n.rpartition(".")[2] in targets]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ValueError(
            f"`targets={list(targets)}` names no linear layer of the text encoder; choose of {', '.join(known)}, or"
            f" [{ALL_LINEAR}]."
        )
    return chosen


def is_other(name: str) -> bool:
    """Tell whether a parameter or module lies outside the text encoder."""
    return ENCODER not in name.split(".")


def has_lora(model: nn.Module) -> bool:
    """Tell whether a model has adapters that are not merged."""
    return hasattr(model, "peft_config")


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Save adapters and all that is no text encoder, beside `config.json`: what `from_pretrained` needs.

    The encoder itself is not saved; it is found again by its name. `folder/adapter` is in peft's format.

    Args:
        model: with adapters that are not merged.
        folder: receives the files.
    """
    peft = import_peft()
    target = folder / ADAPTER_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    state = peft.get_peft_model_state_dict(model)
    save_file({f"{PREFIX}{name}": value.contiguous() for name, value in state.items()}, target / ADAPTER_WEIGHTS)
    model.peft_config["default"].save_pretrained(target)
    encoder = model.get_submodule(ENCODER)
    known = AutoConfig.from_pretrained(resolve_backbone(encoder.config.name_or_path)).vocab_size
    others = {name: value.contiguous() for name, value in model.state_dict().items() if is_other(name)}
    others[ADDED_EMBEDDINGS] = encoder.get_input_embeddings().weight.detach()[known:].contiguous()
    save_file(others, folder / OTHER_WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)


def merge_lora(model: nn.Module) -> None:
    """Add the adapters' products to the weights of the layers beside them, and remove them; in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, module in adapted:
        module.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module.get_base_layer())
    del model.peft_config
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def is_adapter_checkpoint(folder: Path) -> bool:
    """Tell whether a folder holds what `save_adapter` wrote, and no whole weights."""
    return (folder / OTHER_WEIGHTS).is_file() and not (folder / "model.safetensors").is_file()


def adapter_state(model_class: type[PreTrainedModel], config: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Return the whole weights of an adapter checkpoint, the adapters merged into the encoder that they were made for.

    Raises:
        OSError: if the encoder is not to be had.
    """
    peft = import_peft()
    settings = peft.LoraConfig.from_pretrained(folder / ADAPTER_FOLDER)
    others = load_file(folder / OTHER_WEIGHTS)
    model: Any = model_class(config)
    encoder = model.get_submodule(ENCODER)
    fill_encoder(encoder, load_text_encoder(settings.base_model_name_or_path), others.pop(ADDED_EMBEDDINGS))
    peft.inject_adapter_in_model(settings, model)
    state = load_file(folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS)
    peft.set_peft_model_state_dict(model, {name.removeprefix(PREFIX): value for name, value in state.items()})
    model.load_state_dict(others, strict=False)
    merge_lora(model)
    return model.state_dict()


def fill_encoder(encoder: PreTrainedModel, source: PreTrainedModel, added_embeddings: torch.Tensor) -> None:
    """Copy a pretrained encoder into one that may have fewer layers and more embeddings."""
    state = source.state_dict()
    own = encoder.get_input_embeddings().weight
    name = next(name for name, parameter in encoder.named_parameters() if parameter is own)
    state[name] = torch.cat([state[name], added_embeddings])
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})


def import_peft() -> Any:
    """Import `peft`, or say how to install it."""
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs `peft`: pip install hf-mner[peft].") from error
    return peft
