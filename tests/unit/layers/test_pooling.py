from __future__ import annotations

import torch

from hf_mner.layers.pooling import gather_token, gather_tokens, sum_subwords

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


def test_sub_words_are_added_up_to_words():
    index = torch.tensor([[-1, 0, 0, 1], [-1, 0, -1, -1]])
    words, is_word = sum_subwords(STATES, index)
    assert torch.equal(words[0], torch.stack([STATES[0, 1] + STATES[0, 2], STATES[0, 3]]))
    assert torch.equal(words[1], torch.stack([STATES[1, 1], torch.zeros(3)]))
    assert is_word.tolist() == [[True, True], [True, False]]


def test_sums_are_those_of_a_loop_whatever_special_tokens_hold():
    torch.manual_seed(0)
    states, index = torch.randn(5, 12, 3), torch.full((5, 12), -1)
    for row, count in enumerate((1, 3, 6, 10, 0)):
        index[row, 1 : 1 + count] = torch.randint(0, 2, (count,)).cumsum(0)
        index[row, 1 : 1 + count] -= index[row, 1].clone() if count else 0
    states[index < 0] = 1e3
    words, is_word = sum_subwords(states, index)
    assert words.shape[1] == is_word.shape[1] == index.max() + 1
    for row in range(5):
        for word in range(words.shape[1]):
            expected = states[row, index[row] == word].sum(0)
            torch.testing.assert_close(words[row, word], expected)
            assert is_word[row, word] == (index[row] == word).any()


def test_texts_without_words_have_one_that_is_none():
    words, is_word = sum_subwords(STATES, torch.full((2, 4), -1))
    assert torch.equal(words, torch.zeros(2, 1, 3))
    assert not is_word.any()


def test_every_sub_word_of_a_word_gets_its_gradient_and_special_tokens_get_none():
    states = STATES.clone().requires_grad_()
    words, _ = sum_subwords(states, torch.tensor([[-1, 0, 0, 1], [0, 1, 2, -1]]))
    words[:, 0].sum().backward()
    assert torch.equal(states.grad[..., 0], torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0]]))
