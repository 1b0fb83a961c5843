"""Eight-bit storage of weights: one scale for each row, computed back to floats when a checkpoint is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE_SUFFIX = ".row_scale"


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to 8 bits, symmetrically and row by row.

    Args:
        weight: `n d`, floating point.

    Returns:
        values: `n d`, int8 in -127..127.
        scales: `n`, float32; `values * scales[:, None]` is the matrix again, each entry off by at most half a scale,
            that is the row's largest magnitude / 254.
    """
    scales = weight.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (weight.float() / scales[:, None]).round().to(torch.int8), scales


def quantize_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store every matrix of a state dictionary as int8 with its scales, and all else in half precision."""
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.is_floating_point() and value.ndim == 2:
            stored[name], stored[name + SCALE_SUFFIX] = quantize_rows(value)
        else:
            stored[name] = value.half() if value.is_floating_point() else value.clone()
    return stored


def dequantize_state(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the float32 state dictionary that `quantize_state` stored, up to rounding."""
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        scales = stored.get(name + SCALE_SUFFIX)
        restored = value if scales is None else value.float() * scales[:, None]
        state[name] = restored.float() if restored.is_floating_point() else restored
    return state
