"""A linear-chain conditional random field, computed over whole batches: log-likelihood, best path, marginals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hf_mner.data.labels import split_tag

# Products of two messages stay above exp(-60), a factor of 1e12 over the smallest normal float32, so that what
# underflows beside them could not be seen. See `normalising_interval`.
LOG_RANGE = 60.0


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

    All methods take emissions `b n c` in any floating dtype and compute in float32, under autocast too. (The matrix
    products of likelihood and marginals use TF32 where `torch.set_float32_matmul_precision` allows it.) A mask is
    `b n`, 1 (True) for a word and 0 for padding; words come first; what padding holds is not read. A sequence without
    words has log-likelihood and path score 0.

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
        with full_precision(emissions):
            words = words_by_step(mask.sum(1), mask.shape[1])
            return LogLikelihood.apply(emissions, *self.scores(), tags, *words)

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


class LogLikelihood(torch.autograd.Function):
    """The log-likelihood with its gradient, observed minus expected counts, without a graph of the single steps.

    Inside, tensors are laid out by step, `n b c`, so that a step is one block of memory.
    """

    @staticmethod
    def forward(ctx, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, tags: Tensor, *words: Tensor):
        """Return `b`, the log-likelihoods. Arguments are checked ones; `words` are the fields of `Words`."""
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


def path_steps(emissions: Tensor, start: Tensor, end: Tensor, words: Words) -> Tensor:
    """Return `n b c`: the emissions, with `start` added to the first word's and `end` to the last one's; 0 at padding.

    A sequence without words gets both at its first position; callers ignore its result.
    """
    steps = emissions.transpose(0, 1).contiguous()
    steps = torch.where(words.real.unsqueeze(-1), steps, 0.0)  # whatever padding holds, NaN included, is not read
    steps[0] += start
    steps.view(-1, len(end)).index_add_(0, words.mirrored[0], end.expand(steps.shape[1], -1))
    return steps


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


def drop_shared(steps: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the largest score of each step, and of all transitions.

    All paths lose the same, so that probabilities do not change. What remains is small, and so is its rounding.
    """
    return steps - steps.amax(-1, keepdim=True), transitions - transitions.max()


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
    wrong = (tags < 0) | (tags >= num_tags)
    if wrong.any():
        raise ValueError(f"`tags` holds {int(tags[wrong][0])} at a word; expected 0 to {num_tags - 1}.")
    return tags


__all__ = ["BestPath", "LinearChainCrf", "TagConstraints", "bio_constraints"]
