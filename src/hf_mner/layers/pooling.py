"""From token states to word states: picked by position, or added up."""

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


def sum_subwords(states: Tensor, word_index: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the states of each word's sub-words.

    Args:
        states: `b t d`.
        word_index: `b t`, long, the word that a token belongs to, from 0; -1 for tokens of no word.

    Returns:
        `b n d`, 0 at padding, and `b n`, bool, True for real words. `n` is that of the longest text, at least 1.

    Source: HamLearning, Eq. 1 ("we get h_i by summing the sub-tokens").
    """
    longest = max(int(word_index.max()) + 1, 1)
    places = word_index.clamp(min=0)
    real = (word_index >= 0).unsqueeze(-1)
    words = states.new_zeros(len(states), longest, states.shape[-1])
    words.scatter_add_(1, places.unsqueeze(-1).expand_as(states), states * real)
    counts = torch.arange(longest, device=states.device)
    return words, counts <= word_index.max(1, keepdim=True).values
