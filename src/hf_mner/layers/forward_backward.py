"""The forward-backward algorithm over whole batches, in plain weights where they fit and in logarithms where not."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Products of two messages stay above exp(-60), a factor of 1e12 over the smallest normal float32, so that what
# underflows beside them could not be seen. See `normalising_interval`.
LOG_RANGE = 60.0


class Words(NamedTuple):
    """Where the words of a batch stand, by step.

    Args:
        real: `n b`, bool, False for padding.
        mirrored: `n b`, long; where the words of each sequence stand in reverse order, as row numbers of a flattened
            `n b`. Padding stays where it is, so that mirroring twice changes nothing. The first row points at the last
            words.
    """

    real: Tensor
    mirrored: Tensor


def words_by_step(lengths: Tensor, steps: int) -> Words:
    """Describe sequences of `lengths` (`b`) words, padded to `steps`."""
    position = torch.arange(steps, device=lengths.device).unsqueeze(-1)  # n 1
    real = position < lengths  # n b
    mirrored = torch.where(real, lengths - 1 - position, position)
    return Words(real, mirrored * len(lengths) + torch.arange(len(lengths), device=lengths.device))


def rows(steps: Tensor, numbers: Tensor) -> Tensor:
    """Return rows of `n b c`, given as numbers of a flattened `n b`."""
    flat = steps.reshape(-1, steps.shape[-1])
    return flat.index_select(0, numbers.flatten()).view(*numbers.shape, steps.shape[-1])


def path_steps(emissions: Tensor, start: Tensor, end: Tensor, words: Words) -> Tensor:
    """Return `n b c`: the emissions, with `start` added to the first word's and `end` to the last one's; 0 at padding.

    A sequence without words gets both at its first position; callers ignore its result.
    """
    steps = emissions.transpose(0, 1).contiguous()
    steps = torch.where(words.real.unsqueeze(-1), steps, 0.0)  # whatever padding holds, NaN included, is not read
    steps[0] += start
    steps.view(-1, len(end)).index_add_(0, words.mirrored[0], end.expand(steps.shape[1], -1))
    return steps


def drop_shared(steps: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the largest score of each step, and of all transitions.

    All paths lose the same, so that probabilities do not change. What remains is small, and so is its rounding.
    """
    return steps - steps.amax(-1, keepdim=True), transitions - transitions.max()


class Messages(NamedTuple):
    """What the two passes of the forward-backward algorithm say about each tag at each step; padding holds anything.

    Args:
        before: `n b c`; the weight of all paths up to the step and with it. Each step has its own factor.
        after: `n b c`; the weight of all paths after the step.
        onward: `n b c`; the weight of all paths after the step and with it; `after` of a step is the product of the
            transitions and `onward` of the next one.
        log_norm: `b`; the logarithm of the weight of all paths.
        is_log: whether weights are given as their logarithms.
    """

    before: Tensor
    after: Tensor
    onward: Tensor
    log_norm: Tensor
    is_log: bool


def pass_messages(steps: Tensor, transitions: Tensor, words: Words) -> Messages:
    """Run the forward-backward algorithm.

    The backward pass is a forward pass over mirrored sequences and transposed transitions. Both run in one loop over
    the steps (`2 b c`), which costs hardly more than one: for the sizes of this package the time goes into calls.

    Args:
        steps: `n b c`, see `path_steps`; the largest value of each step is 0, see `drop_shared`.
        transitions: `c c`; the largest value is 0.
        words: where the words stand.
    """
    mirrored = words.mirrored  # n b
    interval = normalising_interval(steps, transitions)
    matrices = torch.stack([transitions, transitions.T])  # 2 c c
    if interval:
        weights = steps.exp()
        weights = torch.stack([weights, rows(weights, mirrored)], dim=1)  # n 2 b c
        states, arrivals, log_factors = scaled_pass(weights, matrices.exp(), interval)
        total = rows(states[:, 0], mirrored[0]).sum(-1).log()  # b
    else:
        states, arrivals, log_factors = log_pass(torch.stack([steps, rows(steps, mirrored)], dim=1), matrices)
        total = rows(states[:, 0], mirrored[0]).logsumexp(-1)
    log_norm = total + (log_factors * words.real[:: interval or 1]).sum(0)
    return Messages(states[:, 0], rows(arrivals[:, 1], mirrored), rows(states[:, 1], mirrored), log_norm, not interval)


