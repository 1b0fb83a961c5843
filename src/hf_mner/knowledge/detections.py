"""What all detectors need after the network: boxes without doubles, clipped to the image, best first."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_mner.data.schema import ObjectKnowledge

if TYPE_CHECKING:
    import numpy as np

MIN_SIDE = 1.0  # pixels; what is thinner shows nothing


def as_objects(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    image_size: tuple[int, int],
    max_objects: int,
    features: np.ndarray | None = None,
) -> list[ObjectKnowledge]:
    """Return detections as `knowledge["objects"]`: clipped to the image, the best first.

    Boxes of which less than one pixel's width or height lies in the image are dropped. Numbers are rounded, boxes to
    1/100 of a pixel, so that they take little room as text.

    Args:
        boxes: `r 4`, `[xmin, ymin, xmax, ymax]` in pixels.
        scores: `r`.
        labels: one for each box.
        image_size: `(width, height)` in pixels.
        max_objects: how many are kept.
        features: `r d`, which become each object's `feature`, an `array` of 4 bytes a number; None = none have any.
    """
    import numpy as np

    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    clipped = np.clip(corners, 0, np.array([*image_size, *image_size])).round(2)  # r 4
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    has_area = (clipped[:, 2:] - clipped[:, :2]).min(axis=1) >= MIN_SIDE  # r
    kept = order[has_area[order]][:max_objects].tolist()
    objects: list[ObjectKnowledge] = [
        {
            "label": labels[index],
            "score": round(float(scores[index]), 4),
            "box": clipped[index].tolist(),
            "caption": None,
            "similarity": None,
        }
        for index in kept
    ]
    if features is not None:
        for item, index in zip(objects, kept, strict=True):
            item["feature"] = array("f", np.asarray(features[index], dtype=np.float32).tobytes())
    return objects


def best_objects(objects: Sequence[ObjectKnowledge] | None, max_objects: int) -> list[ObjectKnowledge]:
    """Return the objects with the best scores, the best first; of equal ones the first, and no score counts as 0."""
    return sorted(objects or (), key=lambda item: -(item.get("score") or 0.0))[:max_objects]


def suppress_doubles(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou_threshold: float) -> np.ndarray:
    """Return the indices of the boxes to keep, best first: none overlaps a better one of its class too much.

    Args:
        boxes: `r 4`, `[xmin, ymin, xmax, ymax]`.
        scores: `r`.
        classes: `r`, integers; boxes of different classes do not suppress each other.
        iou_threshold: the greatest intersection over union that two kept boxes of a class may have.
    """
    import numpy as np

    remaining = np.argsort(-scores, kind="stable")
    kept = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        is_double = (overlaps(boxes[best], boxes[remaining]) > iou_threshold) & (classes[remaining] == classes[best])
        remaining = remaining[~is_double]
    return np.array(kept, dtype=np.int64)


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return `r`, the intersection over union of a box (`4`) with others (`r 4`); 0 where both have no area."""
    import numpy as np

    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])  # r 2
    shared = sides.clip(min=0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def copied(objects: Sequence[ObjectKnowledge] | None) -> list[ObjectKnowledge] | None:
    """Return objects that can be changed without changing those of another example with the same image."""
    return None if objects is None else [{**item, "box": list(item["box"])} for item in objects]
