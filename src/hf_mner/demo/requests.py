"""What a visitor of the demo asks: checked against its limits, then answered by a model."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import Entity, Knowledge

if TYPE_CHECKING:
    from PIL import Image

    from hf_mner.knowledge.base import KnowledgeSource
    from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline

WANTED = 'an object such as {"auxiliary": "..."}'
SHORTEN = "Send the part that matters."


class Limits(NamedTuple):
    """What a demo takes.

    Args:
        text_characters: of one text.
        image_pixels: of one image.
        file_bytes: of one image's file.
        queue_size: requests that wait; one more is refused.
        caption_characters: of one caption.
        knowledge_characters: of all other knowledge of a post, as JSON.
        knowledge_items: of each list in that knowledge.
    """

    text_characters: int = 5_000
    image_pixels: int = 16_000_000
    file_bytes: int = 10_000_000
    queue_size: int = 64
    caption_characters: int = 5_000
    knowledge_characters: int = 50_000
    knowledge_items: int = 100


class DemoPost(NamedTuple):
    """A request that was checked: text, image and knowledge, as the pipeline takes them."""

    text: str
    image: Image.Image | None
    knowledge: Knowledge | None


def read_post(
    text: Any, image: Any, caption: Any, knowledge: Any, limits: Limits, upload_folder: str | Path
) -> DemoPost:
    """Check a request.

    Args:
        text: the post's text.
        image: None, a `data:` address, or an upload, see `read_image`.
        caption: what the image shows, as knowledge.
        knowledge: other knowledge (`hf_mner.data.schema.Knowledge`), a mapping or JSON.
        limits: see there.
        upload_folder: where uploads lie.

    Raises:
        ValueError: if the text is empty, something is beyond a limit, or of another kind.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"`text` is {short_repr(text)}; expected a text with words. Write what the post says.")
    check_length("text", text, limits.text_characters, "Shorten it, or send its parts one by one.")
    found = read_knowledge(caption, knowledge, limits)
    return DemoPost(text, read_image(image, limits, upload_folder), found)


def check_length(name: str, text: str, most: int, cure: str) -> None:
    """Refuse a text that is too long.

    Raises:
        ValueError: with both lengths.
    """
    if len(text) > most:
        raise ValueError(f"`{name}` has {len(text):,} characters; expected at most {most:,}. {cure}")


def read_image(image: Any, limits: Limits, upload_folder: str | Path) -> Image.Image | None:
    """Open the image of a request.

    Args:
        image: None; `"data:image/png;base64,..."`; or Gradio's mapping of an uploaded file, `{"path", "url",
            "orig_name"}`, whose `url` may be a `data:` address. No other file of the server is read, no address.
        limits: of bytes and pixels.
        upload_folder: the folder that uploads lie in.

    Raises:
        ValueError: if it is none of these, too large, or no image.
    """
    if not image:
        return None
    content, name = read_bytes(image, limits.file_bytes, Path(upload_folder))
    return load_rgb_image({"bytes": content, "path": name}, max_pixels=limits.image_pixels)


def read_bytes(image: Any, max_bytes: int, upload_folder: Path) -> tuple[bytes, str]:
    """Return the bytes of a request's image, and a name for error texts."""
    fields: Mapping[str, Any] = image if isinstance(image, Mapping) else {"url": image}
    path, url = fields.get("path"), fields.get("url")
    if isinstance(path, str) and path:
        file = Path(path).resolve()
        if file.is_file() and file.is_relative_to(upload_folder.resolve()):
            name = str(fields.get("orig_name") or file.name)
            check_bytes(file.stat().st_size, max_bytes, name)
            return file.read_bytes(), name
    elif isinstance(url, str) and url.startswith("data:"):
        check_bytes(decoded_size(url), max_bytes, "in `image`")
        return decode_address(url), "in `image`"
    raise ValueError(
        "`image` is no image that this demo reads; expected an uploaded file, or `data:image/png;base64,...` (JPEG and"
        " others as well). Paths and web addresses are not read: send the file itself."
    )


def check_bytes(size: int, max_bytes: int, name: str) -> None:
    """Refuse a file that is too large.

    Raises:
        ValueError: with both sizes.
    """
    if size > max_bytes:
        raise ValueError(
            f"Image {name} has {size:,} bytes; expected at most {max_bytes:,}. Save it smaller, or as JPEG."
        )


