"""Picking token states by position."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_tokens(states: Tensor, index: Tensor) -> Tensor:
    """Pick the state at each given position.

    Args:
        states: `b t d`.
        index: `b n`, long; positions in `0..t-1`, `-1` marks padding.

    Returns:
        `b n d`; rows of padding hold the state of position 0 and must be masked by the caller.
    """
    return states.gather(1, index.clamp(min=0).unsqueeze(-1).expand(-1, -1, states.shape[-1]))  # b n d


def gather_token(states: Tensor, index: Tensor) -> Tensor:
    """Pick one state for each row: `states` is `b t d`, `index` is `b` (long), the result is `b d`."""
    return states[torch.arange(states.shape[0], device=states.device), index]
