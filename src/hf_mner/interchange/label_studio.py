"""Posts as tasks of Label Studio, with what a model found as pre-annotations, and the labelling set-up to go with it.

Characters are counted as Python counts them. Label Studio's editor (JavaScript) turns its UTF-16 units into code
points before it saves (`charsToCodePoints`, read in the editor of release 1.23.2), and counts a line break as one
character, `\\r\\n` as two, so that an emoji moves nothing. Boxes are percent of the upright image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote as quote_url
from xml.sax.saxutils import quoteattr

from hf_mner.data.images import IMAGE_SUFFIXES
from hf_mner.data.schema import Entity

from .conll import stored_image
from .new_places import new_folder
from .posts import (
    AnnotatedPost,
    OnError,
    box_edges,
    check_characters,
    each,
    find_types,
    image_file,
    post_name,
    post_text,
    with_size,
)

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files below its document root
TEXT, IMAGE = "text", "image"  # names of the objects, and keys of a task's data
SPANS, BOXES = "entity", "box"  # names of the controls


def make_config(types: Sequence[str], has_images: bool = True) -> str:
    """Return the XML of a labelling set-up: spans of the text, boxes of the image, and relations between them.

    Args:
        types: the entity types, in the order of the buttons.
        has_images: False leaves the image out.

    Raises:
        ValueError: if there are no types, or one is there twice.
    """
    if isinstance(types, str) or not types or len(set(types)) != len(types):
        raise ValueError(f"`types` is {types!r}; expected a list of distinct entity types, such as ['PER', 'LOC'].")
    lines = ["<View>"]
    if has_images:
        lines += [f'  <Image name="{IMAGE}" value="${IMAGE}"/>', *_controls("RectangleLabels", BOXES, IMAGE, types)]
    lines += [*_controls("Labels", SPANS, TEXT, types), f'  <Text name="{TEXT}" value="${TEXT}"/>', "</View>"]
    return "\n".join(lines) + "\n"


def _controls(tag: str, name: str, target: str, types: Sequence[str]) -> list[str]:
    labels = [f"    <Label value={quoteattr(entity_type)}/>" for entity_type in types]
    return [f'  <{tag} name="{name}" toName="{target}">', *labels, f"  </{tag}>"]


def make_task(
    post: AnnotatedPost, image_url: str | None = None, model_version: str | None = None, is_gold: bool = False
) -> dict[str, Any]:
    """Return a post as a task.

    Args:
        post: a post; an image whose entities have boxes must have its size, or be readable.
        image_url: address under which Label Studio finds the image; `""` for a post without one where others have
            one (Label Studio refuses tasks that lack what its set-up shows), None where the set-up shows none.
        model_version: names the model in the pre-annotations.
        is_gold: write the entities as an annotation, which counts as done, and not as a prediction.

    Raises:
        ValueError: naming the post, if an entity does not fit its text or a box its image.
    """
    text = post_text(post)
    data: dict[str, Any] = {TEXT: text, "post_id": str(post.get("id") or "")}
    if image_url is not None:
        data[IMAGE] = image_url
    if post.get("tokens") is not None:
        data["tokens"] = list(post["tokens"])
    entities = post.get("entities") or []
    if has_boxes(post):
        post = with_size(post)
    result = [part for number, entity in enumerate(entities) for part in _results(entity, number, text, post)]
    if is_gold:
        return {"data": data, "annotations": [{"result": result}]}
    prediction: dict[str, Any] = {"result": result}
    if model_version is not None:
        prediction["model_version"] = model_version
    if scores := [entity["score"] for entity in entities if "score" in entity]:
        prediction["score"] = fmean(scores)
    return {"data": data, "predictions": [prediction]}


def _results(entity: Entity, number: int, text: str, post: AnnotatedPost) -> list[dict[str, Any]]:
    """Return the span, its boxes, and a relation from the span to each box."""
    start, end, label = entity["start"], entity["end"], entity["entity_group"]
    check_characters(text, start, end, post_name(post))
    span_id = f"entity-{number}"
    span: dict[str, Any] = {
        "id": span_id,
        "from_name": SPANS,
        "to_name": TEXT,
        "type": "labels",
        "value": {"start": start, "end": end, "text": text[start:end], "labels": [label]},
    }
    parts = [_scored(span, entity)]
    for index, item in enumerate(entity.get("boxes") or ()):
        box_id = f"{span_id}-box-{index}"
        parts.append(_scored(_rectangle(box_id, item, label, post), item))
        parts.append({"type": "relation", "from_id": span_id, "to_id": box_id, "direction": "right"})
    return parts


def _scored(result: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, "score": found["score"]} if "score" in found else result


def _rectangle(box_id: str, item: Mapping[str, Any], label: str, post: AnnotatedPost) -> dict[str, Any]:
    if not post.get("image_size"):
        raise ValueError(
            f"{post_name(post)} has boxes and no image, and percent are of its size; give `image` or `image_size`."
        )
    width, height = post["image_size"] or (0, 0)
    xmin, ymin, xmax, ymax = box_edges(item, post)
    value = {
        "x": 100 * xmin / width,
        "y": 100 * ymin / height,
        "width": 100 * (xmax - xmin) / width,
        "height": 100 * (ymax - ymin) / height,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {
        "id": box_id,
        "from_name": BOXES,
        "to_name": IMAGE,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def write_label_studio(
    posts: Iterable[AnnotatedPost],
    output: str | os.PathLike[str],
    types: Sequence[str] | None = None,
    model_version: str | None = None,
    is_gold: bool = False,
    image_prefix: str | None = None,
    on_error: OnError = "raise",
) -> int:
    """Write `tasks.json`, `config.xml` and the folder `images`, from which a project is made.

    Args:
        posts: with predicted or gold entities.
        output: a folder that does not exist or is empty.
        types: the labels; default: those that occur, so name them all where some may not.
        model_version: names the model in the pre-annotations.
        is_gold: see `make_task`.
        image_prefix: what stands before an image's file name in its address; default: Label Studio's local files, with
            `output` below the document root, `/data/local-files/?d=<name of output>/images/`.
        on_error: what a bad post does: stop, or be reported in the log and skipped.

    Returns:
        How many tasks were written.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: naming the post that does not fit, or the type that is not among `types`.
    """
    name = quote_url(Path(output).resolve().name)
    prefix = f"{LOCAL_FILES}{name}/images/" if image_prefix is None else image_prefix
    with new_folder(output) as folder:
        return _write_project(list(posts), folder, types, model_version, is_gold, prefix, on_error)


def _write_project(
    known: Sequence[AnnotatedPost],
    folder: Path,
    types: Sequence[str] | None,
    model_version: str | None,
    is_gold: bool,
    prefix: str,
    on_error: OnError,
) -> int:
    labels = find_types(known) if types is None else list(types)
    has_images = any(post.get("image") is not None or has_boxes(post) for post in known)
    config = make_config(labels, has_images)
    (folder / "images").mkdir()

    def make(numbered: tuple[int, AnnotatedPost]) -> dict[str, Any]:
        number, post = numbered
        check_types(post, labels)
        name = image_name(post, number)
        address = prefix + quote_url(name) if name else "" if has_images else None
        task = make_task(post, address, model_version, is_gold)
        if name is not None:
            write_image(post, folder / "images" / name)
        return task

    tasks = list(each(enumerate(known), make, on_error))
    (folder / "config.xml").write_text(config, encoding="utf-8")
    (folder / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    return len(tasks)


def has_boxes(post: Mapping[str, Any]) -> bool:
    """Tell whether an entity of a post has a box, which only a set-up with images holds."""
    return any(entity.get("boxes") for entity in post.get("entities") or ())


def check_types(post: Mapping[str, Any], types: Sequence[str]) -> None:
    """Refuse a post with an entity of a type that there is no label for.

    Raises:
        ValueError: naming the post, the type and the labels.
    """
    for entity in post.get("entities") or ():
        if entity["entity_group"] not in types:
            raise ValueError(
                f"{post_name(post)}: the type {entity['entity_group']!r} is not among `types` ({', '.join(types)});"
                " add it."
            )


def image_name(post: Mapping[str, Any], number: int) -> str | None:
    """Return a file name for a post's image by its number, None without an image."""
    image = post.get("image")
    if image is None:
        return None
    path = image_file(image) or (image.get("path") if isinstance(image, Mapping) else None)
    suffix = Path(path or "").suffix.lower()
    return f"{number:06d}{suffix if suffix in IMAGE_SUFFIXES else '.png'}"


def write_image(post: Mapping[str, Any], place: Path) -> None:
    """Write a post's image to a file as it is; pixels in memory become a PNG.

    Raises:
        ValueError: naming the post whose image is missing or an address.
    """
    image = stored_image(post) or {}
    content = image.get("bytes")
    place.write_bytes(Path(image["path"]).read_bytes() if content is None else content)
