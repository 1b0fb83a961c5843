from __future__ import annotations

import torch

from hf_mner.layers.pooling import gather_token, gather_tokens

STATES = torch.arange(2 * 4 * 3, dtype=torch.float).view(2, 4, 3)


def test_gather_tokens_picks_by_position():
    index = torch.tensor([[3, 0], [2, 2]])
    gathered = gather_tokens(STATES, index)
    for row in range(2):
        for column in range(2):
            assert torch.equal(gathered[row, column], STATES[row, index[row, column]])


def test_gather_tokens_reads_position_0_for_padding():
    assert torch.equal(gather_tokens(STATES, torch.tensor([[1, -1], [1, 3]]))[0, 1], STATES[0, 0])


def test_gather_tokens_of_no_positions():
    assert gather_tokens(STATES, torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 3)


def test_gather_token_is_gather_tokens_of_one():
    index = torch.tensor([3, 1])
    assert torch.equal(gather_token(STATES, index), gather_tokens(STATES, index[:, None])[:, 0])


def test_gathering_passes_gradients_to_the_picked_states_only():
    states = STATES.clone().requires_grad_()
    gather_tokens(states, torch.tensor([[1], [2]])).sum().backward()
    assert states.grad.sum() == 6
    assert torch.equal(states.grad[0, 1], torch.ones(3))
    assert torch.equal(states.grad[1, 2], torch.ones(3))
