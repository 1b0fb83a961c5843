"""The best paths of whole batches, searched from both ends of each sequence at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .forward_backward import rows, words_by_step


class BestPath(NamedTuple):
    """What `LinearChainCrf.decode` finds.

    Args:
        tags: `b n`, long; `-1` marks padding.
        scores: `b`, float32; the unnormalised score of the path. Minus the normaliser it is its log-probability.
    """

    tags: Tensor
    scores: Tensor


def viterbi(steps: Tensor, transitions: Tensor, lengths: Tensor) -> BestPath:
    """Find the best paths, searching from both ends to the middle at once: `2b` half sequences, half the steps.

    Args:
        steps: `n b c`, see `path_steps`.
        transitions: `c c`.
        lengths: `b`, words in each sequence.
    """
    mirrored = words_by_step(lengths, len(steps)).mirrored
    first_half = (lengths + 1) // 2
    halves = words_by_step(torch.cat([first_half, lengths - first_half]), (len(steps) + 1) // 2)
    both = torch.cat([steps, rows(steps, mirrored)], dim=1)[: len(halves.real)]  # m 2b c
    outwards = rows(best_scores(both, transitions), halves.mirrored)  # m 2b c, from the middle on
    best, middle = join_halves(outwards[0], transitions, lengths > 1)
    tags = follow_back(outwards, transitions, middle).flatten()[halves.mirrored]  # m 2b, from the ends on
    left, right = nn.functional.pad(tags, (0, 0, 0, len(steps) - len(tags))).chunk(2, dim=1)  # n b
    position = torch.arange(len(steps), device=lengths.device).unsqueeze(-1)
    path = torch.where(position < first_half, left, right.flatten()[mirrored])
    return BestPath(path.masked_fill(position >= lengths, -1).T, best.masked_fill(lengths == 0, 0.0))


def best_scores(steps: Tensor, transitions: Tensor) -> Tensor:
    """Return `m 2b c`, the score of the best half path that ends in a tag at a step.

    There are no pointers back: finding the tag before for one tag per sequence costs less than for every tag.

    Args:
        steps: `m 2b c`; the first `b` sequences run forwards, the others backwards.
        transitions: `c c`.
    """
    directions = torch.stack([transitions, transitions.T], dim=-1)  # c c 2
    directions = directions.repeat_interleave(steps.shape[1] // 2, dim=-1)  # c c 2b; its maximum over dim 0 is fast
    candidates, score = torch.empty_like(directions), steps[0].T.contiguous()  # c 2b
    scores = [score]
    for step in steps[1:].transpose(1, 2).unbind():
        torch.add(score.unsqueeze(1), directions, out=candidates)
        score = torch.amax(candidates, dim=0) + step
        scores.append(score)
    return torch.stack([score.T for score in scores])


def join_halves(scores: Tensor, transitions: Tensor, has_two: Tensor) -> tuple[Tensor, Tensor]:
    """Return `b`, the scores of the best paths, and `2b`, their two tags in the middle.

    Args:
        scores: `2b c`, of the half paths that meet.
        transitions: `c c`.
        has_two: `b`, False for a sequence that has no second half.
    """
    left, right = scores.chunk(2)
    second = torch.where(has_two[:, None, None], transitions + right.unsqueeze(-2), 0.0)
    best, pair = (left.unsqueeze(-1) + second).flatten(1).max(-1)  # b
    return best, torch.cat([pair // len(transitions), pair % len(transitions)])


def follow_back(scores: Tensor, transitions: Tensor, tag: Tensor) -> Tensor:
    """Return `m 2b`, the tags of the best half paths.

    Args:
        scores: `m 2b c`, of `best_scores`, from the middle on.
        transitions: `c c`.
        tag: `2b`, the tags in the middle.
    """
    incoming = torch.cat([transitions.T, transitions])  # 2c c
    first_row = torch.arange(2, device=tag.device).repeat_interleave(len(tag) // 2) * len(transitions)  # 2b
    tags = [tag]
    for before in scores[1:].unbind():
        tag = (incoming.index_select(0, tag + first_row) + before).argmax(dim=-1)
        tags.append(tag)
    return torch.stack(tags)
