"""Grounded entity F1 (GMNER): span, type and image region must all be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_mner.data.boxes import check_area
from hf_mner.metrics.boxes import box_iou
from hf_mner.metrics.counts import check_same_length, precision_recall_f1

GroundedEntity = Mapping[str, Any]  # {"start", "end", "type", "boxes"}
_BySpan = dict[tuple[int, int, int], GroundedEntity]  # (tweet, start, end) -> entity
_Judge = Callable[[GroundedEntity, GroundedEntity], bool]


def score_grounded_entities(
    predictions: Sequence[Sequence[GroundedEntity]],
    references: Sequence[Sequence[GroundedEntity]],
    iou_threshold: float = 0.5,
    inclusive: bool = False,
) -> dict[str, Any]:
    """Score entities with their image regions as the official GMNER scorer does.

    Convention. An entity is identified by its tweet and span; of several predictions for one span the last one
    counts, and likewise in the gold. A prediction is right if and only if its span is a gold span, its type is equal,
    and the region is right: for an entity with gold boxes, the predicted box has IoU > `iou_threshold` with any of
    them; for one without, no box is predicted. A box for an ungroundable entity is wrong, none for a groundable one
    is wrong. `tp` counts right gold entities, `fp` = predicted - `tp`, `fn` = gold - `tp`; scores are micro-averages.

    Others differ, by up to about 2 points, so that numbers are comparable only under one convention: RiVEG and
    E2E-GMNER use IoU >= 0.5 (`inclusive=True`); the official code judges proposals, not boxes, so that an entity
    which no proposal covers can never be right; MQSPN's scorer accepts a box for an ungroundable entity; FMNERG's
    collapses names that occur twice in a tweet.

    Args:
        predictions: for each tweet its entities `{"start", "end", "type", "boxes"}`; `start` and `end` index words,
            `end` exclusive; `boxes` holds one `[xmin, ymin, xmax, ymax]` in pixels, or none for "not in the image".
        references: the gold entities; `boxes` holds all acceptable boxes. In the published data, boxes belong
            to a name, so two mentions of one name in a tweet carry the same boxes.
        iou_threshold: in [0, 1).
        inclusive: accept an IoU equal to the threshold (>=) instead of only larger ones (>).

    Returns:
        `{"precision", "recall", "f1", "tp", "fp", "fn", "mner", "eeg"}`; `"mner"` (span + type) and `"eeg"` (span +
        region) are dicts of the first six.

    Raises:
        ValueError: if the number of tweets differs, an entity lacks a key, has an empty span or a malformed box, or a
            prediction has more than one box.

    Source: Yu et al. 2023 (GMNER), and its scorer (https://github.com/NUSTM/GMNER, `Seq2SeqSpanMetric`).
    """
    if not 0 <= iou_threshold < 1:
        raise ValueError(f"`iou_threshold` must be in [0, 1), got {iou_threshold}; the field uses 0.5.")
    check_same_length(predictions, references, "tweets")
    predicted, gold = _by_span(predictions, "prediction"), _by_span(references, "reference")

    def same_region(entity: GroundedEntity, answer: GroundedEntity) -> bool:
        return is_region_right(entity["boxes"], answer["boxes"], iou_threshold, inclusive)

    return {
        **_count(predicted, gold, lambda entity, answer: _same_type(entity, answer) and same_region(entity, answer)),
        "mner": _count(predicted, gold, _same_type),
        "eeg": _count(predicted, gold, same_region),
    }


def count_grounded_entities(
    predictions: Sequence[Sequence[GroundedEntity]],
    references: Sequence[Sequence[GroundedEntity]],
    iou_threshold: float = 0.5,
    inclusive: bool = False,
) -> list[tuple[int, int, int]]:
    """Count each text's grounded entities (span, type and region) by the rule of `score_grounded_entities`.

    Args:
        predictions: see `score_grounded_entities`.
        references: the gold.
        iou_threshold: in [0, 1).
        inclusive: accept an IoU equal to the threshold.

    Returns:
        For each text `(correct, predicted, gold)`; their sums are what `score_grounded_entities` scores.

    Raises:
        ValueError: as `score_grounded_entities`.
    """
    score_grounded_entities(predictions, references, iou_threshold, inclusive)  # its errors name the tweet
    counts = []
    for predicted, gold in zip(predictions, references, strict=True):
        scores = score_grounded_entities([predicted], [gold], iou_threshold, inclusive)
        counts.append((scores["tp"], scores["tp"] + scores["fp"], scores["tp"] + scores["fn"]))
    return counts


def is_region_right(
    predicted: Sequence[Sequence[float]],
    gold: Sequence[Sequence[float]],
    iou_threshold: float = 0.5,
    inclusive: bool = False,
) -> bool:
    """Say whether a predicted region is right: none for none, or one box that overlaps any gold box enough.

    Args:
        predicted: one box or none, `[xmin, ymin, xmax, ymax]` in pixels.
        gold: all acceptable boxes; `[]` = not in the image.
        iou_threshold: in [0, 1).
        inclusive: accept an IoU equal to the threshold.
    """
    if not gold or not predicted:
        return not gold and not predicted
    best = max(box_iou(predicted[0], box) for box in gold)
    return best >= iou_threshold if inclusive else best > iou_threshold


def _same_type(entity: GroundedEntity, answer: GroundedEntity) -> bool:
    return entity["type"] == answer["type"]


def _by_span(tweets: Sequence[Sequence[GroundedEntity]], role: str) -> _BySpan:
    found: _BySpan = {}
    for index, entities in enumerate(tweets):
        for entity in entities:
            _check_entity(entity, f"Tweet {index}, {role} {dict(entity)}", role)
            found[index, entity["start"], entity["end"]] = entity
    return found


def _check_entity(entity: GroundedEntity, name: str, role: str) -> None:
    missing = [key for key in ("start", "end", "type", "boxes") if entity.get(key) is None]
    if missing:
        raise ValueError(f"{name} lacks {missing}; an entity that is not in the image has `boxes=[]`.")
    if not 0 <= entity["start"] < entity["end"]:
        raise ValueError(f"{name} has an empty span; need 0 <= start < end, `end` is the index after the last word.")
    if role == "prediction" and len(entity["boxes"]) > 1:
        raise ValueError(
            f"{name} has {len(entity['boxes'])} boxes, but a prediction is judged by one;"
            " keep the box with the best score, or `boxes=[]` for an entity that is not in the image."
        )
    for box in entity["boxes"]:
        check_area(box, name)


def _count(predicted: _BySpan, gold: _BySpan, is_right: _Judge) -> dict[str, Any]:
    right = sum(span in predicted and is_right(predicted[span], answer) for span, answer in gold.items())
    scores: dict[str, Any] = precision_recall_f1(right, len(predicted), len(gold))
    return {**scores, "tp": right, "fp": len(predicted) - right, "fn": len(gold) - right}
