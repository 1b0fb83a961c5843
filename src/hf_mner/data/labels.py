"""Tag schemes: BIO labels to spans and back, and the type names that all data sets share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

# The four classes of CoNLL-2003 and of the Twitter sets under one spelling. Twitter-2015 and Twitter-GMNER publish
# their fourth class as OTHER; `load_mner_dataset(..., unify_types=False)` keeps the published spelling.
UNIFIED_TYPES = {"OTHER": "MISC"}

Reading = Literal["conlleval", "strict"]


class Span(NamedTuple):
    """A typed run of words: `start` and `end` index words, `end` is exclusive."""

    start: int
    end: int
    type: str


def unify_type(entity_type: str) -> str:
    """Return the shared spelling of a published type name (`OTHER` becomes `MISC`, all others stay)."""
    return UNIFIED_TYPES.get(entity_type, entity_type)


def bio_labels(types: Iterable[str]) -> list[str]:
    """Return `["O", "B-<type>", "I-<type>", ...]` in the order of `types`."""
    return ["O", *(f"{prefix}-{entity_type}" for entity_type in types for prefix in "BI")]


def split_tag(tag: str) -> tuple[str, str]:
    """Split a BIO tag into prefix and type.

    Args:
        tag: `"O"`, `"B-<type>"` or `"I-<type>"`.

    Returns:
        `("O", "")`, `("B", type)` or `("I", type)`.

    Raises:
        ValueError: if the tag is none of these.
    """
    if tag == "O":
        return "O", ""
    prefix, dash, entity_type = tag.partition("-")
    if prefix not in ("B", "I") or not dash or not entity_type:
        raise ValueError(f"Tag {tag!r} is not a BIO tag; expected 'O', 'B-<type>' or 'I-<type>'.")
    return prefix, entity_type


def decode_bio(tags: Sequence[str], reading: Reading = "conlleval") -> list[Span]:
    """Turn one sentence's BIO tags into spans, in text order.

    Args:
        tags: one tag for each word.
        reading: what an `I-X` without a `B-X` or `I-X` directly before it means. `"conlleval"` (also seqeval's default
            and the reading behind published MNER scores): it starts an entity. `"strict"`: it belongs to none.

    Returns:
        The spans; `end` is exclusive.

    Raises:
        ValueError: if a tag is not BIO (see `split_tag`) or the reading is unknown.

    Source: conlleval.pl of the CoNLL-2000 shared task; Ramshaw and Marcus 1995 for the scheme.
    """
    if reading not in ("conlleval", "strict"):
        raise ValueError(f"`reading={reading!r}` is not known; choose 'conlleval' or 'strict'.")
    spans: list[Span] = []
    start, current = 0, ""
    for position, tag in enumerate(tags):
        prefix, entity_type = split_tag(tag)
        if prefix == "I" and entity_type == current:
            continue
        if current:
            spans.append(Span(start, position, current))
        starts = prefix == "B" or (prefix == "I" and reading == "conlleval")
        start, current = position, entity_type if starts else ""
    if current:
        spans.append(Span(start, len(tags), current))
    return spans


def encode_bio(spans: Iterable[tuple[int, int, str]], length: int) -> list[str]:
    """Write spans as the BIO tags of a sentence with `length` words.

    Args:
        spans: `(start, end, type)` triples, `end` exclusive, that do not overlap.
        length: number of words.

    Returns:
        One tag for each word.

    Raises:
        ValueError: if a span lies outside the sentence, is empty, or overlaps another one.
    """
    tags = ["O"] * length
    for start, end, entity_type in spans:
        if not 0 <= start < end <= length:
            raise ValueError(
                f"Span ({start}, {end}) does not fit a sentence of {length} words; need 0 <= start < end."
            )
        if any(tag != "O" for tag in tags[start:end]):
            raise ValueError(f"Span ({start}, {end}, {entity_type!r}) overlaps another; BIO tags cannot hold both.")
        tags[start:end] = [f"B-{entity_type}", *[f"I-{entity_type}"] * (end - start - 1)]
    return tags
