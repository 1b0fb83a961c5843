"""A linear-chain conditional random field, computed over whole batches: log-likelihood, best path, marginals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hf_mner.data.labels import split_tag

from .forward_backward import (
    Messages,
    Words,
    drop_shared,
    log_pair_sums,
    pair_sums,
    pass_messages,
    path_steps,
    rows,
    tag_probabilities,
    words_by_step,
)
from .viterbi import BestPath, viterbi


class LinearChainCrf(nn.Module):
    """Scores tag sequences by emissions and by the transitions between neighbouring tags.

    `score(y) = start[y_1] + sum_i emission[i, y_i] + sum_i transition[y_i, y_(i+1)] + end[y_n]`, and
    `p(y) = exp(score(y)) / sum over all y' of exp(score(y'))`.

    Parameters have the names, shapes and meaning of pytorch-crf's, so that weights can be exchanged:
    `start_transitions` (`c`), `end_transitions` (`c`), `transitions` (`c c`, from row to column).

    All methods take emissions `b n c` in any floating dtype and compute in float32, under autocast too. (The matrix
    products of likelihood and marginals use TF32 where `torch.set_float32_matmul_precision` allows it.) A mask is
    `b n`, 1 (True) for a word and 0 for padding; words come first; what padding holds is not read. A sequence without
    words has log-likelihood and path score 0.

    Args:
        num_tags: number of tags `c`.

    Raises:
        ValueError: if `num_tags` is no positive whole number; in the methods, if a shape does not fit, a mask has a
            hole, or a tag is none of the `c`.

    Source: Lafferty, McCallum and Pereira 2001; MMAVK, Eq. 11 and 12.
    """

    def __init__(self, num_tags: int):
        super().__init__()
        if not isinstance(num_tags, int) or isinstance(num_tags, bool):
            raise ValueError(f"`num_tags` is {num_tags!r}; expected a whole number of 1 or more.")
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
            tags: `b n`, whole numbers; what stands under padding is not read.
            mask: `b n`; `None` = every position is a word.

        Source: MMAVK, Eq. 11; its negative sum is Eq. 12.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        tags = check_tags(tags, mask, self.num_tags)
        with full_precision(emissions):
            words = words_by_step(mask.sum(1), mask.shape[1])
            return LogLikelihood.apply(emissions, *self.scores(), tags, *words)

    def conditional_log_probs(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return `b n c`, the log-probability of every tag at each word, given the tags before it and the whole text.

        A linear-chain CRF is a Markov chain: `log p(y | x) = sum_i log p(y_i | y_(i-1), x)` with
        `p(y_i | y_(i-1), x)` in proportion to `exp(transition[y_(i-1), y_i] + emission[i, y_i] + beta_i(y_i))`, where
        `beta_i(y_i)` is the log-weight of all ways to go on, and the first word has `start` in the place of a
        transition. So the entries of `tags` sum to what `forward` returns, and their gradient is its gradient.

        Args:
            emissions: `b n c`.
            tags: `b n`, the history of each word: the tag before it is that of `tags`. Under padding they are not
                read.
            mask: `b n`; `None` = every position is a word.

        Returns:
            `b n c`, float32; `exp` of it sums to 1 at each word. 0 at padding.

        Source: Lafferty, McCallum and Pereira 2001; the backward recursion of Rabiner 1989, Eq. 24 and 25.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        tags = check_tags(tags, mask, self.num_tags)
        start, transitions, end = self.scores()
        with full_precision(emissions):
            emissions = torch.where(mask.unsqueeze(-1), emissions, 0.0)  # whatever padding holds is not read
            history = torch.cat([start.expand(len(tags), 1, -1), transitions[tags[:, :-1]]], dim=1)  # b n c
            scores = history + emissions + backward_messages(emissions, transitions, end, mask)
            return torch.log_softmax(scores, dim=-1).masked_fill(~mask.unsqueeze(-1), 0.0)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return `b n c`, the probability of each tag at each word over all paths; 0 at padding.

        They are the derivatives of the log-normaliser by the emissions.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        start, transitions, end = self.scores()
        with full_precision(emissions):
            words = words_by_step(mask.sum(1), mask.shape[1])
            steps, transitions = drop_shared(path_steps(emissions, start, end, words), transitions)
            return tag_probabilities(pass_messages(steps, transitions, words), words.real).transpose(0, 1)

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, constraints: TagConstraints | None = None
    ) -> BestPath:
        """Find the best path of each sequence (Viterbi).

        Args:
            emissions: `b n c`.
            mask: `b n`; `None` = every position is a word.
            constraints: paths that are allowed, see `bio_constraints`; `None` = all. If they allow no path at all, the
                score is minus infinity.
        """
        emissions, mask = self.check_inputs(emissions, mask)
        start, transitions, end = self.scores()
        if constraints is not None:
            start = start.masked_fill(~constraints.starts.to(start.device), -math.inf)
            transitions = transitions.masked_fill(~constraints.steps.to(start.device), -math.inf)
        with full_precision(emissions):
            lengths = mask.sum(1)
            steps = path_steps(emissions, start, end, words_by_step(lengths, mask.shape[1]))
            return viterbi(steps, transitions, lengths)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of starting (`c`), of transitions (`c c`) and of ending (`c`) in float32."""
        return self.start_transitions.float(), self.transitions.float(), self.end_transitions.float()

    def check_inputs(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return float32 emissions and a boolean mask of one shape, or raise."""
        if emissions.ndim != 3 or emissions.shape[-1] != self.num_tags or not emissions.shape[1]:
            raise ValueError(
                f"`emissions` has the shape {tuple(emissions.shape)}; expected `b n {self.num_tags}`, one score for"
                " each tag, and one position or more."
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


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switch autocast off: sums of more than a hundred steps do not survive bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def backward_messages(emissions: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
    """Return `b n c`, the log-weight of all ways to go on after each tag, up to a constant for each word.

    Differentiable, unlike `pass_messages`, and slower.

    Args:
        emissions: `b n c`, finite at padding too.
        transitions: `c c`.
        end: `c`.
        mask: `b n`, bool. The last word's message is `end`, and so is padding's.
    """
    message = end.expand(len(emissions), -1)  # b c
    messages = [message]
    for emission, is_word in zip(emissions.unbind(1)[:0:-1], mask.unbind(1)[:0:-1], strict=True):
        onward = torch.logsumexp(transitions + (emission + message).unsqueeze(1), dim=-1)
        onward = onward - onward.detach().amax(-1, keepdim=True)  # a long text's weight would outgrow its differences
        message = torch.where(is_word.unsqueeze(-1), onward, end)
        messages.append(message)
    return torch.stack(messages[::-1], dim=1)


class LogLikelihood(torch.autograd.Function):
    """The log-likelihood with its gradient, observed minus expected counts, without a graph of the single steps.

    Inside, tensors are laid out by step, `n b c`, so that a step is one block of memory.
    """

    @staticmethod
    def forward(ctx, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, tags: Tensor, *words: Tensor):
        """Return `b`, the log-likelihoods, of arguments that were checked.

        Args:
            ctx: keeps what the backward pass needs.
            emissions: `b n c`.
            start: `c`.
            transitions: `c c`.
            end: `c`.
            tags: `b n`, long.
            words: the fields of `Words`, `n b` each.
        """
        real, mirrored = words
        steps, transitions = drop_shared(path_steps(emissions, start, end, Words(real, mirrored)), transitions)
        messages = pass_messages(steps, transitions, Words(real, mirrored))
        ctx.is_log = messages.is_log
        ctx.save_for_backward(messages.before, messages.after, messages.onward, transitions, tags, real, mirrored[0])
        return (path_scores(steps, transitions, tags, real) - messages.log_norm).masked_fill(~real[0], 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx, weights: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments; `weights` (`b`) is the gradient that arrives."""
        before, after, onward, transitions, tags, real, last = ctx.saved_tensors
        messages = Messages(before, after, onward, weights, ctx.is_log)
        by_word = real * weights.float()  # n b
        with full_precision(weights):
            gradient = tag_probabilities(messages, real).mul_(-by_word.unsqueeze(-1))
            gradient.scatter_add_(-1, tags.T.unsqueeze(-1), by_word.unsqueeze(-1))
            of_pairs = (log_pair_sums if ctx.is_log else pair_sums)(messages, transitions, by_word[1:])
            of_transitions = observed_pairs(tags, by_word[1:], len(transitions)) - of_pairs
            of_end = rows(gradient, last).sum(0)
        return gradient.transpose(0, 1), gradient[0].sum(0), of_transitions, of_end, None, None, None


def path_scores(steps: Tensor, transitions: Tensor, tags: Tensor, real: Tensor) -> Tensor:
    """Return `b`, the unnormalised score of each tag sequence."""
    at_words = steps.gather(-1, tags.T.unsqueeze(-1)).squeeze(-1)  # n b
    between = transitions.flatten()[pair_numbers(tags, len(transitions))]  # n-1 b
    return at_words.sum(0) + between.masked_fill(~real[1:], 0.0).sum(0)


def pair_numbers(tags: Tensor, num_tags: int) -> Tensor:
    """Return `n-1 b`, the place of each pair of neighbouring tags in a flattened `c c`."""
    return (tags[:, :-1] * num_tags + tags[:, 1:]).T


def observed_pairs(tags: Tensor, weights: Tensor, num_tags: int) -> Tensor:
    """Return `c c`, how often each tag follows each other one, counted with `weights` (`n-1 b`)."""
    sums = weights.new_zeros(num_tags * num_tags)
    return sums.index_add_(0, pair_numbers(tags, num_tags).flatten(), weights.flatten()).view(num_tags, num_tags)


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
    if tags.is_floating_point() or tags.is_complex():
        raise ValueError(
            f"`tags` are {tags.dtype}; expected whole numbers, one for each word (0 to {num_tags - 1}), such as"
            " `tags.long()`."
        )
    tags = tags.long().masked_fill(~mask, 0)
    wrong = (tags < 0) | (tags >= num_tags)
    if wrong.any():
        raise ValueError(f"`tags` holds {int(tags[wrong][0])} at a word; expected 0 to {num_tags - 1}.")
    return tags


__all__ = ["BestPath", "LinearChainCrf", "TagConstraints", "bio_constraints"]
