"""Open images: any source a user may hold becomes an upright RGB image, or an error that says why not."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Mapping[str, Any]

DEFAULT_MAX_PIXELS = 50_000_000
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)


def load_rgb_image(
    source: ImageSource, max_pixels: int = DEFAULT_MAX_PIXELS, *, allow_urls: bool = False
) -> Image.Image:
    """Open an image, turn it as its EXIF orientation says, and convert it to RGB.

    Args:
        source: a path, the bytes of an image file, a PIL image, a uint8 array (`h w`, `h w 3` or `h w 4`), a
            `{"bytes", "path"}` dictionary of `datasets`, or (with `allow_urls`) an http(s) address.
        max_pixels: larger images are refused before they are decoded.
        allow_urls: fetch http(s) addresses; private, loopback and link-local hosts are refused even then.

    Returns:
        A new RGB image; transparent parts are laid on white.

    Raises:
        FileNotFoundError: if the path does not exist.
        TypeError: if `source` is none of the above.
        ValueError: if the image cannot be decoded, has more than `max_pixels`, or is an address that is not allowed.
    """
    from PIL import ImageOps

    image, name = _open(source, allow_urls)
    _check_pixels(image.size, max_pixels, name)
    with _readable_errors(name):
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))


def read_image_size(path: str | os.PathLike[str], max_pixels: int | None = None) -> tuple[int, int]:
    """Return `(width, height)` in pixels of the upright image, from the file's header alone.

    Args:
        path: an image file.
        max_pixels: if given, larger images are refused.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the header cannot be read or the image has more than `max_pixels`.
    """
    with _readable_errors(str(path)):
        from PIL import Image

        with Image.open(path) as image:
            width, height = image.size
            is_turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: rows are columns
    if max_pixels is not None:
        _check_pixels((width, height), max_pixels, str(path))
    return (height, width) if is_turned else (width, height)


def image_key(source: ImageSource | None) -> Any:
    """Return what tells an image from others and can be a dictionary's key, `None` without one.

    Files are told apart by their names, bytes by what they are, all else by the pixels that a model would see.
    """
    if source is None or isinstance(source, str | os.PathLike):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return hash(bytes(source))  # a key is kept for long, and bytes are large
    if isinstance(source, Mapping):
        return (source.get("path"), hash(source.get("bytes")))
    pixels = load_rgb_image(source)
    return (pixels.size, hash(pixels.tobytes()))


def index_images(folders: list[Path]) -> dict[str, Path]:
    """Return the image file of each id (file name without suffix); the first folder that has an id wins."""
    index: dict[str, Path] = {}
    for folder in folders:
        for entry in sorted(folder.iterdir()):
            if entry.suffix.lower() in IMAGE_SUFFIXES:
                index.setdefault(entry.stem, entry)
    return index


def _open(source: ImageSource, allow_urls: bool) -> tuple[Image.Image, str]:
    """Return the undecoded image and a name for error texts."""
    from PIL import Image

    if isinstance(source, Mapping):
        return _open_dictionary(source, allow_urls)
    if isinstance(source, Image.Image):
        return source, "the given PIL image"
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        if not allow_urls:
            raise ValueError(f"Image address {source!r} is not fetched; pass a file, or `allow_urls=True`.")
        from .remote_images import fetch_image

        return _open_bytes(fetch_image(source), source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _open_bytes(bytes(source), f"the given {len(source)} bytes")
    if isinstance(source, str | os.PathLike):
        with _readable_errors(str(source)):
            return Image.open(source), str(source)
    if hasattr(source, "__array_interface__"):
        return _open_array(source), "the given array"
    raise TypeError(
        f"An image of type {type(source).__name__} is not understood; give a path, bytes, a PIL image, a uint8 array,"
        ' or {"bytes": ..., "path": ...}.'
    )


def _open_dictionary(source: Mapping[str, Any], allow_urls: bool) -> tuple[Image.Image, str]:
    content, path = source.get("bytes"), source.get("path")
    if content is not None:
        return _open_bytes(content, str(path or f"the given {len(content)} bytes"))
    if path is None:
        raise ValueError(f'Image {dict(source)!r} holds neither; expected "bytes" or "path". Use None for no image.')
    return _open(path, allow_urls)


def _open_bytes(content: bytes, name: str) -> tuple[Image.Image, str]:
    from PIL import Image

    with _readable_errors(name):
        return Image.open(io.BytesIO(content)), name


def _open_array(array: Any) -> Image.Image:
    from PIL import Image

    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if str(array.dtype) != "uint8" or not is_image or not array.size:
        raise ValueError(
            f"An image array of shape {tuple(array.shape)} and type {array.dtype} is not understood; expected uint8 in"
            " 0-255, `h w`, `h w 3` or `h w 4` (channels last)."
        )
    return Image.fromarray(array)


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    """Let every way in which PIL fails on bad bytes be one ValueError; a missing file stays FileNotFoundError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked instead
            yield
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"Image {name} is larger than the pixel limit of PIL ({error}); shrink the file.") from error
    except _DECODING_ERRORS as error:
        told = re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "the image", str(error))
        raise ValueError(
            f"Image {name} cannot be decoded ({type(error).__name__}: {told}); expected a whole image file such as"
            " JPEG or PNG. Replace it, or pass None for no image."
        ) from error


def _check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(
            f"Image {name} has {width} x {height} = {width * height:,} pixels, more than the limit `max_pixels`="
            f"{max_pixels:,}; shrink it, or raise the limit."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode.startswith("I;16"):  # PIL would clip 16-bit greys at 255
        import numpy as np

        return Image.fromarray((np.asarray(image) >> 8).astype("uint8")).convert("RGB")
    return image.convert("RGB")
