"""A linear-chain conditional random field, computed over whole batches: log-likelihood, best path, marginals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hf_mner.data.labels import split_tag

FORBIDDEN = -1e4  # a score that no path can make up for, and that stays finite in every sum


class BestPath(NamedTuple):
    """What `LinearChainCrf.decode` finds.

    Args:
        tags: `b n`, long; `-1` marks padding.
        scores: `b`, float32; the unnormalised score of the path. Minus the normaliser it is its log-probability.
    """

    tags: Tensor
    scores: Tensor


class LinearChainCrf(nn.Module):
    """Scores tag sequences by emissions and by the transitions between neighbouring tags.

    `score(y) = start[y_1] + sum_i emission[i, y_i] + sum_i transition[y_i, y_(i+1)] + end[y_n]`, and
    `p(y) = exp(score(y)) / sum over all y' of exp(score(y'))`.

    Parameters have the names, shapes and meaning of pytorch-crf's, so that weights can be exchanged:
    `start_transitions` (`c`), `end_transitions` (`c`), `transitions` (`c c`, from row to column).

    All methods take emissions `b n c` in any floating dtype and compute in float32. A mask is `b n`, 1 (True) for a
    word and 0 for padding; words come first. A sequence without words has log-likelihood and path score 0.

    Args:
        num_tags: number of tags `c`.

    Raises:
        ValueError: if `num_tags` is not positive; in the methods, if a shape does not fit, a mask has a hole, or a tag
            is none of the `c`.

    Source: Lafferty, McCallum and Pereira 2001; MMAVK, Eq. 11 and 12.
    """

    def __init__(self, num_tags: int):
        super().__init__()
        if num_tags < 1:
            raise ValueError(f"`num_tags` must be 1 or more, got {num_tags}.")
        self.num_tags = num_tags
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all transition scores from [-0.1, 0.1), as pytorch-crf does."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def extra_repr(self) -> str:
        """Show the number of tags."""
        return f"num_tags={self.num_tags}"

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return `b`, the log-likelihood of each tag sequence.

        Args:
            emissions: `b n c`.
            tags: `b n`, long; what stands under padding is not read.
            mask: `b n`; `None` = every position is a word.

        Source: MMAVK, Eq. 11; its negative sum is Eq. 12.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        tags = check_tags(tags, mask, self.num_tags)
        return self.path_scores(emissions, tags, mask) - self.log_normaliser(emissions, mask)

    def path_scores(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return `b`, the unnormalised score of each tag sequence; arguments are checked ones."""
        scores = emissions.gather(-1, tags.unsqueeze(-1)).squeeze(-1)  # b n
        steps = self.transitions.float().flatten()[tags[:, :-1] * self.num_tags + tags[:, 1:]]  # b n-1
        last = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)  # b
        ends = self.start_transitions.float()[tags[:, 0]] + self.end_transitions.float()[last]
        return (scores * mask).sum(1) + (steps * mask[:, 1:]).sum(1) + ends * mask[:, 0]

    def log_normaliser(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return `b`, the logarithm of the summed exponential scores of all paths; arguments are checked ones."""
        return LogNormaliser.apply(
            emissions.transpose(0, 1).contiguous(),
            self.start_transitions.float(),
            self.transitions.float(),
            self.end_transitions.float(),
            mask.T.contiguous(),
        )

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return `b n c`, the probability of each tag at each word over all paths; 0 at padding.

        They are the derivatives of the log-normaliser by the emissions.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        by_step, steps = emissions.transpose(0, 1).contiguous(), mask.T.contiguous()
        start, transitions, end = self.start_transitions, self.transitions, self.end_transitions
        alphas, norm = forward_scores(by_step, start.float(), transitions.float(), end.float(), steps)
        weights = torch.ones_like(norm)
        gradient, *_ = backward_sums(alphas, norm, by_step, transitions.float(), end.float(), steps, weights)
        return gradient.transpose(0, 1)

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, constraints: TagConstraints | None = None
    ) -> BestPath:
        """Find the best path of each sequence (Viterbi).

        Args:
            emissions: `b n c`.
            mask: `b n`; `None` = every position is a word.
            constraints: paths that are allowed, see `bio_constraints`; `None` = all.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        start, transitions = self.start_transitions.float(), self.transitions.float()
        if constraints is not None:
            start = start.masked_fill(~constraints.starts.to(start.device), FORBIDDEN)
            transitions = transitions.masked_fill(~constraints.steps.to(start.device), FORBIDDEN)
        return viterbi(emissions.transpose(0, 1), start, transitions, self.end_transitions.float(), mask.T)

    def check_inputs(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return float32 emissions and a boolean mask of one shape, or raise."""
        if emissions.ndim != 3 or emissions.shape[-1] != self.num_tags:
            raise ValueError(
                f"`emissions` has the shape {tuple(emissions.shape)}; expected `b n {self.num_tags}`, one score for"
                " each tag."
            )
        if mask is None:
            mask = torch.ones(emissions.shape[:2], dtype=torch.bool, device=emissions.device)
        if mask.shape != emissions.shape[:2]:
            raise ValueError(f"`mask` has the shape {tuple(mask.shape)}; expected {tuple(emissions.shape[:2])}.")
        mask = mask.bool()
        holes = (mask[:, 1:] & ~mask[:, :-1]).any(1)
        if holes.any():
            raise ValueError(
                f"`mask` of sequence {int(holes.nonzero()[0])} has a hole: a word follows padding. Pack the words of"
                " each sequence to its beginning."
            )
        return emissions.float(), mask


class LogNormaliser(torch.autograd.Function):
    """The forward algorithm with its gradient, the expected counts, computed without a graph of the single steps.

    Tensors are laid out by step: emissions `n b c`, mask `n b`.
    """

    @staticmethod
    def forward(ctx, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        """Return `b`, the log-normalisers."""
        alphas, norm = forward_scores(emissions, start, transitions, end, mask)
        ctx.save_for_backward(alphas, norm, emissions, transitions, end, mask)
        return norm

    @staticmethod
    @once_differentiable
    def backward(ctx, weights: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of emissions, start, transitions and end; `weights` (`b`) comes from above."""
        return (*backward_sums(*ctx.saved_tensors, weights), None)


def forward_scores(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the forward algorithm in the logarithm.

    Returns:
        alphas: `n b c`, the log-sum of all paths that end in a tag at a step; padding repeats the step before.
        norm: `b`, the log-normalisers; 0 for a sequence without words.
    """
    alpha = start + emissions[0]  # b c
    alphas = [alpha]
    for emission, is_word in zip(emissions[1:].unbind(), mask[1:].unsqueeze(-1).unbind(), strict=True):
        step = torch.logsumexp(alpha.unsqueeze(-1) + transitions, dim=1) + emission
        alpha = torch.where(is_word, step, alpha)
        alphas.append(alpha)
    norm = torch.logsumexp(alpha + end, dim=-1)
    return torch.stack(alphas), torch.where(mask[0], norm, 0.0)


def backward_sums(
    alphas: Tensor, norm: Tensor, emissions: Tensor, transitions: Tensor, end: Tensor, mask: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Back-propagate the forward algorithm: each sequence's expected counts, times its weight.

    Every factor is a probability (of the tag before, given a tag), so nothing over- or underflows.

    Args:
        alphas: `n b c`, see `forward_scores`.
        norm: `b`, the log-normalisers.
        emissions: `n b c`.
        transitions: `c c`.
        end: `c`.
        mask: `n b`, bool.
        weights: `b`, the gradient that arrives at each log-normaliser.

    Returns:
        Gradients of emissions (`n b c`; with weights of 1 the marginals), start (`c`), transitions (`c c`), end (`c`).
    """
    adjoint = torch.exp(alphas[-1] + end - norm.unsqueeze(-1)) * (weights * mask[0]).unsqueeze(-1)  # b c
    end_sums = adjoint.sum(0)
    adjoints = [adjoint]
    transition_sums = torch.zeros_like(transitions)
    steps = max(1, CHUNK_ELEMENTS // (adjoint.numel() * len(end)))
    for stop in range(len(alphas), 1, -steps):
        first = max(stop - steps, 1)
        before = previous_tag_probabilities(alphas, emissions, transitions, mask, first, stop)  # m b c c
        later = len(adjoints) - 1
        for step in before.flip(0).unbind():
            adjoints.append(torch.bmm(step, adjoints[-1].unsqueeze(-1)).squeeze(-1))
        reached = torch.stack(adjoints[later:-1][::-1]) * mask[first:stop].unsqueeze(-1)  # m b c
        transition_sums += (before * reached.unsqueeze(-2)).sum((0, 1))
    gradient = torch.stack(adjoints[::-1]) * mask.unsqueeze(-1)
    return gradient, gradient[0].sum(0), transition_sums, end_sums


CHUNK_ELEMENTS = 4_000_000  # of the largest intermediate tensor of `backward_sums`: 16 MB


def previous_tag_probabilities(
    alphas: Tensor, emissions: Tensor, transitions: Tensor, mask: Tensor, first: int, stop: int
) -> Tensor:
    """Return `m b c c` for steps `first..stop`: the probability of the tag before (row), given the tag (column).

    At padding it is the identity, so that the recursion passes through.
    """
    reached = (emissions[first:stop] - alphas[first:stop]).unsqueeze(-2)  # m b 1 c
    logs = alphas[first - 1 : stop - 1].unsqueeze(-1) + transitions + reached  # m b c c
    identity = torch.eye(len(transitions), dtype=logs.dtype, device=logs.device)
    return torch.where(mask[first:stop, :, None, None], logs.exp(), identity)


def viterbi(emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> BestPath:
    """Find the best paths; tensors are laid out by step as in `LogNormaliser`, the result is not."""
    score = start + emissions[0]  # b c
    stay = torch.arange(len(start), device=score.device).expand_as(score)
    pointers = []
    for emission, is_word in zip(emissions[1:].unbind(), mask[1:].unsqueeze(-1).unbind(), strict=True):
        best, before = (score.unsqueeze(-1) + transitions).max(dim=1)  # b c
        score = torch.where(is_word, best + emission, score)
        pointers.append(torch.where(is_word, before, stay))
    scores, tag = (score + end).max(dim=-1)  # b
    tags = [tag.unsqueeze(-1)]
    for pointer in reversed(pointers):
        tags.append(pointer.gather(1, tags[-1]))
    path = torch.cat(tags[::-1], dim=1)  # b n
    return BestPath(path.masked_fill(~mask.T, -1), torch.where(mask[0], scores, 0.0))


class TagConstraints(NamedTuple):
    """Which tags may begin a sequence (`starts`, `c`) and follow each other (`steps`, `c c`, from row to column)."""

    starts: Tensor
    steps: Tensor


def bio_constraints(labels: Sequence[str]) -> TagConstraints:
    """Allow what BIO allows: `I-X` only after `B-X` or `I-X`.

    Args:
        labels: the tags in the order of their indices.
    """
    split = [split_tag(label) for label in labels]
    starts = torch.tensor([prefix != "I" for prefix, _ in split])
    steps = torch.tensor(
        [[prefix != "I" or (before != "O" and kind == other) for prefix, kind in split] for before, other in split]
    )
    return TagConstraints(starts, steps)


def check_tags(tags: Tensor, mask: Tensor, num_tags: int) -> Tensor:
    """Return the tags with 0 under padding; a tag at a word that is none of the `num_tags` is an error."""
    if tags.shape != mask.shape:
        raise ValueError(f"`tags` has the shape {tuple(tags.shape)}; expected {tuple(mask.shape)}, as the mask.")
    tags = tags.masked_fill(~mask, 0)
    if tags.numel() and not 0 <= int(tags.min()) <= int(tags.max()) < num_tags:
        wrong = int(tags.min()) if int(tags.min()) < 0 else int(tags.max())
        raise ValueError(f"`tags` holds {wrong} at a word; expected 0 to {num_tags - 1}.")
    return tags


__all__ = ["BestPath", "LinearChainCrf", "TagConstraints", "bio_constraints"]
