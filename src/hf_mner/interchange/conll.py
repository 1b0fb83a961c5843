"""CoNLL files with images and boxes: posts as the data set `folder`, which recipes train on, and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_mner.data.folder_dataset import FolderPost, write_folder
from hf_mner.data.labels import encode_bio

from .new_places import new_folder
from .posts import AnnotatedPost, OnError, each, from_example, image_file, post_name, to_example


def write_conll_folder(
    posts: Mapping[str, Iterable[Mapping[str, Any]]],
    output: str | os.PathLike[str],
    on_error: OnError = "raise",
    cut_words: bool = False,
) -> dict[str, int]:
    """Write posts as BIO files with images and boxes; `load_mner_dataset("folder", output)` reads them.

    Args:
        posts: of each split (`train`, `validation`, `test`).
        output: a folder that does not exist or is empty.
        on_error: what a post does whose entities BIO tags cannot hold: stop, or be reported in the log and skipped.
        cut_words: see `to_example`.

    Returns:
        How many posts each split has.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: naming the post whose entities overlap or do not begin and end with words.
    """

    def read(post: Mapping[str, Any]) -> FolderPost:
        return to_folder_post(post, cut_words)

    with new_folder(output) as folder:
        made = {split: list(each(part, read, on_error)) for split, part in posts.items()}
        write_folder(made, folder)
    return {split: len(part) for split, part in made.items()}


def to_folder_post(post: Mapping[str, Any], cut_words: bool = False) -> FolderPost:
    """Return a post as a sentence of a label file.

    Raises:
        ValueError: naming the post, as `to_example` does, or if it has no words.
    """
    example = to_example(post, cut_words)
    if not example["tokens"]:
        raise ValueError(f"{post_name(post)} has no words; a label file holds at least one. Leave it out.")
    spans = [(entity["start"], entity["end"], entity["type"]) for entity in example["entities"]]
    boxes = [
        {"start": entity["start"], "end": entity["end"], "boxes": entity["boxes"]}
        for entity in example["entities"]
        if entity["boxes"]
    ]
    tags = encode_bio(spans, len(example["tokens"]))
    return FolderPost(example["id"], example["tokens"], tags, stored_image(post), boxes)


def stored_image(post: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an image as `{"bytes", "path"}`, None without one.

    Raises:
        ValueError: naming the post whose image is an address or a file that is missing.
    """
    image = post.get("image")
    if image is None:
        return None
    if isinstance(image, Mapping) and image.get("bytes") is not None:
        return {"bytes": image["bytes"], "path": image.get("path")}
    if (path := image_file(image)) is not None:
        if not path.is_file():
            raise ValueError(f"{post_name(post)}: image '{path}' does not exist; correct its path, or leave it out.")
        return {"bytes": None, "path": str(path)}
    if isinstance(image, str):
        raise ValueError(f"{post_name(post)}: image {image!r} is an address; fetch it, and name the file.")
    return {"bytes": encode_png(image), "path": None}


def encode_png(image: Any) -> bytes:
    """Return the bytes of a PNG file of an image in memory."""
    import io

    from hf_mner.data.images import load_rgb_image

    stream = io.BytesIO()
    load_rgb_image(image).save(stream, format="PNG")
    return stream.getvalue()


def read_conll_folder(
    path: str | os.PathLike[str], split: str, on_error: OnError = "raise"
) -> Iterator[AnnotatedPost]:
    """Yield the posts of one split of a folder data set, with its type names as they are written.

    Raises:
        ValueError: if the folder has no such split, or a label is bad.
    """
    from datasets import Image

    from hf_mner.data.loaders import load_mner_dataset

    dataset = load_mner_dataset("folder", Path(path), unify_types=False, on_error=on_error)
    if split not in dataset:
        raise ValueError(f"'{path}' has no split {split!r}; it has {', '.join(dataset)}.")
    for row in dataset[split].cast_column("image", Image(decode=False)):
        yield from_example(row)
