"""JSON lines of posts with the entities of the pipeline: what `hf-mner predict --output` writes, read back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_mner.data.json_lines import JsonLine, read_json_lines

from .new_places import new_file
from .posts import AnnotatedPost, OnError, check_characters, each, image_file, make_entity, post_text

WANTED = 'expected {"id", "text" or "tokens", "image", "entities"} as `hf-mner predict --output` writes it'


def read_jsonl(path: str | os.PathLike[str], on_error: OnError = "raise") -> Iterator[AnnotatedPost]:
    """Yield the posts of a file; paths of images count from its folder.

    Args:
        path: a file as `hf-mner predict --output` or `write_jsonl` writes it.
        on_error: what a bad line does: stop, or be reported in the log and skipped.

    Raises:
        ValueError: naming the line and what it lacks.
    """
    folder = Path(path).parent

    def read(line: JsonLine) -> AnnotatedPost:
        try:
            return parse_post(line.record, line.number, folder)
        except ValueError as error:
            raise ValueError(f"{line.where}: {error}") from error

    yield from each(read_json_lines(Path(path), WANTED), read, on_error)


def parse_post(record: Any, number: int, folder: Path | None = None) -> AnnotatedPost:
    """Return a record as a post, with an id if it lacks one.

    Args:
        record: what a line holds.
        number: of the line.
        folder: paths of images count from it.

    Raises:
        ValueError: if it is no post, or an entity lacks a field or does not fit the text.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{record!r} is no post; {WANTED}.")
    post: Any = {"id": str(record.get("id", number))}
    post.update({key: record[key] for key in ("text", "tokens", "image_size") if record.get(key) is not None})
    text = post_text(post)
    if record.get("image") is not None:
        path = image_file(record["image"])
        post["image"] = str(folder / path) if folder and path else record["image"]
    post["entities"] = [parse_entity(entity, text, post) for entity in record.get("entities") or ()]
    return post


def parse_entity(entity: Any, text: str, post: Mapping[str, Any]) -> Any:
    """Return a record as an entity of a text.

    Raises:
        ValueError: naming the post, if a field is missing or the characters are not its `word`.
    """
    if not isinstance(entity, Mapping) or not {"entity_group", "start", "end"} <= set(entity):
        raise ValueError(f"Post {post['id']!r}: {entity!r} is no entity; expected `entity_group`, `start` and `end`.")
    check_characters(text, entity["start"], entity["end"], f"Post {post['id']!r}")
    found = make_entity(
        text, entity["start"], entity["end"], entity["entity_group"], entity.get("boxes") or (), entity.get("score")
    )
    if entity.get("word", found["word"]) != found["word"]:
        raise ValueError(
            f"Post {post['id']!r}: the entity {entity['word']!r} has the characters {entity['start']}-{entity['end']},"
            f" which are {found['word']!r}; count in code points, as Python does."
        )
    return found


def write_jsonl(posts: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write one post a line; return how many. Images must be paths or addresses.

    Raises:
        FileExistsError: if the file is there.
        ValueError: naming the post whose image is pixels or bytes.
    """
    count = 0
    with new_file(path) as file, file.open("w", encoding="utf-8", newline="\n") as stream:
        for post in posts:
            count += 1
            stream.write(json.dumps(_record(post), ensure_ascii=False) + "\n")
    return count


def _record(post: Mapping[str, Any]) -> dict[str, Any]:
    record = dict(post)
    if isinstance(image := record.get("image"), Mapping) and image.get("bytes") is None:
        record["image"] = image.get("path")
    if not isinstance(record.get("image"), str | os.PathLike | None):
        raise ValueError(
            f"Post {post.get('id')!r}: its image is a {type(record['image']).__name__}, which JSON does not hold;"
            " give the path of a file, or leave it out."
        )
    if isinstance(record.get("image"), os.PathLike):
        record["image"] = os.fspath(record["image"])
    return record
