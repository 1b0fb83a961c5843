"""F1 apart for entities that the training data holds and for those it does not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from hf_mner.metrics.counts import check_same_length
from hf_mner.metrics.span_f1 import SpanLike, check_span, score_spans


def surface_forms(tokens: Sequence[Sequence[str]], spans: Sequence[Iterable[SpanLike]]) -> set[str]:
    """Return the surface forms of entities: their words joined by single spaces.

    Args:
        tokens: for each sentence its words.
        spans: for each sentence its `(start, end, type)`, word indices, `end` exclusive.

    Raises:
        ValueError: if the number of sentences differs or a span does not fit its sentence.
    """
    check_same_length(spans, tokens, "sentences")
    return {_surface(words, span, index) for index, words in enumerate(tokens) for span in spans[index]}


def score_seen_unseen(
    predictions: Sequence[Sequence[SpanLike]],
    references: Sequence[Sequence[SpanLike]],
    tokens: Sequence[Sequence[str]],
    training_entities: Collection[str],
    case_sensitive: bool = True,
) -> dict[str, dict[str, Any]]:
    """Score entities apart by whether their surface form is an entity of the training data.

    A gold entity and a prediction alike are sorted by their own surface form, whatever their types: a false positive
    `Paris` counts against "seen" if `Paris` is a training entity, and a wrong boundary can move a prediction to
    the other side. A right prediction has the gold's span, hence its side, so `tp` never crosses.

    Args:
        predictions: for each sentence its `(start, end, type)`; `start` and `end` index words, `end` exclusive.
        references: the gold spans.
        tokens: for each sentence its words.
        training_entities: surface forms of the training entities, e.g. from `surface_forms`.
        case_sensitive: if False, forms that differ only in case are equal.

    Returns:
        `{"seen": scores, "unseen": scores, "overall": scores}`, each as from `score_spans`.

    Raises:
        ValueError: if the number of sentences differs, a span does not fit its sentence, or `training_entities` is one
            string.

    Source: SCANNER (Ok et al. 2024), Tables 1 and 8.
    Departure: the paper says only "not found in the training datasets"; surface form and case are our reading of it.
    """
    check_same_length(predictions, references, "sentences")

    def side(sentences: Sequence[Sequence[SpanLike]], is_seen: bool) -> list[list[SpanLike]]:
        return select_seen(sentences, tokens, training_entities, is_seen, case_sensitive)

    return {
        "seen": score_spans(side(predictions, True), side(references, True)),
        "unseen": score_spans(side(predictions, False), side(references, False)),
        "overall": score_spans(predictions, references),
    }


def select_seen(
    spans: Sequence[Sequence[SpanLike]],
    tokens: Sequence[Sequence[str]],
    training_entities: Collection[str],
    is_seen: bool = True,
    case_sensitive: bool = True,
) -> list[list[SpanLike]]:
    """Return the spans whose surface form is an entity of the training data, or is none.

    Args:
        spans: for each sentence its `(start, end, type)`.
        tokens: for each sentence its words.
        training_entities: see `score_seen_unseen`.
        is_seen: False returns the spans whose surface form is none.
        case_sensitive: see `score_seen_unseen`.

    Raises:
        ValueError: as `score_seen_unseen`.
    """
    if isinstance(training_entities, str):
        raise ValueError("`training_entities` is one string; give a set of surface forms, see `surface_forms`.")
    check_same_length(tokens, spans, "sentences")
    known = {form if case_sensitive else form.casefold() for form in training_entities}

    def is_known(index: int, span: SpanLike) -> bool:
        form = _surface(tokens[index], span, index)
        return (form if case_sensitive else form.casefold()) in known

    return [[span for span in part if is_known(index, span) == is_seen] for index, part in enumerate(spans)]


def _surface(words: Sequence[str], span: SpanLike, index: int) -> str:
    start, end, _ = check_span(span, index)
    if end > len(words):
        raise ValueError(f"Sentence {index}: span ({start}, {end}) does not fit its {len(words)} words.")
    return " ".join(words[start:end])
