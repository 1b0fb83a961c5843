"""The protocol of knowledge sources, and how their values get into examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from hf_mner.data.schema import Knowledge, MnerExample


@runtime_checkable
class KnowledgeSource(Protocol):
    """Something that knows more about a post than its words say.

    Attributes:
        column: the key of `example["knowledge"]` that this source fills, e.g. `"caption"`.
        needs_entities: True if it reads the mentions in `example["entities"]` (gold ones, or candidates of a first
            stage); such a source runs after span detection.
    """

    column: str
    needs_entities: bool

    def __call__(self, examples: Sequence[MnerExample]) -> list[Any]:
        """Return one value of the column for each example; None where nothing can be known (say, no image)."""
        ...


def add_knowledge(
    examples: Sequence[MnerExample], sources: Sequence[KnowledgeSource], overwrite: bool = False
) -> list[MnerExample]:
    """Return copies of the examples with the columns of all sources filled in.

    The input is not changed; values that are not replaced are shared with it. A source only sees the examples that
    still lack its value: None or absent. `[]` ("looked up, nothing found") is a value.

    Args:
        examples: what every source gets.
        sources: applied in order, so that a later one can read what an earlier one wrote.
        overwrite: also replace values that are there already.

    Raises:
        ValueError: if a source needs entities and an example has none listed, if a source returns another number of
            values than it got examples, or raises a `ValueError` itself; the message names the source.
    """
    filled = [_copy(example) for example in examples]
    for source in sources:
        _fill(filled, source, overwrite)
    return filled


def knowledge_map(
    sources: Sequence[KnowledgeSource], overwrite: bool = False
) -> Callable[[Mapping[str, list[Any]]], dict[str, list[Knowledge]]]:
    """Return a function for `datasets.Dataset.map` that does what `add_knowledge` does.

    Example:
        `dataset.map(knowledge_map([encyclopedia]), batched=True)`

    Args:
        sources: applied in order.
        overwrite: also replace values that are there already.
    """

    def update(batch: Mapping[str, list[Any]]) -> dict[str, list[Knowledge]]:
        rows = zip(*(batch[key] for key in batch), strict=True)
        examples = [cast(MnerExample, dict(zip(batch, row, strict=True))) for row in rows]
        empty = cast(Knowledge, dict.fromkeys(Knowledge.__annotations__))
        return {
            "knowledge": [
                {**empty, **_knowledge(row)} for row in add_knowledge(examples, sources, overwrite=overwrite)
            ]
        }

    return update


def entity_mentions(example: MnerExample) -> list[str]:
    """Return the words of each entity in `example["entities"]`, joined by single spaces, in that order."""
    return [" ".join(example["tokens"][entity["start"] : entity["end"]]) for entity in example["entities"]]


def _copy(example: MnerExample) -> MnerExample:
    return cast(MnerExample, {**example, "knowledge": _knowledge(example)})


def _knowledge(example: MnerExample) -> Knowledge:
    return cast(Knowledge, dict(example.get("knowledge") or {}))


def _fill(examples: list[MnerExample], source: KnowledgeSource, overwrite: bool) -> None:
    pending = [
        example for example in examples if overwrite or cast(dict, example["knowledge"]).get(source.column) is None
    ]
    if not pending:
        return
    name = f"Knowledge source {type(source).__name__} (column {source.column!r})"
    _check_entities(pending, source, name)
    try:
        values = source(pending)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if len(values) != len(pending):
        raise ValueError(
            f"{name} returned {len(values)} values for {len(pending)} examples; it must return one for each."
        )
    for example, value in zip(pending, values, strict=True):
        cast(dict, example["knowledge"])[source.column] = value


def _check_entities(examples: Sequence[MnerExample], source: KnowledgeSource, name: str) -> None:
    for example in examples:
        if source.needs_entities and example.get("entities") is None:
            raise ValueError(
                f"{name} looks up mentions, but example {example.get('id')!r} has no `entities`; run a span detector"
                " first, or give `entities=[]` for a text without any."
            )
