"""Label noise that is put into training data on purpose, to see how well a training bears it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar, get_args

from hf_mner.data.labels import bio_labels, decode_bio, encode_bio
from hf_mner.data.schema import EntityAnnotation, MnerExample

T = TypeVar("T")
NoiseKind = Literal["type", "boundary", "missing"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)


def corrupt_labels(
    examples: Iterable[MnerExample],
    rate: float,
    seed: int,
    types: Sequence[str],
    kinds: Sequence[NoiseKind] = NOISE_KINDS,
) -> tuple[list[MnerExample], dict[NoiseKind, int]]:
    """Spoil a share of the gold entities.

    Each entity is spoilt with probability `rate`, in one of the ways that are possible for it, all equally likely:

    - `type`: it gets one of the other types, all equally likely;
    - `boundary`: one of its ends moves by one word, so that it stays in the text, holds a word and overlaps no other
      entity; all such moves are equally likely. Where there is none, the entity is spoilt in another way of `kinds`,
      or stays as it is;
    - `missing`: it is left out.

    With one seed, the entities that are drawn at a rate are also drawn at every higher one.

    Args:
        examples: with `entities`, which do not overlap. They are not changed.
        rate: probability in [0, 1].
        seed: the same seed gives the same noise.
        types: all entity types, in the order of the labels behind `ner_tags`.
        kinds: the ways to choose from.

    Returns:
        corrupted: copies, in order; `ner_tags` (where there are any) spell the `entities`. Boxes stay with their
            entity, and texts in which nothing was spoilt keep their tags as published.
        counts: the number of entities spoilt in each way of `kinds`.

    Raises:
        ValueError: if `rate` or `kinds` are not as described, an entity has an unknown type or overlaps another, or
            the tags of an example do not spell its entities.

    Source: SCANNER (Ok et al. 2024), section 3.3 and Figure 5: label noise at rates of 0.1 and 0.2.
    Departure: the paper spoils the labels of a text classification (MNLI) and does not say how. The noise of NER is
        of other kinds; it names boundaries as the main one.
    """
    check_noise(rate, types, kinds)
    generator = random.Random(seed)
    counts = dict.fromkeys(kinds, 0)
    return [corrupt_example(example, rate, generator, types, counts) for example in examples], counts


def check_noise(rate: float, types: Sequence[str], kinds: Sequence[str]) -> None:
    """Refuse settings of `corrupt_labels` that cannot be.

    Raises:
        ValueError: naming the setting, and what it can be.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be in [0, 1], got {rate}; the paper uses 0.1 and 0.2.")
    if isinstance(kinds, str) or not kinds or len(set(kinds)) < len(kinds) or set(kinds) - set(NOISE_KINDS):
        raise ValueError(f"`kinds` is {kinds!r}; expected one or more of {', '.join(NOISE_KINDS)}, each once.")
    if "type" in kinds and len(set(types)) < 2:
        raise ValueError(
            f"`types` is {list(types)}, so that no entity can get another type; give all types of the data set, or"
            " leave 'type' out of `kinds`."
        )


def corrupt_example(
    example: MnerExample,
    rate: float,
    generator: random.Random,
    types: Sequence[str],
    counts: dict[NoiseKind, int],
) -> MnerExample:
    """Return a copy of an example with noise, and add to `counts` what was spoilt; see `corrupt_labels`."""
    check_labels(example, types)
    length = len(example["tokens"])
    entities: list[EntityAnnotation | None] = [{**entity} for entity in example["entities"]]
    is_spoilt = False
    for index, entity in enumerate(example["entities"]):
        # Three numbers for every entity, so that what one draws does not depend on the rate and on the others.
        drawn, way, detail = generator.random(), generator.random(), generator.random()
        others = [other for place, other in enumerate(entities) if place != index and other is not None]
        moves = list_moves(entity, others, length)
        possible = [kind for kind in counts if kind != "boundary" or moves]
        if drawn >= rate or not possible:
            continue
        kind = pick(possible, way)
        counts[kind] += 1
        is_spoilt = True
        if kind == "missing":
            entities[index] = None
        elif kind == "type":
            other_types = [name for name in types if name != entity["type"]]
            entities[index] = {**entity, "type": pick(other_types, detail)}
        else:
            start, end = pick(moves, detail)
            entities[index] = {**entity, "start": start, "end": end}
    kept = [entity for entity in entities if entity is not None]
    spoilt: MnerExample = {**example, "entities": kept}
    if (tags := example.get("ner_tags")) is not None:
        spoilt["ner_tags"] = spell_entities(kept, length, types) if is_spoilt else list(tags)
    return spoilt


def list_moves(entity: EntityAnnotation, others: Iterable[EntityAnnotation], length: int) -> list[tuple[int, int]]:
    """Return the spans that an entity can get when one of its ends moves by one word."""
    start, end = entity["start"], entity["end"]
    taken = {word for other in others for word in range(other["start"], other["end"])}
    moved = [(start - 1, end), (start + 1, end), (start, end - 1), (start, end + 1)]
    return [
        (first, last) for first, last in moved if 0 <= first < last <= length and taken.isdisjoint(range(first, last))
    ]


def spell_entities(entities: Iterable[EntityAnnotation], length: int, types: Sequence[str]) -> list[int]:
    """Return the `ner_tags` of entities: indices of `bio_labels(types)`."""
    index_of = {label: index for index, label in enumerate(bio_labels(types))}
    tags = encode_bio([(entity["start"], entity["end"], entity["type"]) for entity in entities], length)
    return [index_of[tag] for tag in tags]


def check_labels(example: MnerExample, types: Sequence[str]) -> None:
    """Refuse an example whose entities are not of `types`, overlap, or are not those of its tags.

    Raises:
        ValueError: naming the example.
    """
    name = f"Example {example.get('id')!r}"
    spans = sorted((entity["start"], entity["end"], entity["type"]) for entity in example["entities"])
    if unknown := sorted({entity_type for *_, entity_type in spans} - set(types)):
        raise ValueError(f"{name} has entities of the type {unknown[0]!r}; `types` has {', '.join(types)}.")
    try:
        encode_bio(spans, len(example["tokens"]))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    tags = example.get("ner_tags")
    if tags is None:
        return
    labels = bio_labels(types)
    if max(tags, default=0) >= len(labels) or decode_bio([labels[tag] for tag in tags]) != spans:
        raise ValueError(
            f"{name} has `ner_tags` that do not spell its `entities`; give `types` in the order of the data set's"
            " labels (`entity_types` of its training split)."
        )


def pick(items: Sequence[T], share: float) -> T:
    """Return the item that a number in [0, 1) falls on, when all items are equally wide."""
    return items[int(share * len(items))]
