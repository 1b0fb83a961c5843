"""The keys of a knowledge store: digests of what a source read and of everything else that decides its answer."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import Knowledge, MnerExample
from hf_mner.knowledge.base import KnowledgeSource, SourceIdentity, source_name

from .store_files import FORMAT_VERSION

if TYPE_CHECKING:
    from .store import KnowledgeStore

PARTS = ("image", "tokens", "entities", *(name for name in Knowledge.__annotations__ if name != "sources"))
DECODED_AT_ONCE = 64  # images whose digests are written in one transaction


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


def example_keys(store: KnowledgeStore, source: SourceRecord, examples: Sequence[MnerExample]) -> list[bytes]:
    """Return the key of what a source says of each example.

    Two examples have one key if the source reads the same of them: the pixels of the image (however it is given), the
    tokens, the places of the entities, values of the knowledge. Numbers of the knowledge count as 32-bit floats, as
    `datasets` holds them, and a None in a dictionary counts as absent, so an example has one key before and after it
    was a row.

    Args:
        store: remembers the pixels of image files, so that each file is decoded once.
        source: whose identity and column are part of the key.
        examples: with what the source reads.

    Returns:
        Digests of 32 bytes.

    Raises:
        ValueError, OSError: if an image cannot be read or decoded; the text names the example.
    """
    fixed = [FORMAT_VERSION, source.column, source.identity]
    images = pixel_digests(store, examples) if "image" in source.reads else [None] * len(examples)
    keys = []
    for example, image in zip(examples, images, strict=True):
        parts = {name: _read_part(example, name) for name in source.reads if name != "image"}
        if "image" in source.reads:
            parts["image"] = image and image.hex()
        text = json.dumps([*fixed, {name: canonical(part) for name, part in parts.items()}], sort_keys=True)
        keys.append(hashlib.sha256(text.encode()).digest())
    return keys


def canonical(value: Any) -> Any:
    """Return a value so that what a data set gives back is equal to what was put into it."""
    if hasattr(value, "tolist"):  # NumPy
        value = value.tolist()
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Real):
        return ctypes.c_float(float(value)).value
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in value.items() if item is not None}
    return [canonical(item) for item in value]


def pixel_digests(store: KnowledgeStore, examples: Sequence[MnerExample]) -> list[bytes | None]:
    """Return a digest of size and RGB pixels of each example's image, None for an example without one.

    An image that comes as a file is decoded only if the store does not know the file.

    Raises:
        ValueError, OSError: as `example_keys`.
    """
    digests: list[bytes | None] = []
    for start in range(0, len(examples), DECODED_AT_ONCE):
        digests += _digest_some(store, examples[start : start + DECODED_AT_ONCE])
    return digests


def _digest_some(store: KnowledgeStore, examples: Sequence[MnerExample]) -> list[bytes | None]:
    files = [_digest_file(example) for example in examples]
    known = store.get_pixel_digests(file for file in files if file is not None)
    new: dict[bytes, bytes] = {}
    digests: list[bytes | None] = []
    for example, file in zip(examples, files, strict=True):
        digest = known.get(file) or new.get(file) if file is not None else None
        if digest is None and example.get("image") is not None:
            digest = _digest_pixels(example)
            if file is not None:
                new[file] = digest
        digests.append(digest)
    if new:
        store.put_pixel_digests(new)
    return digests


def _digest_file(example: MnerExample) -> bytes | None:
    """Return the digest of an image file's bytes, None where the image is absent or no file."""
    image = example.get("image")
    content = image.get("bytes") if isinstance(image, Mapping) else image
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    path = image.get("path") if isinstance(image, Mapping) else image
    if isinstance(path, str | Path) and Path(path).is_file():  # anything else is for `load_rgb_image` to judge
        return hashlib.sha256(Path(path).read_bytes()).digest()
    return None


def _digest_pixels(example: MnerExample) -> bytes:
    try:
        image = load_rgb_image(example["image"])
    except (ValueError, OSError) as error:
        raise type(error)(f"Example {example.get('id')!r}: {error}") from error
    return hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes()).digest()


def _read_part(example: MnerExample, name: str) -> Any:
    if name == "tokens":
        return list(example["tokens"])
    if name == "entities":
        entities = example.get("entities")
        return None if entities is None else [[entity["start"], entity["end"]] for entity in entities]
    return (example.get("knowledge") or {}).get(name)
