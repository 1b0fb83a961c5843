"""What is wrong with predicted entities: each prediction beside the gold entity that it was meant for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hf_mner.metrics.counts import check_same_length
from hf_mner.metrics.grounded_f1 import is_region_right
from hf_mner.metrics.span_f1 import check_span

RIGHT = "right"
KINDS = {
    RIGHT: "span and type are those of a gold entity",
    "boundary": "overlaps a gold entity of the same type",
    "type": "span of a gold entity, but another type",
    "boundary_and_type": "overlaps a gold entity, but another type",
    "spurious": "overlaps no gold entity",
    "missed": "a gold entity that no prediction was meant for",
}
GROUNDING_KINDS = {
    "wrong_box": "span and type are right, the box overlaps no gold box enough",
    "box_for_ungroundable": "span and type are right, but the entity is not in the image and has a box",
    "no_box": "span and type are right, but the entity is in the image and has no box",
}
SPAN_AND_TYPE_RIGHT = (RIGHT, *GROUNDING_KINDS)

AnyEntity = Mapping[str, Any]


class Finding(NamedTuple):
    """A prediction and the gold entity that it was meant for.

    Args:
        text: index of the text.
        kind: of `KINDS` or `GROUNDING_KINDS`.
        predicted: None where an entity was missed.
        gold: None where a prediction is spurious.
    """

    text: int
    kind: str
    predicted: AnyEntity | None
    gold: AnyEntity | None


def classify_errors(
    predictions: Sequence[Iterable[AnyEntity]],
    references: Sequence[Iterable[AnyEntity]],
    is_grounded: bool = False,
    iou_threshold: float = 0.5,
) -> list[Finding]:
    """Say of each prediction whether it is right or what is wrong with it, and which gold entities were missed.

    A prediction is compared with the gold entity that has its span and type; else its span; else, of those that it
    overlaps, one of its type, one that no prediction has right, and the one with which it shares most words, in this
    order of importance (the first in the text of equal ones). Several predictions may be meant for one gold entity,
    so that counts of `boundary` can exceed the number of gold entities; each prediction counts once, under one kind.

    Args:
        predictions: for each text its entities `{"start", "end", "type", ...}`; `start` and `end` index words, `end`
            exclusive. One listed twice counts once, as in `score_spans`; of two that differ in nothing but other keys
            the last is kept.
        references: the gold entities.
        is_grounded: also compare boxes where span and type are right: `boxes` of a prediction holds one box or none,
            `boxes` of the gold all acceptable ones, `[xmin, ymin, xmax, ymax]` in pixels.
        iou_threshold: a box is right if its IoU with a gold box is larger.

    Returns:
        Text by text: predictions in the order of the text, then what was missed. `right` and the kinds of
        `GROUNDING_KINDS` together are as many as `score_spans` counts right.

    Raises:
        ValueError: if the number of texts differs, an entity lacks a key, or has an empty span.
    """
    check_same_length(predictions, references, "texts")
    return [
        finding
        for index, pair in enumerate(zip(predictions, references, strict=True))
        for finding in _classify_text(index, *pair, is_grounded, iou_threshold)
    ]


def count_kinds(findings: Iterable[Finding], is_grounded: bool = False) -> dict[str, int]:
    """Count findings by kind, in the order of `KINDS`; with `is_grounded` also those of `GROUNDING_KINDS`."""
    counts = Counter(finding.kind for finding in findings)
    return {kind: counts[kind] for kind in (*KINDS, *(GROUNDING_KINDS if is_grounded else ()))}


def confusion_table(findings: Iterable[Finding]) -> dict[tuple[str | None, str | None], int]:
    """Count pairs `(gold type, predicted type)`; None stands for a spurious prediction and for a missed entity."""

    def type_of(entity: AnyEntity | None) -> str | None:
        return None if entity is None else entity["type"]

    return dict(Counter((type_of(finding.gold), type_of(finding.predicted)) for finding in findings))


def _classify_text(
    text: int, predicted: Iterable[AnyEntity], gold: Iterable[AnyEntity], is_grounded: bool, iou_threshold: float
) -> Iterable[Finding]:
    ours = {_key(entity, text, "prediction"): entity for entity in predicted}
    answers = {_key(entity, text, "reference"): entity for entity in gold}
    meant = set()
    for key in sorted(ours):
        target = key if key in answers else _meant(key, answers, ours)
        meant.add(target)
        kind = RIGHT if key == target else _span_kind(key, target)
        if kind == RIGHT and is_grounded:
            kind = _grounding_kind(ours[key]["boxes"], answers[key]["boxes"], iou_threshold)
        yield Finding(text, kind, ours[key], None if target is None else answers[target])
    yield from (Finding(text, "missed", None, answers[key]) for key in sorted(answers) if key not in meant)


_Key = tuple[int, int, str]


def _key(entity: AnyEntity, text: int, role: str) -> _Key:
    if missing := [name for name in ("start", "end", "type") if entity.get(name) is None]:
        raise ValueError(f"Text {text}, {role} {dict(entity)} lacks {missing}; give `start`, `end` and `type`.")
    return check_span((entity["start"], entity["end"], entity["type"]), text)


def _meant(key: _Key, answers: Iterable[_Key], ours: Iterable[_Key]) -> _Key | None:
    start, end, entity_type = key
    right = set(ours)

    def closeness(answer: _Key) -> tuple[bool, bool, bool, int, int]:
        shared = min(end, answer[1]) - max(start, answer[0])
        return answer[:2] == (start, end), answer[2] == entity_type, answer not in right, shared, -answer[0]

    overlapping = [answer for answer in answers if answer[0] < end and start < answer[1]]
    return max(overlapping, key=closeness, default=None)


def _span_kind(key: _Key, target: _Key | None) -> str:
    if target is None:
        return "spurious"
    if key[:2] == target[:2]:
        return "type"
    return "boundary" if key[2] == target[2] else "boundary_and_type"


def _grounding_kind(
    predicted: Sequence[Sequence[float]], gold: Sequence[Sequence[float]], iou_threshold: float
) -> str:
    if is_region_right(predicted, gold, iou_threshold):
        return RIGHT
    if not gold:
        return "box_for_ungroundable"
    return "wrong_box" if predicted else "no_box"
