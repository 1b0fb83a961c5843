"""Whether scores are what they look like: the share of right predictions among those of like score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ScoreBin(NamedTuple):
    """Predictions with a score in (lower, upper] (the first bin also holds 0).

    Args:
        lower: end of the bin.
        upper: end of the bin.
        size: number of predictions.
        mean_score: of them; 0 where there are none.
        accuracy: share of them that is right; 0 where there are none.
    """

    lower: float
    upper: float
    size: int
    mean_score: float
    accuracy: float


def reliability(scores: Sequence[float], is_right: Sequence[bool], num_bins: int = 10) -> list[ScoreBin]:
    """Sort predictions into bins of equal width by their score.

    Args:
        scores: in [0, 1].
        is_right: of each score's prediction.
        num_bins: number of bins.

    Raises:
        ValueError: if the lengths differ, a score is not in [0, 1], or `num_bins` is below 1.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), section 2.
    """
    if len(scores) != len(is_right):
        raise ValueError(f"`scores` has {len(scores)} numbers but `is_right` has {len(is_right)}; give one for each.")
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1, got {num_bins}; 10 is usual.")
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(num_bins)]
    edges = [number / num_bins for number in range(num_bins + 1)]
    for score, right in zip(scores, is_right, strict=True):
        if not 0 <= score <= 1:
            raise ValueError(f"`scores` holds {score}; expected numbers in [0, 1].")
        bins[next(number for number, upper in enumerate(edges[1:]) if score <= upper)].append((score, right))
    return [
        ScoreBin(
            edges[number],
            edges[number + 1],
            len(kept),
            sum(score for score, _ in kept) / max(len(kept), 1),
            sum(right for _, right in kept) / max(len(kept), 1),
        )
        for number, kept in enumerate(bins)
    ]


def expected_calibration_error(bins: Sequence[ScoreBin]) -> float:
    """Return the mean distance of accuracy and score over the bins, weighted by their sizes; 0 without predictions.

    Source: Guo et al. 2017 (https://arxiv.org/abs/1706.04599), Eq. 3.
    """
    total = sum(part.size for part in bins)
    return sum(part.size * abs(part.accuracy - part.mean_score) for part in bins) / max(total, 1)
