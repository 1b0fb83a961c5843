"""Digests of pictures: the same for the same pixels, and each file is decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import MnerExample

from .knowledge_store import KnowledgeStore

DECODED_AT_ONCE = 64  # images whose digests are written in one transaction


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
    except (ValueError, TypeError, OSError) as error:
        kinds = (ValueError, TypeError, FileNotFoundError, OSError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        raise kind(f"Example {example.get('id')!r}: {describe_file_error(error, 'image')}") from error
    return hashlib.sha256(f"{image.width} {image.height} ".encode() + image.tobytes()).digest()


def describe_file_error(error: Exception, kind: str) -> str:
    """Return an error's text; of a file that is missing or a folder, in words.

    Args:
        error: what was raised.
        kind: what the file should be, such as `"image"`.
    """
    name = error.filename if isinstance(error, FileNotFoundError | IsADirectoryError) else None
    if name is None:
        return str(error)
    if isinstance(error, IsADirectoryError):
        return f"{kind} '{name}' is a folder; name a file."
    return f"{kind} '{name}' does not exist; correct its path."
