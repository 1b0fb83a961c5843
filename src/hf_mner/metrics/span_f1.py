"""Entity F1 of tag sequences (the conlleval reading behind published MNER scores) and of spans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hf_mner.data.labels import Reading, decode_bio
from hf_mner.metrics.counts import check_same_length, precision_recall_f1

SpanLike = tuple[int, int, str]
_Item = tuple[int, int, int, str]  # sentence, start, end, type


def score_tags(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], reading: Reading = "conlleval"
) -> dict[str, Any]:
    """Score BIO tags by the entities they spell: right if and only if start, end and type are right.

    Args:
        predictions: for each sentence one BIO label for each word.
        references: the gold labels, same lengths.
        reading: how a stray `I-X` is read, see `hf_mner.data.labels.decode_bio`. `"conlleval"` equals seqeval's
            default mode and published MNER numbers; Twitter-2015's gold has stray `I-` tags, so that its F1 differs by
            reading.

    Returns:
        `{"precision", "recall", "f1", "support", "per_type"}`: micro-averages over all entities, the number of gold
        entities, and the same four for each type that occurs in gold or prediction, sorted by name.

    Raises:
        ValueError: if the number of sentences, or of labels in a sentence, differs, or a label is not BIO.

    Source: conlleval.pl of the CoNLL-2000 shared task; equal to seqeval 1.2.2 (`classification_report`, default mode).
    """
    check_same_length(predictions, references, "sentences")
    for index, (predicted, gold) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(gold):
            raise ValueError(
                f"Sentence {index} has {len(predicted)} predicted and {len(gold)} gold labels; give one label for each"
                " word (labels of words that truncation cut away are 'O')."
            )
    return _score(_decode(predictions, reading), _decode(references, reading))


def score_spans(
    predictions: Sequence[Iterable[SpanLike]], references: Sequence[Iterable[SpanLike]], typed: bool = True
) -> dict[str, Any]:
    """Score spans given as `(start, end, type)`.

    A span that is listed twice in one sentence counts once, on both sides (with `typed=False` also one that is listed
    under two types).

    Args:
        predictions: for each sentence its spans; `start` and `end` index words, `end` exclusive.
        references: the gold spans.
        typed: if False, types are ignored: the span F1 of SCANNER's first stage.

    Returns:
        As `score_tags`; without `"per_type"` if `typed=False`.

    Raises:
        ValueError: if the number of sentences differs, or something is not a `(start, end, type)` with start < end.
    """
    check_same_length(predictions, references, "sentences")
    scores = _score(_collect(predictions, typed), _collect(references, typed))
    if not typed:
        del scores["per_type"]
    return scores


def count_spans(
    predictions: Sequence[Iterable[SpanLike]], references: Sequence[Iterable[SpanLike]]
) -> list[tuple[int, int, int]]:
    """Count the spans of each text by the rule of `score_spans`, for tests over texts (`randomization_test`).

    Args:
        predictions: for each text its `(start, end, type)`.
        references: the gold spans.

    Returns:
        For each text `(correct, predicted, gold)`; their sums are what `score_spans` scores.

    Raises:
        ValueError: as `score_spans`.
    """
    check_same_length(predictions, references, "sentences")
    sides = zip(_by_sentence(predictions), _by_sentence(references), strict=True)
    return [(len(predicted & gold), len(predicted), len(gold)) for predicted, gold in sides]


def check_span(span: SpanLike, sentence: int) -> SpanLike:
    """Return `span` as a plain tuple, or raise `ValueError` if it is not `(start, end, type)` with start < end."""
    if isinstance(span, dict | str) or len(span) != 3 or not 0 <= span[0] < span[1]:
        raise ValueError(
            f"Sentence {sentence}: {span!r} is not a span; expected (start, end, type) with 0 <= start < end,"
            " where `end` is the index after the last word."
        )
    return span[0], span[1], span[2]


def _decode(sentences: Sequence[Sequence[str]], reading: Reading) -> set[_Item]:
    return {(index, *span) for index, tags in enumerate(sentences) for span in decode_bio(tags, reading)}


def _collect(sentences: Sequence[Iterable[SpanLike]], typed: bool) -> set[_Item]:
    items = set()
    for index, spans in enumerate(sentences):
        for start, end, entity_type in (check_span(span, index) for span in spans):
            items.add((index, start, end, entity_type if typed else ""))
    return items


def _by_sentence(sentences: Sequence[Iterable[SpanLike]]) -> list[set[SpanLike]]:
    return [{check_span(span, index) for span in spans} for index, spans in enumerate(sentences)]


def _score(predicted: set[_Item], gold: set[_Item]) -> dict[str, Any]:
    per_type = {}
    right_of, predicted_of, gold_of = (
        Counter(item[3] for item in part) for part in (predicted & gold, predicted, gold)
    )
    for entity_type in sorted(predicted_of | gold_of):
        counts = right_of[entity_type], predicted_of[entity_type], gold_of[entity_type]
        per_type[entity_type] = {**precision_recall_f1(*counts), "support": counts[2]}
    overall = precision_recall_f1(len(predicted & gold), len(predicted), len(gold))
    return {**overall, "support": len(gold), "per_type": per_type}
