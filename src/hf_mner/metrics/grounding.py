"""Visual grounding accuracy: one predicted box for each query."""

from __future__ import annotations

from collections.abc import Sequence

from hf_mner.metrics.boxes import box_iou
from hf_mner.metrics.counts import check_same_length

ACCURACY_THRESHOLDS = (0.5, 0.75)


def score_grounding(
    predictions: Sequence[Sequence[float] | None], references: Sequence[Sequence[Sequence[float]]]
) -> dict[str, float]:
    """Score one box for each query against the gold boxes of that query.

    Args:
        predictions: for each query `[xmin, ymin, xmax, ymax]` in pixels, or None (always wrong, IoU 0).
        references: for each query its gold boxes, at least one; the best-overlapping one counts.

    Returns:
        `{"accu@0.5", "accu@0.75", "miou", "support"}`: share of queries with an IoU strictly above 0.5 and 0.75,
        the mean IoU, and the number of queries; zeros if there are none.

    Raises:
        ValueError: if the number of queries differs, a query has no gold box, or a box is malformed.

    Source: MNER-QG (Jia et al. 2023), Table 4; FA-VG (Yang et al. 2019) for the strict comparison and the box sides
        without +1.
    Departure: MNER-QG prints "at least 0.5"; FA-VG's public code, and GMNER, ask for more than 0.5.
    """
    check_same_length(predictions, references, "queries")
    overlaps = [_best_iou(*pair, index) for index, pair in enumerate(zip(predictions, references, strict=True))]
    support = len(overlaps)
    scores = {f"accu@{limit}": sum(iou > limit for iou in overlaps) / max(support, 1) for limit in ACCURACY_THRESHOLDS}
    return {**scores, "miou": sum(overlaps) / max(support, 1), "support": support}


def _best_iou(box: Sequence[float] | None, gold: Sequence[Sequence[float]], index: int) -> float:
    if not gold:
        raise ValueError(
            f"Query {index} has no gold box, so its grounding has no right answer; leave such queries out, or score"
            " whole entities with `score_grounded_entities`, which expects no box there."
        )
    return 0.0 if box is None else max(box_iou(box, answer) for answer in gold)
