"""Annotations of Label Studio as posts: spans, boxes, and which box belongs to which span."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, Literal
from urllib.parse import unquote

from hf_mner.data.boxes import Box, check_box
from hf_mner.data.schema import Entity

from .label_studio import IMAGE, LOCAL_FILES, TEXT
from .posts import AnnotatedPost, OnError, check_characters, each, make_entity

logger = logging.getLogger(__name__)

Part = Literal["annotations", "predictions"]
DECIMALS = 6  # of a pixel: percent of any image hold more, and what is lost in dividing is less
SPANS, RECTANGLES, RELATION = "labels", "rectanglelabels", "relation"


def read_label_studio(
    path: str | os.PathLike[str],
    types: Sequence[str] | None = None,
    image_folder: str | os.PathLike[str] | None = None,
    part: Part = "annotations",
    on_error: OnError = "raise",
) -> Iterator[AnnotatedPost]:
    """Yield the posts of a project's export in the format "JSON".

    Args:
        path: the exported file, or `tasks.json` of `write_label_studio`.
        types: labels that may occur; None = any.
        image_folder: folder with the images, found by the file name at the end of their addresses; without it, images
            that are not part of the task itself are left out, and the log says how many.
        part: read the annotations, or the predictions of a task.
        on_error: what a bad task does: stop, or be reported in the log and skipped.

    Raises:
        ValueError: naming the task, and what it holds.
        FileNotFoundError: if an image is not in `image_folder`.
    """
    try:
        tasks = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); export the project in the format `JSON`.") from error
    if not isinstance(tasks, list):
        raise ValueError(f"'{path}' holds {type(tasks).__name__}; expected a list of tasks. Export in format `JSON`.")
    yield from read_tasks(tasks, types, image_folder, part, on_error)


def read_tasks(
    tasks: Iterable[Mapping[str, Any]],
    types: Sequence[str] | None = None,
    image_folder: str | os.PathLike[str] | None = None,
    part: Part = "annotations",
    on_error: OnError = "raise",
) -> Iterator[AnnotatedPost]:
    """Yield the posts of tasks; those that nobody has annotated yet are left out, and the log says how many.

    The arguments are those of `read_label_studio`.
    """
    folder = None if image_folder is None else Path(image_folder)
    unread = unfinished = 0
    for post in each(enumerate(tasks, start=1), lambda task: read_task(task[1], types, part, task[0]), on_error):
        if post is None:
            unfinished += 1
            continue
        try:
            image = find_image(post.get("image"), folder, post["id"])
        except (ValueError, FileNotFoundError) as error:
            if on_error == "raise":
                raise
            logger.warning("Skipped: %s", error)
            continue
        unread += image is None and post.get("image") is not None
        yield {**post, "image": image}
    if unfinished:
        logger.warning("%d tasks have no %s and were left out.", unfinished, part)
    if unread:
        logger.warning("%d images were left out; name their folder with `image_folder` (`--images`).", unread)


def read_task(
    task: Mapping[str, Any], types: Sequence[str] | None = None, part: Part = "annotations", number: int = 1
) -> AnnotatedPost | None:
    """Return a task as a post, None if it has no annotation yet.

    Args:
        task: as Label Studio exports it.
        types: labels that may occur; None = any.
        part: read its annotation, or its prediction.
        number: names a task without id in errors.

    Raises:
        ValueError: naming the task, and what it holds.
    """
    where = f"Task {task.get('id', f'number {number}') if isinstance(task, Mapping) else number}"
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(data.get(TEXT), str):
        raise ValueError(f"{where} has no `data` with a `{TEXT}`; expected a task as `hf-mner export` makes them.")
    chosen = choose_result(task, part, where)
    if chosen is None:
        return None
    post: AnnotatedPost = {"id": str(data.get("post_id") or task.get("id") or number)}
    tokens = read_tokens(data, where)
    if tokens is not None and " ".join(tokens) == data[TEXT]:
        post["tokens"] = list(tokens)
    else:
        post["text"] = data[TEXT]
    if data.get(IMAGE):
        post["image"] = data[IMAGE]
    size, entities = read_results(chosen, data[TEXT], types, where)
    if size is not None:
        post["image_size"] = size
    post["entities"] = entities
    return post


def read_tokens(data: Mapping[str, Any], where: str) -> list[str] | None:
    """Return the words that a task's data hold, None without any.

    Raises:
        ValueError: naming the task, if they are no list of texts.
    """
    tokens = data.get("tokens")
    if tokens is None or (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        return tokens
    raise ValueError(f"{where}: its `tokens` are {short_repr(tokens)}; expected a list of words, or null. Correct it.")


def choose_result(task: Mapping[str, Any], part: Part, where: str) -> list[dict[str, Any]] | None:
    """Return the results of the annotation that counts: the one marked as ground truth, or the only one.

    Raises:
        ValueError: naming the task with several that count.
    """
    kept = [one for one in task.get(part) or () if not one.get("was_cancelled")]
    marked = [one for one in kept if one.get("ground_truth")]
    kept = marked or kept
    if len(kept) > 1:
        raise ValueError(f"{where} has {len(kept)} {part} that count; mark one as ground truth, or delete the others.")
    return list(kept[0].get("result") or ()) if kept else None


def read_results(
    results: Sequence[Mapping[str, Any]], text: str, types: Sequence[str] | None, where: str
) -> tuple[list[int] | None, list[Entity]]:
    """Return the image's size, where a box tells it, and the entities in text order.

    Raises:
        ValueError: naming the task and what is wrong with a span, a box or a relation.
    """
    spans: dict[str, Entity] = {}
    boxes: dict[str, dict[str, Any]] = {}
    size: list[int] | None = None
    for result in results:
        check_result(result, where)
        if result.get("type") == SPANS:
            spans[result["id"]] = read_span(result, text, types, where)
        elif result.get("type") == RECTANGLES:
            size = [int(result.get("original_width") or 0), int(result.get("original_height") or 0)]
            boxes[result["id"]] = _scored({"box": read_rectangle(result, size, where)}, result)
        elif result.get("type") != RELATION:
            raise ValueError(
                f"{where} has a result of the type {result.get('type')!r}; expected {SPANS}, {RECTANGLES} and"
                f" {RELATION}, as `config.xml` of `hf-mner export` offers them."
            )
    owners = read_relations([one for one in results if one.get("type") == RELATION], spans, boxes, where)
    for box_id, owner_ids in owners.items():
        for owner in owner_ids:
            spans[owner]["boxes"] = [*spans[owner]["boxes"], *make_entity(text, 0, 1, "", [boxes[box_id]])["boxes"]]
    return size, sorted(spans.values(), key=lambda entity: (entity["start"], entity["end"]))


def check_result(result: Any, where: str) -> None:
    """Refuse what is no result, and a span or box that no relation could name.

    Raises:
        ValueError: naming the task.
    """
    if not isinstance(result, Mapping):
        raise ValueError(f"{where} has the result {short_repr(result)}; expected a mapping with `type`. Remove it.")
    if result.get("type") in (SPANS, RECTANGLES) and not isinstance(result.get("id"), str | int):
        raise ValueError(
            f"{where} has a result of the type {result['type']!r} with the id {result.get('id')!r}; expected a text,"
            " by which relations name it. Give it one."
        )


def _scored(value: dict[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, "score": result["score"]} if result.get("score") is not None else value


def read_relations(
    relations: Sequence[Mapping[str, Any]], spans: Mapping[str, Any], boxes: Mapping[str, Any], where: str
) -> dict[str, list[str]]:
    """Return for each box the spans that it is joined to; the direction does not matter.

    Raises:
        ValueError: naming the task, if a relation joins anything but a span and a box, or a box has no span.
    """
    owners: dict[str, list[str]] = {box: [] for box in boxes}
    for relation in relations:
        ends = [relation.get("from_id"), relation.get("to_id")]
        span = next((one for one in ends if one in spans), None)
        box = next((one for one in ends if one in boxes), None)
        if span is None or box is None:
            raise ValueError(f"{where}: the relation {ends} does not join a span of the text and a box; remove it.")
        if span not in owners[box]:
            owners[box].append(span)
    if lonely := [box for box, names in owners.items() if not names]:
        raise ValueError(
            f"{where}: box {lonely[0]!r} ({len(lonely)} in all) belongs to no span; draw a relation from the span to"
            " it, or delete it."
        )
    return owners


def read_span(result: Mapping[str, Any], text: str, types: Sequence[str] | None, where: str) -> Entity:
    """Return a span of the text as an entity without boxes.

    Raises:
        ValueError: naming the task, if the span has no label, several, or one that is not among `types`, or its
            characters are not in the text or not those that Label Studio noted.
    """
    value = result.get("value") or {}
    labels = value.get(SPANS) or []
    if len(labels) != 1:
        raise ValueError(f"{where}: span {result.get('id')!r} has the labels {labels}; expected one. Correct it.")
    if types is not None and labels[0] not in types:
        raise ValueError(f"{where}: the label {labels[0]!r} is not among the types ({', '.join(types)}); correct it.")
    start, end = find_characters(value, text, where)
    return make_entity(text, start, end, labels[0], score=result.get("score"))


def find_characters(value: Mapping[str, Any], text: str, where: str) -> tuple[int, int]:
    """Return a span's characters in code points.

    The span's own `text` decides where other programs (and old releases) count UTF-16 units: if the characters do not
    give it and the units do, units they are.

    Raises:
        ValueError: naming the task, if neither does.
    """
    start, end, noted = value.get("start"), value.get("end"), value.get("text")
    if noted is None:
        check_characters(text, start, end, where)
        return int(start or 0), int(end or 0)
    for first, last in ((start, end), (from_utf16(text, start), from_utf16(text, end))):
        fits = isinstance(first, int) and isinstance(last, int) and 0 <= first < last <= len(text)
        if fits and _bare(text[first:last]) == _bare(noted):  # type: ignore[misc]
            check_characters(text, first, last, where)
            return first, last  # type: ignore[return-value]
    raise ValueError(
        f"{where}: a span has the characters {start!r}-{end!r} and the text {noted!r}, which is not what stands there"
        f" ({text[start:end] if isinstance(start, int) and isinstance(end, int) else ''!r}); was the task's text"
        " changed? Draw the span anew."
    )


def _bare(text: str) -> str:
    return re.sub(r"\s|\\n", "", text)  # browsers fold spaces, and Label Studio notes a line break as `\n`


def from_utf16(text: str, units: Any) -> int | None:
    """Return the character where a number of UTF-16 units ends, None if that is inside of one or behind the text."""
    count = 0
    for position, character in enumerate(text):
        if count == units:
            return position
        count += 2 if ord(character) > 0xFFFF else 1
    return len(text) if count == units else None


def read_rectangle(result: Mapping[str, Any], size: Sequence[int], where: str) -> Box:
    """Return a rectangle in pixels.

    Raises:
        ValueError: naming the task, if the rectangle or the image is turned, leaves the image, or has no area.
    """
    value, name = result.get("value") or {}, f"{where}, box {result.get('id')!r}"
    if value.get("rotation") or result.get("image_rotation"):
        raise ValueError(f"{name} is turned, or its image is; expected upright ones. Set the rotation to 0.")
    width, height = size
    numbers = [value.get(key) for key in ("x", "y", "width", "height")]
    if not (width and height) or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(
            f"{name} holds {dict(value)} of an image of {size}; expected `original_width`, `original_height`, and x,"
            " y, width, height in percent."
        )
    x, y, w, h = map(float, numbers)  # type: ignore[arg-type]
    edges = [x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100]
    return check_box([round(edge, DECIMALS) + 0.0 for edge in edges], size, name)


def find_image(image: Any, folder: Path | None, post_id: str) -> Any:
    """Return the image of an address: bytes that are part of it, the file in the folder, or None without a folder.

    Raises:
        FileNotFoundError: naming the post whose image is not in the folder.
        ValueError: if bytes in an address are not in base 64.
    """
    if not isinstance(image, str) or image.startswith("data:"):
        return _decode_address(image, post_id) if image else None
    if folder is None:
        return None
    name = file_name(image)
    if not (folder / name).is_file():
        raise FileNotFoundError(f"Post {post_id!r}: its image {image!r} is not in '{folder}'; put `{name}` there.")
    return str(folder / name)


def file_name(address: str) -> str:
    """Return the name of the file at the end of an address, or of the `d` of one of Label Studio's local files."""
    path, _, query = address.partition("?")
    if path.endswith(LOCAL_FILES.partition("?")[0]):
        path = next((part[2:] for part in query.split("&") if part.startswith("d=")), "")
    return unquote(path).rsplit("/", 1)[-1]


def _decode_address(address: Any, post_id: str) -> dict[str, Any]:
    head, _, content = str(address).partition(",")
    if not head.endswith(";base64"):
        raise ValueError(f"Post {post_id!r}: its image is {head[:60]!r}; expected an address or `data:...;base64,`.")
    try:
        return {"bytes": base64.b64decode(content, validate=True), "path": None}
    except ValueError as error:
        raise ValueError(f"Post {post_id!r}: its image is not base 64 ({error}); import the task anew.") from error
