"""Boxes of entities as a COCO file, which keeps the texts and the entities without boxes beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .new_places import new_file
from .posts import AnnotatedPost, OnError, box_edges, each, find_types, image_file, make_entity, post_text, with_size

FIELDS = ("start", "end", "word")
DECIMALS = 6  # of a pixel: what is lost in turning corners into widths and back is less


def make_coco(
    posts: Iterable[AnnotatedPost], types: Sequence[str] | None = None, on_error: OnError = "raise"
) -> dict[str, Any]:
    """Return posts as a COCO data set of detection.

    `images`, `categories` and `annotations` are those of COCO (`bbox` is `[x, y, width, height]` in pixels, ids count
    from 1). An annotation also has its entity's `word`, `start` and `end` in characters, its `entity_score`, its
    `post` and its `entity`, numbers in the key `posts`, where every post stands with all of its entities: those
    without a box, and posts without an image, have no place in COCO.

    Args:
        posts: with predicted or gold entities.
        types: the categories; default: those that occur.
        on_error: what a bad post does: stop, or be reported in the log and skipped.

    Raises:
        ValueError: naming the post, if a box leaves its image or a type is no category.
    """
    known = list(each(posts, with_size, on_error))
    names = find_types(known) if types is None else list(types)
    coco: dict[str, Any] = {"info": {"description": "Entities of posts and their boxes, written by hf_mner."}}
    coco["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    coco.update(images=[], annotations=[], posts=[])
    for post, boxes in each(known, lambda post: (post, _annotations(post, names)), on_error):
        _add(coco, post, boxes)
    return coco


def _annotations(post: AnnotatedPost, names: Sequence[str]) -> list[dict[str, Any]]:
    made = []
    for number, entity in enumerate(post.get("entities") or ()):
        if entity["entity_group"] not in names:
            raise ValueError(
                f"Post {post.get('id')!r}: the type {entity['entity_group']!r} is not among `types`"
                f" ({', '.join(names)}); add it."
            )
        for item in entity.get("boxes") or ():
            if not post.get("image_size"):
                raise ValueError(f"Post {post.get('id')!r} has boxes and no image; give `image` or `image_size`.")
            xmin, ymin, xmax, ymax = box_edges(item, post)
            annotation: dict[str, Any] = {"category_id": names.index(entity["entity_group"]) + 1}
            annotation["bbox"] = [xmin, ymin, xmax - xmin, ymax - ymin]
            annotation.update(area=(xmax - xmin) * (ymax - ymin), iscrowd=0, entity=number)
            annotation.update({key: entity[key] for key in FIELDS})  # type: ignore[literal-required]
            annotation.update({"entity_score": entity["score"]} if "score" in entity else {})
            annotation.update({"score": item["score"]} if "score" in item else {})
            made.append(annotation)
    return made


def _add(coco: dict[str, Any], post: AnnotatedPost, annotations: Sequence[dict[str, Any]]) -> None:
    number = len(coco["posts"])
    entities = [{key: value for key, value in one.items() if key != "boxes"} for one in post.get("entities") or ()]
    record: dict[str, Any] = {"id": str(post.get("id") or number), "text": post_text(post), "entities": entities}
    if post.get("tokens") is not None:
        record["tokens"] = list(post["tokens"])
    if post.get("image_size"):
        width, height = post["image_size"] or (0, 0)
        record["image_id"] = len(coco["images"]) + 1
        image = {"id": record["image_id"], "file_name": _file_name(post), "width": width, "height": height}
        coco["images"].append(image)
    coco["posts"].append(record)
    for annotation in annotations:
        first = {"id": len(coco["annotations"]) + 1, "image_id": record["image_id"]}
        coco["annotations"].append({**first, **annotation, "post": number})


def _file_name(post: Mapping[str, Any]) -> str:
    image = post.get("image")
    path = image_file(image) or (image.get("path") if isinstance(image, Mapping) else image)
    return os.fspath(path) if isinstance(path, str | os.PathLike) else ""


def write_coco(
    posts: Iterable[AnnotatedPost],
    path: str | os.PathLike[str],
    types: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> dict[str, int]:
    """Write posts as a COCO file; return how many posts, images and annotations it has. See `make_coco`.

    Raises:
        FileExistsError: if the file is there.
        ValueError: as `make_coco` does.
    """
    with new_file(path) as file:
        coco = make_coco(posts, types, on_error)
        file.write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8")
    return {part: len(coco[part]) for part in ("posts", "images", "annotations")}


def read_coco(path: str | os.PathLike[str]) -> Iterator[AnnotatedPost]:
    """Yield the posts of a file that `write_coco` wrote; paths of images count from its folder.

    Raises:
        ValueError: if the file is none of those: other COCO files have no texts.
    """
    try:
        coco = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); expected a file of `write_coco`.") from error
    if not isinstance(coco, dict) or not {"posts", "images", "annotations"} <= set(coco):
        raise ValueError(f"'{path}' has no `posts`; a COCO file of another program has no texts to read.")
    images = {image["id"]: image for image in coco["images"]}
    boxes: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for annotation in coco["annotations"]:
        boxes.setdefault((annotation["post"], annotation["entity"]), []).append(_read_box(annotation))
    for number, record in enumerate(coco["posts"]):
        yield _read_post(record, number, images.get(record.get("image_id")), boxes, Path(path).parent)


def _read_box(annotation: Mapping[str, Any]) -> dict[str, Any]:
    x, y, width, height = annotation["bbox"]
    box: dict[str, Any] = {"box": [round(edge, DECIMALS) for edge in (x, y, x + width, y + height)]}
    return {**box, "score": annotation["score"]} if "score" in annotation else box


def _read_post(
    record: Mapping[str, Any],
    number: int,
    image: Mapping[str, Any] | None,
    boxes: Mapping[tuple[int, int], list[dict[str, Any]]],
    folder: Path,
) -> AnnotatedPost:
    post: Any = {"id": record["id"]}
    post.update({"tokens": record["tokens"]} if "tokens" in record else {"text": record["text"]})
    if image is not None:
        post["image_size"] = [image["width"], image["height"]]
        name = image["file_name"]
        post.update({"image": name if "://" in name else str(folder / name)} if name else {})
    post["entities"] = [
        make_entity(
            record["text"],
            one["start"],
            one["end"],
            one["entity_group"],
            boxes.get((number, index), ()),
            one.get("score"),
        )
        for index, one in enumerate(record["entities"])
    ]
    return post
