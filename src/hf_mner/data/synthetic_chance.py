"""What a reader can reach on a planted-signal set without the pictures, and with them, counted on the examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from .schema import MnerExample


class ChanceLevel(NamedTuple):
    """The best scores of readers that find every name; see `chance_level`.

    Attributes:
        entities: number of names, of which the shares below are taken.
        text_only_accuracy: share of right types without the picture.
        text_only_f1: F1 of span and type without the picture.
        text_only_grounded_f1: F1 of span, type and box without the picture, all boxes left out.
        image_accuracy: share of right types with the picture.
        image_f1: F1 of span and type with the picture; also that of span, type and box.
    """

    entities: int
    text_only_accuracy: float
    text_only_f1: float
    text_only_grounded_f1: float
    image_accuracy: float
    image_f1: float


def chance_level(examples: Iterable[MnerExample] | Any, types_per_name: int = 1) -> ChanceLevel:
    """Count what perfect readers of the text alone, and of text and picture, can expect to reach.

    A name is *known* if its picture holds a key symbol (it has a box). Both readers find all `n` names. One that sees
    the picture is right about the `k` known ones. For the others, a reader can only name the most frequent types,
    those of the examples given; a finite set lets it do no better, except by luck.

    With `s_j` the number of unknown names that have one of their `j` most frequent types,

    - the accuracy is `(k + s_1) / n`;
    - F1, `2 * right / (given + n)`, is the greatest `2 * (k + s_j) / (k + j * (n - k) + n)`, over `j` from 0 (no
      answer for unknown names) to `types_per_name`.

    Without the picture `k` is 0. A reader without the picture can be right about span, type and box only by giving no
    box, so `s_1` then counts names without boxes. A lucky guess of a box is left out of account.

    Args:
        examples: of a planted-signal set, or rows of a data set with `entities`.
        types_per_name: how many types a system may give one span; 1 for tags. A system that asks for each type on its
            own (MNER-QG) may give all: with four equally frequent types that lifts the F1 of the text alone from 0.25
            to 0.4.

    Raises:
        ValueError: if no example has a name, or `types_per_name` is no whole number from 1 on.
    """
    if isinstance(types_per_name, bool) or not isinstance(types_per_name, int) or types_per_name < 1:
        raise ValueError(f"`types_per_name` is {types_per_name!r}; expected a whole number from 1 on.")
    rows = examples.select_columns(["entities"]) if hasattr(examples, "select_columns") else examples
    entities = [entity for row in rows for entity in row["entities"]]
    if not entities:
        raise ValueError("`examples` hold no entity, so there is no score to reach; give more of them.")
    count = len(entities)
    all_types = Counter(entity["type"] for entity in entities)
    unknown = Counter(entity["type"] for entity in entities if not entity["boxes"])
    known = count - unknown.total()
    return ChanceLevel(
        entities=count,
        text_only_accuracy=_sum_most_frequent(all_types, 1) / count,
        text_only_f1=_best_f1(0, all_types, count, types_per_name),
        text_only_grounded_f1=_best_f1(0, unknown, count, types_per_name),
        image_accuracy=(known + _sum_most_frequent(unknown, 1)) / count,
        image_f1=_best_f1(known, unknown, count, types_per_name),
    )


def _best_f1(known: int, guessable: Counter[str], count: int, types_per_name: int) -> float:
    return max(
        2 * (known + _sum_most_frequent(guessable, answers)) / (known + answers * (count - known) + count)
        for answers in range(types_per_name + 1)
    )


def _sum_most_frequent(types: Counter[str], number: int) -> int:
    return sum(size for _, size in types.most_common(number))
