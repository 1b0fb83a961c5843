"""Whether two systems differ by more than chance: tests over the texts that both have read, for one or more seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy import ndarray

Counts = Sequence[Sequence[tuple[int, int, int]]]  # of each seed, for each text: (correct, predicted, gold)

CHUNK = 2_000_000  # texts times rounds that are drawn at a time; bounds the memory to some 20 MB
ROUNDING = 1e-12  # equal differences, summed in another order, are not further apart


class Difference(NamedTuple):
    """How two systems differ: their F1s and `f1_a - f1_b` (means over seeds, fractions), and the p-value."""

    f1_a: float
    f1_b: float
    difference: float
    p_value: float


def randomization_test(a: Counts, b: Counts, rounds: int = 10_000, seed: int = 0) -> Difference:
    """Test whether the micro F1s of two systems on the same texts differ by more than chance.

    Under the null hypothesis it does not matter which of the systems answered a text. Each round exchanges their
    answers to random texts and looks whether the F1s differ at least as much as they really do (two-sided). One coin
    is tossed for a text, for all its seeds together: the seeds of a system are no independent texts.

    Args:
        a: `s n 3`, counts `(correct, predicted, gold)` of each seed and text, see `count_spans` and
            `count_grounded_entities`. One run is `[counts]`.
        b: the same of the other system; seeds are paired in their order.
        rounds: number of exchanges. The smallest p-value is `1 / (1 + rounds)`.
        seed: of the coins.

    Returns:
        The F1s, their difference (both means over seeds), and `p = (1 + number as extreme) / (1 + rounds)`.

    Raises:
        ValueError: if the sizes differ or are not `s n 3`, counts cannot be, or the gold counts of a text differ.

    Source: Noreen 1989, Computer-Intensive Methods for Testing Hypotheses; Yeh 2000, More accurate tests for the
        statistical significance of result differences (https://arxiv.org/abs/cs/0008005), for F1.
    """
    import numpy

    ours, theirs = _read(a, b)
    _check_rounds(rounds)
    generator = numpy.random.default_rng(seed)
    exchange = _flat(theirs - ours)  # n 3s
    extreme, observed = 0, abs(_mean_f1(ours.sum(1)) - _mean_f1(theirs.sum(1)))
    for size in _chunks(rounds, len(exchange)):
        coins = generator.integers(0, 2, (size, len(exchange)), dtype=numpy.int8).astype(numpy.float32)
        moved = (coins @ exchange).reshape(size, *ours[:, 0].shape)  # size s 3
        drawn = abs(_mean_f1(ours.sum(1) + moved) - _mean_f1(theirs.sum(1) - moved))
        extreme += int((drawn >= observed - ROUNDING).sum())
    f1_a, f1_b = float(_mean_f1(ours.sum(1))), float(_mean_f1(theirs.sum(1)))
    return Difference(f1_a, f1_b, f1_a - f1_b, (1 + extreme) / (1 + rounds))


def paired_bootstrap_interval(
    a: Counts, b: Counts, rounds: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of `f1_a - f1_b` (means over seeds) that samples of the texts give.

    Each round draws as many texts as there are, with replacement, the same ones for both systems and all seeds.

    Args:
        a: `s n 3`, see `randomization_test`.
        b: the same of the other system.
        rounds: number of samples.
        seed: of the samples.
        level: share of the samples inside, in (0, 1).

    Returns:
        Lower and upper end, percentiles of the samples' differences.

    Raises:
        ValueError: as `randomization_test`, and if `level` is not in (0, 1).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; Koehn 2004 for pairs of systems
        (https://aclanthology.org/W04-3250).
    """
    import numpy

    ours, theirs = _read(a, b)
    _check_rounds(rounds)
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1), got {level}; 0.95 is usual.")
    generator = numpy.random.default_rng(seed)
    num_texts, differences = ours.shape[1], []
    for size in _chunks(rounds, num_texts):
        drawn = generator.integers(0, num_texts, (size, num_texts)) + num_texts * numpy.arange(size)[:, None]
        times = numpy.bincount(drawn.ravel(), minlength=size * num_texts).reshape(size, num_texts)
        sums = [
            (times.astype(numpy.float32) @ _flat(side)).reshape(size, *side[:, 0].shape) for side in (ours, theirs)
        ]
        differences.append(_mean_f1(sums[0]) - _mean_f1(sums[1]))
    lower, upper = numpy.quantile(numpy.concatenate(differences), [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def _mean_f1(sums: ndarray) -> ndarray:
    """Return the micro F1 of sums `... s 3` over texts, averaged over seeds; nothing predicted and no gold is 0."""
    import numpy

    sums = sums.astype(numpy.float64)
    below = sums[..., 1] + sums[..., 2]
    return (2 * sums[..., 0] / numpy.where(below > 0, below, 1)).mean(-1)


def _flat(counts: ndarray) -> ndarray:
    """Turn `s n 3` into `n 3s`; float32 holds sums up to 16 million exactly, and its products are fast."""
    return counts.transpose(1, 0, 2).reshape(counts.shape[1], -1).astype("float32")


def _chunks(rounds: int, num_texts: int) -> Iterator[int]:
    size = max(CHUNK // num_texts, 1)
    yield from (min(size, rounds - first) for first in range(0, rounds, size))


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}; 10000 is usual.")


def _read(a: Counts, b: Counts) -> tuple[ndarray, ndarray]:
    ours, theirs = _as_array(a, "a"), _as_array(b, "b")
    if ours.shape != theirs.shape:
        raise ValueError(
            f"`a` has {ours.shape[0]} seeds of {ours.shape[1]} texts but `b` has {theirs.shape[0]} seeds of"
            f" {theirs.shape[1]} texts; give both systems' counts of the same texts, with as many seeds."
        )
    for name, counts in (("a", ours), ("b", theirs)):
        other = (counts[..., 2] != ours[0, :, 2]).nonzero()
        if len(other[0]):
            run, text = int(other[0][0]), int(other[1][0])
            raise ValueError(
                f"Text {text} has {counts[run, text, 2]} gold entities in seed {run} of `{name}` but"
                f" {ours[0, text, 2]} in seed 0 of `a`; the texts must be the same, in the same order."
            )
    return ours, theirs


def _as_array(counts: Any, name: str) -> ndarray:
    import numpy

    sizes = sorted({len(run) for run in counts if hasattr(run, "__len__")})
    if len(sizes) > 1:
        raise ValueError(f"The seeds of `{name}` have {sizes} texts; give counts of the same texts for each seed.")
    array = numpy.asarray(counts)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"`{name}` has the shape {array.shape}; expected (seeds, texts, 3) with (correct, predicted, gold) of each"
            " text. Counts of one run are given as `[counts]`."
        )
    if not numpy.issubdtype(array.dtype, numpy.integer):
        raise ValueError(f"`{name}` holds {array.dtype}; expected whole numbers (correct, predicted, gold).")
    bad = ((array[..., 0] > array[..., 1:].min(-1)) | (array < 0).any(-1)).nonzero()
    if len(bad[0]):
        run, text = int(bad[0][0]), int(bad[1][0])
        raise ValueError(
            f"Text {text} in seed {run} of `{name}` has the counts {array[run, text].tolist()}; expected"
            " (correct, predicted, gold), where correct is at most each of the others."
        )
    return array.astype(numpy.int64)
