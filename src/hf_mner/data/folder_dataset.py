"""A user's own folder as a data set: `load_mner_dataset("folder", "my_folder")`.

    my_folder/
        train.txt  validation.txt (or valid.txt, dev.txt)  test.txt     any of them; `token<TAB>label`, or one space
        images/    <id>.jpg or .png for an `IMGID:<id>` line before a sentence      optional
        boxes.jsonl   {"id", "name" (or "start" and "end"), "boxes"} a line           optional; other keys are notes
        xml/<id>.xml  Pascal-VOC instead of boxes.jsonl                               optional
        knowledge.jsonl  {"id", "caption", "auxiliary", "similarity", "objects", "encyclopedia"} a line   optional

What `knowledge.jsonl` says of an id (each part but the id is optional, see `schema.Knowledge`) is joined to the
sentences after its IMGID line. `knowledge="auto"` joins it where it is there, `knowledge=["knowledge.jsonl"]` (so a
recipe asks for it) insists on it, `knowledge=[]` leaves it out.

The types are those that occur: PER, LOC, ORG, MISC first (where present), all others in alphabetical order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .bio_files import IMAGE_ID_PREFIX, BioFormat, detect_separator, iterate_bio_blocks, parse_bio_block
from .gmner_boxes import BoxAnnotation, collect_boxes, read_boxes_jsonl
from .images import IMAGE_SUFFIXES, index_images
from .knowledge_columns import join_folder_knowledge
from .labels import split_tag
from .readers import SPLITS
from .rows import BoxFinder, LoadingPlan, find_image_folders, list_types, make_voc_finder
from .type_lists import CONLL_TYPES

BOXES_FILE = "boxes.jsonl"
SPLIT_FILES = {
    "train": ("train.txt",),
    "validation": ("validation.txt", "valid.txt", "dev.txt"),
    "test": ("test.txt",),
}


def plan_folder(
    folder: Path,
    use_unified: bool = True,
    knowledge: Literal["auto"] | Sequence[str] = "auto",
    image_dir: str | os.PathLike[str] | None = None,
) -> list[LoadingPlan]:
    """Return how to read each split of a user's folder; see the module's text for its layout.

    Raises:
        FileNotFoundError: if there is no label file.
        ValueError: if `boxes.jsonl` or `knowledge.jsonl` is malformed or names an unknown image, or `knowledge` holds
            another name than `knowledge.jsonl`.
    """
    files = find_split_files(folder)
    image_ids = _find_image_ids(files.values())
    find_knowledge = join_folder_knowledge(folder, image_ids, knowledge)
    formats = {split: BioFormat(separator=detect_separator(path)) for split, path in files.items()}
    types = sort_types(
        {entity_type for split, path in files.items() for entity_type in _find_types(path, formats[split])}
    )
    images = index_images(find_image_folders(folder, ("images",), image_dir))
    find_boxes = _make_box_finder(folder, image_ids)
    return [
        LoadingPlan(
            name="folder",
            split=split,
            path=path,
            bio_format=formats[split],
            published_types=types,
            types=sort_types(list_types(types, use_unified)),
            use_unified=use_unified,
            images=images,
            find_boxes=find_boxes,
            find_knowledge=find_knowledge,
        )
        for split, path in files.items()
    ]


def find_split_files(folder: Path) -> dict[str, Path]:
    """Return the label file of each split that the folder has.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if it has two for one split, such as `valid.txt` and `dev.txt`.
    """
    found = {split: [folder / name for name in SPLIT_FILES[split] if (folder / name).is_file()] for split in SPLITS}
    for split, paths in found.items():
        if len(paths) > 1:
            raise ValueError(f"'{folder}' has {' and '.join(p.name for p in paths)} for {split}; keep one of them.")
    if not any(found.values()):
        names = ", ".join(name for names in SPLIT_FILES.values() for name in names)
        raise FileNotFoundError(f"'{folder}' holds no label file; expected at least one of {names}.")
    return {split: paths[0] for split, paths in found.items() if paths}


def sort_types(types: Iterable[str]) -> list[str]:
    """Return PER, LOC, ORG, MISC (those that occur), then all others alphabetically."""
    order = {entity_type: position for position, entity_type in enumerate(CONLL_TYPES)}
    return sorted(types, key=lambda entity_type: (order.get(entity_type, len(order)), entity_type))


def _find_types(path: Path, bio_format: BioFormat) -> set[str]:
    """Return the types of all sentences that can be read; bad ones are reported when the rows are built."""
    types: set[str] = set()
    for block in iterate_bio_blocks(path):
        with contextlib.suppress(ValueError):
            sentence = parse_bio_block(block, bio_format)
            types.update(split_tag(tag)[1] for tag in sentence.tags) if sentence else None
    return types - {""}


def _make_box_finder(folder: Path, image_ids: set[str]) -> BoxFinder:
    path, xml_folder = folder / BOXES_FILE, folder / "xml"
    if not path.is_file():
        return make_voc_finder(xml_folder if xml_folder.is_dir() else None)
    if xml_folder.is_dir():
        raise ValueError(f"'{folder}' has both boxes.jsonl and xml/; keep one, so that each box has one source.")
    records = read_boxes_jsonl(path)
    unknown = sorted(records.keys() - image_ids)
    if unknown:
        raise ValueError(f"{path}: id {unknown[0]!r} ({len(unknown)} in all) is on no IMGID line; correct the id.")

    def find_boxes(image_id: str, size: tuple[int, int] | None) -> BoxAnnotation | None:
        return collect_boxes(records[image_id], size, path, image_id) if image_id in records else None

    return find_boxes


def _find_image_ids(paths: Iterable[Path]) -> set[str]:
    prefix = IMAGE_ID_PREFIX.encode()
    lines = (block.lines[0] for path in paths for block in iterate_bio_blocks(path))
    return {line[len(prefix) :].decode("utf-8", "replace").strip() for line in lines if line.startswith(prefix)}


@dataclass(frozen=True)
class FolderPost:
    """A sentence to be written: `image` is the `{"bytes", "path"}` of `datasets`, or None.

    `boxes` are records of `boxes.jsonl` without the `id`: `start`, `end`, `boxes`, and notes such as `source`.
    """

    id: str
    tokens: Sequence[str]
    tags: Sequence[str]
    image: Mapping[str, Any] | None
    boxes: Sequence[Mapping[str, Any]]


def write_folder(
    posts: Mapping[str, Iterable[FolderPost]], output: str | os.PathLike[str], links_images: bool = False
) -> None:
    """Write label files, images and `boxes.jsonl`; files of these names are replaced, each at once.

    Ids become names of files: slashes and spaces in them become `_`, and what is there twice gets a number.

    Args:
        posts: of each split.
        output: the folder; made where it is missing.
        links_images: link image files instead of copying them.

    Raises:
        ValueError: if a token has a tab or a line break, which a label file cannot hold.
    """
    folder = Path(output)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    used: set[str] = set()
    boxes: list[str] = []
    for split, part in posts.items():
        lines: list[str] = []
        for post in part:
            row_id = _choose_id(post.id, used)
            lines += [f"{IMAGE_ID_PREFIX}{row_id}", *_render_words(post), ""]
            boxes += [json.dumps({"id": row_id, **record}, ensure_ascii=False) for record in post.boxes]
            if post.image is not None:
                _write_image(post.image, folder / "images" / row_id, links_images)
        _write_lines(folder / SPLIT_FILES[split][0], lines)
    _write_lines(folder / BOXES_FILE, boxes)


def _choose_id(name: str, used: set[str]) -> str:
    wanted = re.sub(r"[/\\\s\x00-\x1f]|^\.", "_", name) or "_"
    chosen, number = wanted, 1
    while chosen in used:
        number += 1
        chosen = f"{wanted}-{number}"
    used.add(chosen)
    return chosen


def _render_words(post: FolderPost) -> list[str]:
    for token in post.tokens:
        if re.search(r"[\t\n\r]", token):
            raise ValueError(f"Token {token!r} of {post.id!r} has a tab or a line break; expected a word. Clean it.")
    return [f"{token}\t{tag}" for token, tag in zip(post.tokens, post.tags, strict=True)]


def _write_image(image: Mapping[str, Any], place: Path, is_link: bool) -> None:
    content, path = image.get("bytes"), image.get("path")
    suffix = Path(path or "").suffix.lower()
    target = place.with_name(place.name + (suffix if suffix in IMAGE_SUFFIXES else ".png"))  # read by content
    target.unlink(missing_ok=True)
    if content is not None:
        target.write_bytes(content)
    elif is_link:
        target.symlink_to(Path(str(path)).resolve())
    else:
        shutil.copyfile(str(path), target)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    os.replace(unfinished, path)
