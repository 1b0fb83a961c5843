"""Entity spans from start, end and match probabilities: several queries read one text, and the better span wins."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SpanTargets(NamedTuple):
    """What labels ask of the heads, bool.

    Args:
        start: `b n q`, whether a word starts an entity of each type.
        end: `b n q`, whether it ends one.
        match: `b n n q`, whether a start (second dimension) and an end (third) are those of one entity.
        exists: `b q`, whether the text has a word of such an entity.
    """

    start: Tensor
    end: Tensor
    match: Tensor
    exists: Tensor


def span_targets(labels: Tensor, num_types: int) -> SpanTargets:
    """Turn tags into starts, ends and pairs for each type's query.

    Args:
        labels: `b n`, long: 0 = outside, `1 + 2 k` = first word of an entity of type `k`, `2 + 2 k` = a word inside
            it; -100 marks padding.
        num_types: number of types `q`.
    """
    kinds = torch.arange(num_types, device=labels.device)
    begins = labels.unsqueeze(-1) == 1 + 2 * kinds  # b n q
    inside = labels.unsqueeze(-1) == 2 + 2 * kinds
    goes_on = torch.cat([inside[:, 1:], torch.zeros_like(inside[:, :1])], dim=1)  # the next word is inside too
    ends = (begins | inside) & ~goes_on
    # Words of one entity have seen the same number of starts; so its first and its last word are a pair.
    entity = begins.cumsum(1)
    same = entity.unsqueeze(2) == entity.unsqueeze(1)  # b n n q
    positions = torch.arange(labels.shape[1], device=labels.device)
    in_order = (positions.unsqueeze(1) <= positions).unsqueeze(-1)
    match = begins.unsqueeze(2) & ends.unsqueeze(1) & same & in_order
    return SpanTargets(begins, ends, match, (begins | inside).any(1))


def decode_spans(start: Tensor, end: Tensor, match: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the entities of each text from the answers to all of its queries.

    A span is a candidate if its start, its end and their match are each more likely than not; its score is the product
    of the three. Of candidates that overlap, whatever their types, the one with the highest score stays (of equal ones
    the first, and of those the longer).

    Args:
        start: `b n q`, probability that a word starts an entity of the query's type.
        end: `b n q`, that it ends one.
        match: `b n n q`, that a start (second dimension) and an end (third) belong together.
        mask: `b n`, bool, True for real words.

    Returns:
        tags: `b n`, long, as the labels of `span_targets`; -1 at padding.
        scores: `b n`, the score of the entity that a word belongs to, 0 outside.

    Source: MNER-QG, Eq. 4 and 5; Li et al. 2020 (BERT-MRC) for pairs start <= end.
    """
    pairs = start.unsqueeze(2) * end.unsqueeze(1) * match  # b n n q
    likely = (start > 0.5).unsqueeze(2) & (end > 0.5).unsqueeze(1) & (match > 0.5)
    likely &= torch.triu(mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(-1)
    tags = torch.where(mask, 0, -1)
    scores = start.new_zeros(mask.shape)
    found = likely.nonzero()
    ranked = sorted(
        (
            (row, -score, first, first - last, kind)
            for (row, first, last, kind), score in zip(found.tolist(), pairs[likely].tolist(), strict=True)
        )
    )
    for row, score, first, length, kind in ranked:
        words = slice(first, first - length + 1)
        if not tags[row, words].any():
            tags[row, words] = 2 + 2 * kind
            tags[row, first] = 1 + 2 * kind
            scores[row, words] = -score
    return tags, scores
