"""The pretrained encoders inside a model, where nearly all of its time goes."""

from __future__ import annotations

from torch import nn

ENCODERS = ("text_model", "vision_model")


def find_encoders(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules called `text_model` and `vision_model`, by their full names."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        if name.rpartition(".")[2] in ENCODERS and not is_inside:
            found[name] = module
    return found
