"""The protocol of knowledge sources, and how their values get into examples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import Any, Protocol, TypedDict, cast, runtime_checkable

from hf_mner.data.schema import EntityAnnotation, Knowledge, MnerExample, Provenance, check_knowledge

ENTITY_COLUMN = "object_similarities"  # the one column that belongs to an entity and not to the example's knowledge
COLUMNS = (*(part for part in Knowledge.__annotations__ if part != "sources"), ENTITY_COLUMN)  # what sources can fill


class SourceError(OSError):
    """A source cannot work, whatever the post: its model cannot be loaded, its endpoint does not answer.

    No post is to blame, so that going on to the next one brings nothing.
    """


class SourceSetupError(SourceError, ValueError):
    """What a source was made with is there and cannot be used: a model of another kind, a broken file, no key."""


@runtime_checkable
class KnowledgeSource(Protocol):
    """Something that knows more about a post than its words say.

    Attributes:
        column: the key of `example["knowledge"]` that this source fills, e.g. `"caption"`; or `"object_similarities"`,
            which belongs to each entity of the example.
        needs_entities: True if it reads the mentions in `example["entities"]` (gold ones, or candidates of a first
            stage); such a source runs after span detection.

    A source may also have
        identity: a `SourceIdentity`. Without it nothing is written about where a value is from, and a store
            (`hf_mner.knowledge.store`) does not take the source.
        reads: the parts of an example that its answer depends on: `"image"`, `"tokens"`, `"entities"` (their places)
            and columns of the knowledge (`"caption"`). A store needs it as well.
        lacks(example): tells whether the example waits for this source. A source that completes what another one
            wrote, such as the captions of detected objects, has it. Without it, an example waits if the column is None
            or absent.
    """

    column: str
    needs_entities: bool

    def __call__(self, examples: Sequence[MnerExample]) -> list[Any]:
        """Return one value of the column for each example; None where nothing can be known (say, no image)."""
        ...


class SourceIdentity(TypedDict):
    """What decides a source's answers besides the example; two sources with equal identities give equal answers.

    `source` is the kind, e.g. `"ImageCaptioner"`; `model` a name, file or folder; `revision` which state of the
    model's files; `prompt` the version of the prompt, `""` without one; `settings` whatever else changes the answer,
    as JSON with sorted keys.
    """

    source: str
    model: str
    revision: str
    prompt: str
    settings: str


def add_knowledge(
    examples: Sequence[MnerExample], sources: Sequence[KnowledgeSource], overwrite: bool = False
) -> list[MnerExample]:
    """Return copies of the examples with the columns of all sources filled in.

    The input is not changed; values that are not replaced are shared with it. A source only sees the examples that
    still lack its value: None or absent. `[]` ("looked up, nothing found") is a value. What a source with an identity
    filled in is noted in `knowledge["sources"]`.

    Args:
        examples: what every source gets.
        sources: applied in order, so that a later one can read what an earlier one wrote.
        overwrite: also replace values that are there already, but not by None.

    Raises:
        ValueError: if a source has a `column` that nothing reads or an incomplete `identity`, if it needs entities and
            an example has none listed, if it returns another number of values than it got examples or a value of
            another type than its column has, or raises a `ValueError` itself; the message names the source.
        SourceError: if a source cannot work, whatever the example.
    """
    for source in sources:
        check_source(source)
    filled = [_copy(example) for example in examples]
    for source in sources:
        _fill(filled, source, overwrite)
    return filled


def knowledge_map(
    sources: Sequence[KnowledgeSource], overwrite: bool = False
) -> Callable[[Mapping[str, list[Any]]], dict[str, list[Any]]]:
    """Return a function for `datasets.Dataset.map` that does what `add_knowledge` does.

    Example:
        `dataset.map(knowledge_map([encyclopedia]), batched=True)`

    Args:
        sources: applied in order.
        overwrite: also replace values that are there already, but not by None.

    Raises:
        ValueError: here, if a source has a `column` that nothing reads; in the function, if it gets one example and
            not a batch, or as `add_knowledge` does.
    """
    for source in sources:
        check_source(source)

    def update(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        _check_batched(batch)
        rows = zip(*(batch[key] for key in batch), strict=True)
        examples = [cast(MnerExample, dict(zip(batch, row, strict=True))) for row in rows]
        filled = add_knowledge(examples, sources, overwrite=overwrite)
        empty = cast(Knowledge, dict.fromkeys(Knowledge.__annotations__))
        columns: dict[str, list[Any]] = {"knowledge": [{**empty, **_knowledge(row)} for row in filled]}
        if any(source.column == ENTITY_COLUMN for source in sources):
            columns["entities"] = [
                [{ENTITY_COLUMN: None, **entity} for entity in row.get("entities") or ()] for row in filled
            ]
        return columns

    return update


def entity_mentions(example: MnerExample) -> list[str]:
    """Return the words of each entity in `example["entities"]`, joined by single spaces, in that order."""
    return [" ".join(example["tokens"][entity["start"] : entity["end"]]) for entity in example["entities"]]


def example_name(example: MnerExample) -> str:
    """Return how error texts call an example: by its id, or without one by its first words."""
    if example.get("id") is not None:
        return f"Example {example['id']!r}"
    words = list(example.get("tokens") or ())
    return f"Example {' '.join(words[:5]) + (' ...' if len(words) > 5 else '')!r} (without id)"


def source_name(source: KnowledgeSource) -> str:
    """Return how error texts and logs call a source."""
    identity = getattr(source, "identity", None)
    kind = type(source).__name__ if identity is None else identity.get("source", type(source).__name__)
    return f"Knowledge source {kind} (column {source.column!r})"


def check_source(source: KnowledgeSource) -> None:
    """Refuse what is no source, and one whose `column` nothing could read.

    Raises:
        ValueError: naming the source, what it has, and what was expected.
    """
    if isinstance(source, type) or not isinstance(source, KnowledgeSource):
        raise ValueError(
            f"{source!r} is no knowledge source; expected an object with `column` and `needs_entities` that can be"
            " called with examples, such as `OcrText()`."
        )
    if source.column not in COLUMNS:
        raise ValueError(
            f"Knowledge source {type(source).__name__} fills the column {source.column!r}, which nothing reads;"
            f" choose one of {', '.join(COLUMNS)} as its `column`."
        )


def sources_read(
    sources: Sequence[KnowledgeSource], parts: Collection[str]
) -> tuple[list[KnowledgeSource], list[KnowledgeSource]]:
    """Divide sources into those whose knowledge is read, by a model or by another such source, and the idle ones.

    A source without `reads` may read whatever the sources before it found.

    Args:
        sources: in the order in which they are asked.
        parts: the parts of knowledge that a model reads; those who read `objects` also read their similarities.
    """
    wanted = set(parts)
    kept: list[KnowledgeSource] = []
    idle: list[KnowledgeSource] = []
    for source in reversed(sources):
        is_read = ("objects" if source.column == ENTITY_COLUMN else source.column) in wanted
        (kept if is_read else idle).append(source)
        if is_read:
            wanted |= set(getattr(source, "reads", COLUMNS))
    return kept[::-1], idle[::-1]


def source_lacks(source: KnowledgeSource, example: MnerExample) -> bool:
    """Tell whether an example waits for the source's value, see `KnowledgeSource`."""
    lacks = getattr(source, "lacks", None)
    if lacks is not None:
        return lacks(example)
    if source.column == ENTITY_COLUMN:
        return any(entity.get(ENTITY_COLUMN) is None for entity in example.get("entities") or ())
    return _knowledge(example).get(source.column) is None


