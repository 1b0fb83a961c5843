"""What a knowledge store knows of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import COLUMNS, ENTITY_COLUMN, KnowledgeSource, SourceIdentity, source_name

PARTS = ("image", "tokens", "entities", *(column for column in COLUMNS if column != ENTITY_COLUMN))  # what they read


class SourceRecord(NamedTuple):
    """What a store knows of a source; the fields are those of `KnowledgeSource`, `reads` in alphabetical order."""

    column: str
    identity: SourceIdentity
    reads: tuple[str, ...]
    needs_entities: bool = False

    @property
    def name(self) -> str:
        """How error texts and logs call it."""
        return f"{self.identity['source']} (column {self.column!r})"

    @property
    def completes(self) -> bool:
        """Whether it completes what another source wrote, as captions of regions do: it reads its own column.

        Its answers stand over a value that is there, where those of other sources fill what is None.
        """
        return self.column in self.reads

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> SourceRecord:
        """Read a row of the table of sources."""
        column, *fields, reads, needs_entities = row
        identity: Any = dict(zip(SourceIdentity.__annotations__, fields, strict=True))
        return cls(column, identity, tuple(reads.split()), bool(needs_entities))

    def to_row(self) -> tuple[Any, ...]:
        """Return the row of the table of sources."""
        identity: Mapping[str, Any] = self.identity
        fields = [identity[name] for name in SourceIdentity.__annotations__]
        return (self.column, *fields, " ".join(self.reads), int(self.needs_entities))


def describe_source(source: KnowledgeSource) -> SourceRecord:
    """Return what a store needs to know of a source.

    Raises:
        ValueError: if the source does not say what decides its answers, or reads what no example has.
    """
    name, identity, reads = source_name(source), getattr(source, "identity", None), getattr(source, "reads", None)
    if identity is None or not reads or isinstance(reads, str):
        lacking = "identity" if identity is None else "reads"
        raise ValueError(
            f"{name} has `{lacking}={getattr(source, lacking, None)!r}`, so a store cannot tell what decides its"
            " answers; a source that is stored has an `identity` (a `SourceIdentity`) and names in `reads` the parts"
            " of an example that it reads. Use it without a store, or add them."
        )
    return make_record(source.column, identity, reads, source.needs_entities)


def make_record(
    column: str, identity: Mapping[str, Any], reads: Iterable[str], needs_entities: bool = False
) -> SourceRecord:
    """Return the record of a source from its parts, checked.

    Args:
        column: what it fills, see `KnowledgeSource`.
        identity: the five texts of a `SourceIdentity`.
        reads: the parts of an example that it reads, from `PARTS`.
        needs_entities: see `KnowledgeSource`.

    Raises:
        ValueError: if a part of the identity is missing or no text, or `reads` holds another name.
    """
    wanted = SourceIdentity.__annotations__
    if set(identity) != set(wanted) or not all(isinstance(value, str) for value in identity.values()):
        raise ValueError(f"`identity` is {dict(identity)!r}; expected a text for each of {', '.join(wanted)}.")
    reads = tuple(sorted(set(reads)))
    if not reads or (unknown := set(reads) - set(PARTS)):
        raise ValueError(
            f"`reads` is {', '.join(reads) or 'empty'}; expected names from {', '.join(PARTS)}"
            f"{f', not {sorted(unknown)}' if reads else ''}."
        )
    return SourceRecord(column, SourceIdentity(**{name: identity[name] for name in wanted}), reads, needs_entities)  # type: ignore[typeddict-item]


def check_part(part: str, name: str = "part") -> None:
    """Refuse a part that no source of this package fills.

    Args:
        part: what values are.
        name: how the user gave it.

    Raises:
        ValueError: naming the parts that there are.
    """
    if part not in COLUMNS:
        meant = get_close_matches(part, COLUMNS, n=1)
        hint = f" Did you mean {meant[0]!r}?" if meant else ""
        raise ValueError(f"`{name}` is {part!r}; expected one of {', '.join(COLUMNS)}.{hint}")


def missing_parts(reads: Iterable[str], example: MnerExample) -> list[str]:
    """Return what an example lacks of the parts that a source reads; an empty list or text is there."""
    knowledge = example.get("knowledge") or {}
    return [name for name in reads if (knowledge if name in COLUMNS else example).get(name) is None]


def own_value(example: MnerExample, column: str) -> Any:
    """Return what an example has of a column; None if it, or an entity of it, has nothing."""
    if column != ENTITY_COLUMN:
        return (example.get("knowledge") or {}).get(column)
    values = [entity.get(ENTITY_COLUMN) for entity in example.get("entities") or ()]
    return values if values and None not in values else None


def find_remedy(part: str) -> str:
    """Return what to do about posts that lack a part."""
    remedies = {
        "image": "put the images in place",
        "caption": "join captions, as `--joined blip2_captions` does, or give posts with `knowledge.caption`",
        "entities": "give posts with `entities`",
    }
    return remedies.get(part, f"join this knowledge, or give posts with `knowledge.{part}`")