def decoded_size(url: str) -> int:
    """Return how many bytes a `data:` address in base64 holds, without decoding it."""
    return (len(url) - url.find(",") - 1) * 3 // 4 - url[-2:].count("=")


def decode_address(url: str) -> bytes:
    """Return the bytes that a `data:` address holds.

    Raises:
        ValueError: if they are not in base64.
    """
    header, _, content = url.partition(",")
    try:
        if not header.endswith(";base64"):
            raise binascii.Error("no `;base64` before the comma")
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError(
            f"`image` cannot be decoded ({error}); expected `data:image/png;base64,` and the file's bytes in base64."
        ) from error


def read_knowledge(caption: Any, knowledge: Any, limits: Limits | None = None) -> Knowledge | None:
    """Return the knowledge of a request, None without any; the pipeline checks its parts.

    Args:
        caption: None, or a text.
        knowledge: None, a mapping, or JSON of one.
        limits: of characters and items.

    Raises:
        ValueError: if it is no mapping, holds another caption, or is beyond a limit.
    """
    limits = limits or Limits()
    found = parse_knowledge(knowledge, limits)
    check_size(found, limits)
    if isinstance(caption, str) and caption.strip():
        check_length("caption", caption, limits.caption_characters, SHORTEN)
        if found.get("caption"):
            raise ValueError("`caption` is given, and `knowledge` holds another one; give one of them.")
        found["caption"] = caption.strip()
    elif caption is not None and not isinstance(caption, str):
        raise ValueError(f"`caption` is {short_repr(caption)}; expected a text, or nothing.")
    return found or None  # type: ignore[return-value]


def parse_knowledge(knowledge: Any, limits: Limits) -> dict[str, Any]:
    """Return a request's knowledge as a new dictionary, `{}` without any.

    Raises:
        ValueError: if it is neither a mapping nor JSON of one, or is JSON beyond the limit.
    """
    if isinstance(knowledge, str):
        check_length("knowledge", knowledge, limits.knowledge_characters, SHORTEN)
        try:
            knowledge = json.loads(knowledge) if knowledge.strip() else None
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"`knowledge` is not JSON ({error}); expected {WANTED}.") from error
    if knowledge and not isinstance(knowledge, Mapping):
        raise ValueError(f"`knowledge` is {short_repr(knowledge)}; expected {WANTED}.")
    return dict(knowledge) if isinstance(knowledge, Mapping) else {}


def check_size(knowledge: Mapping[str, Any], limits: Limits) -> None:
    """Refuse knowledge of which a model would read for long, and notes that the sources alone write.

    Raises:
        ValueError: naming the part, and the limit.
    """
    if knowledge.get("sources"):
        raise ValueError("`knowledge['sources']` is given; the demo notes itself what its sources said. Leave it out.")
    for part, value in knowledge.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > limits.knowledge_items:
            raise ValueError(
                f"`knowledge['{part}']` has {len(value):,} items; expected at most {limits.knowledge_items:,}. Send"
                " those that matter."
            )
    check_length("knowledge", json.dumps(knowledge, ensure_ascii=False), limits.knowledge_characters, SHORTEN)


def find_entities(
    pipe: MultimodalNerPipeline, post: DemoPost, threshold: Any, sources: Sequence[KnowledgeSource] = ()
) -> list[Entity]:
    """Return the entities of a checked request, each with the knowledge that its model was shown."""
    fields = {"text": post.text, "image": post.image, "knowledge": post.knowledge}
    options = {"knowledge": list(sources)} if sources else {}
    return pipe(fields, threshold=threshold, return_knowledge=True, **options)


def describe_reading(pipe: MultimodalNerPipeline, post: DemoPost, has_sources: bool = False) -> str:
    """Say what the model read of a request, and what of it passed by."""
    name, parts = type(pipe.model).__name__, pipe.parts_read().replace("`", "")
    if "image" in pipe.model.input_modalities:
        return f"{name} reads the pixels of the image, and {parts}."
    text = f"{name} reads {parts}, and no pixels."
    if post.image is not None and not post.knowledge and not has_sources:
        text += " This image does not count: describe it in the field for the caption."
    return text