def _copy(example: MnerExample) -> MnerExample:
    return cast(MnerExample, {**example, "knowledge": _knowledge(example)})


def _knowledge(example: MnerExample) -> Knowledge:
    return cast(Knowledge, dict(example.get("knowledge") or {}))


def _fill(examples: list[MnerExample], source: KnowledgeSource, overwrite: bool) -> None:
    pending = [example for example in examples if overwrite or source_lacks(source, example)]
    if not pending:
        return
    identity = _checked_identity(source)
    name = source_name(source)
    _check_entities(pending, source, name)
    try:
        values = source(pending)
    except SourceError as error:
        if name not in str(error):
            error.args = (f"{name}: {error}",)
        raise
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    check_values(values, pending, source.column, name)
    begins_the_part = getattr(source, "lacks", None) is None
    for example, value in zip(pending, values, strict=True):
        knowledge = cast(dict, example["knowledge"])
        if value is None and knowledge.get(source.column) is not None:
            continue  # to know nothing replaces nothing
        _write(example, source.column, value)
        if begins_the_part and knowledge.get("sources"):
            knowledge["sources"] = [note for note in knowledge["sources"] if note["part"] != source.column]
        if identity is not None and value is not None:
            _note(cast(Knowledge, knowledge), source.column, identity)


def check_values(values: Any, examples: Sequence[MnerExample], column: str, name: str) -> None:
    """Refuse what a source must not return.

    Args:
        values: what it returned.
        examples: what it was asked about.
        column: what it fills.
        name: how it is called in the text.

    Raises:
        ValueError: naming the source, what it returned, and what was expected.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{name} returned a {type(values).__name__}; it must return a list, one value each.")
    if len(values) != len(examples):
        raise ValueError(
            f"{name} returned {len(values)} values for {len(examples)} examples; it must return one for each."
        )
    for example, value in zip(examples, values, strict=True):
        _check_value(example, column, value, name)


def _checked_identity(source: KnowledgeSource) -> SourceIdentity | None:
    """Return the source's identity; asked for only when there is work, since it reads the model's files."""
    identity = getattr(source, "identity", None)
    keys = SourceIdentity.__annotations__
    if identity is None or (isinstance(identity, Mapping) and all(isinstance(identity.get(key), str) for key in keys)):
        return cast("SourceIdentity | None", identity)
    raise ValueError(
        f"Knowledge source {type(source).__name__} (column {source.column!r}) has the `identity` {identity!r};"
        f" expected a mapping with texts for {', '.join(keys)}, see `SourceIdentity`, or None."
    )


def _write(example: MnerExample, column: str, value: Any) -> None:
    if column != ENTITY_COLUMN:
        cast(dict, example["knowledge"])[column] = value
    elif value is not None:
        entities = [{**entity, column: own} for entity, own in zip(example["entities"], value, strict=True)]
        example["entities"] = cast(list[EntityAnnotation], entities)


def _note(knowledge: Knowledge, column: str, identity: SourceIdentity) -> None:
    """Add where a part is from; a source that completes a part stands behind the one that began it."""
    note: Provenance = {
        "part": column,
        "source": identity["source"],
        "model": identity["model"],
        "revision": identity["revision"],
        "prompt": identity["prompt"],
    }
    old = knowledge.get("sources") or ()
    others = [entry for entry in old if (entry["part"], entry["source"]) != (column, note["source"])]
    knowledge["sources"] = [*others, note]


def _check_entities(examples: Sequence[MnerExample], source: KnowledgeSource, name: str) -> None:
    for example in examples:
        if source.needs_entities and example.get("entities") is None:
            raise ValueError(
                f"{name} looks up mentions. {example_name(example)} has no `entities`; run a span detector first, or"
                " give `entities=[]` for a text without any."
            )


def _check_value(example: MnerExample, column: str, value: Any, name: str) -> None:
    """Refuse a value that its column cannot hold, before something far from its source fails on it."""
    if value is None:
        return
    try:
        if column == ENTITY_COLUMN:
            _check_similarities(value, len(example["entities"]))
        else:
            check_knowledge({column: value})
    except ValueError as error:
        raise ValueError(f"{name} gave a value that cannot be used. {example_name(example)}: {error}") from error


def _check_similarities(value: Any, num_entities: int) -> None:
    lists = value if isinstance(value, Sequence) and not isinstance(value, str) else None
    if lists is None or len(lists) != num_entities or not all(map(_holds_numbers, lists)):
        raise ValueError(
            f"`{ENTITY_COLUMN}` is {value!r}; expected a list for each of the {num_entities} entities, with one number"
            " for each object."
        )


def _holds_numbers(numbers: Any) -> bool:
    return isinstance(numbers, Sequence) and all(
        isinstance(number, Real) and not isinstance(number, bool) for number in numbers
    )


def _check_batched(batch: Mapping[str, Any]) -> None:
    """Refuse a single example, whose words are texts where a batch has lists of them."""
    if isinstance(batch.get("id"), str) or isinstance(next(iter(batch.get("tokens", ())), None), str):
        raise ValueError(
            "The function of `knowledge_map` got a single example; it expects a batch. Give `batched=True`:"
            " `dataset.map(knowledge_map(sources), batched=True)`."
        )
