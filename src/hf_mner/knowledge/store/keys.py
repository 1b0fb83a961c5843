"""The keys of a knowledge store: digests of what a source read and of everything else that decides its answer."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from hf_mner.data.schema import MnerExample

from .files import FORMAT_VERSION
from .knowledge_store import KnowledgeStore
from .pictures import pixel_digests
from .records import SourceRecord


def example_keys(store: KnowledgeStore, source: SourceRecord, examples: Iterable[MnerExample]) -> list[bytes]:
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
    examples = list(examples)  # slices of a data set would be columns
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


def _read_part(example: MnerExample, name: str) -> Any:
    if name == "tokens":
        return list(example["tokens"])
    if name == "entities":
        entities = example.get("entities")
        return None if entities is None else [[entity["start"], entity["end"]] for entity in entities]
    return (example.get("knowledge") or {}).get(name)