def normalising_interval(steps: Tensor, transitions: Tensor) -> int:
    """Return after how many steps a pass over plain weights must be normalised; 0 = it would underflow all the same.

    A step multiplies the largest weight by `c` at most, and no weight falls below the former sum times
    `exp(-spread)`, where spread is the largest difference of two transitions plus that of two tags of a step. The
    product of a forward and a backward message is `2 * interval - 1` such steps away from normalised ones.
    The largest value of each step (`n b c`) and of the transitions (`c c`) is 0.
    """
    spread = math.log(len(transitions)) - float(steps.amin() + transitions.amin()) if steps.numel() else 0.0
    return int((LOG_RANGE / max(spread, 1.0) + 1) / 2) if spread <= LOG_RANGE else 0  # 0 also for NaN


def scaled_pass(weights: Tensor, matrices: Tensor, interval: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run the forward algorithm on plain weights and normalise them from time to time.

    Args:
        weights: `n 2 b c`, exponential scores of the steps.
        matrices: `2 c c`, exponential scores of the transitions.
        interval: see `normalising_interval`.

    Returns:
        states: `n 2 b c`, the weight of the paths that end in a tag at a step.
        arrivals: `n 2 b c`, the same without the weight of the step itself.
        log_factors: `m b`, by what the first direction was divided at steps 0, `interval`, twice `interval`, ...

    Source: Rabiner 1989, "A tutorial on hidden Markov models", section V.A (scaling).
    """
    states, arrivals = torch.empty_like(weights), torch.ones_like(weights)
    states[0] = weights[0]
    factors = [torch.ones_like(weights[0, 0, :, 0])]
    state, *others = states.unbind()
    for step, (arrival, weight, reached) in enumerate(
        zip(arrivals[1:].unbind(), weights[1:].unbind(), others, strict=True), start=1
    ):
        torch.mul(torch.bmm(state, matrices, out=arrival), weight, out=reached)
        state = reached
        if step % interval == 0:
            factor = state.sum(-1, keepdim=True)  # 2 b 1
            state /= factor
            factors.append(factor[0, :, 0])
    return states, arrivals, torch.stack(factors).log()


def log_pass(steps: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `scaled_pass` does, in the logarithm: several times slower, but right for any scores.

    Args:
        steps: `n 2 b c`.
        transitions: `2 c c`.
    """
    state = steps[0]
    states, arrivals, factors = [state], [torch.zeros_like(state)], [torch.zeros_like(state[0, :, 0])]
    for step in steps[1:].unbind():
        arrivals.append(torch.logsumexp(state.unsqueeze(-1) + transitions.unsqueeze(1), dim=2))
        state = arrivals[-1] + step
        factor = state.amax(-1, keepdim=True)
        state = state - factor
        states.append(state)
        factors.append(factor[0, :, 0])
    return torch.stack(states), torch.stack(arrivals), torch.stack(factors)


def tag_probabilities(messages: Messages, real: Tensor) -> Tensor:
    """Return `n b c`, the probability of each tag at each word; 0 at padding."""
    if messages.is_log:
        probabilities = torch.softmax(messages.before + messages.after, dim=-1)
    else:
        probabilities = messages.before * messages.after
        probabilities /= probabilities.sum(-1, keepdim=True)
    return probabilities.masked_fill_(~real.unsqueeze(-1), 0.0)


def pair_sums(messages: Messages, transitions: Tensor, weights: Tensor) -> Tensor:
    """Return `c c`, the expected number of times that each tag follows each other one.

    Args:
        messages: plain weights.
        transitions: `c c`, largest value 0.
        weights: `n-1 b`, the weight of each pair of neighbouring words.
    """
    before, onward = messages.before[:-1], messages.onward[1:]
    totals = (before * messages.after[:-1]).sum(-1)  # n-1 b
    before = before * (weights / totals).unsqueeze(-1)
    return transitions.exp() * (before.flatten(0, 1).T @ onward.flatten(0, 1))


def log_pair_sums(messages: Messages, transitions: Tensor, weights: Tensor) -> Tensor:
    """Do what `pair_sums` does with messages in the logarithm."""
    sums = torch.zeros_like(transitions).flatten()
    for before, onward, weight in zip(messages.before[:-1], messages.onward[1:], weights, strict=True):
        pairs = before.unsqueeze(-1) + transitions + onward.unsqueeze(-2)  # b c c
        sums += weight @ torch.softmax(pairs.flatten(1), dim=-1)
    return sums.view_as(transitions)
