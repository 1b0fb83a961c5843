"""From a sentence of a label file to a row of a data set: image, boxes, entities and knowledge are joined here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .bio_files import BioFormat, BioSentence, iterate_bio_blocks, parse_bio_block
from .gmner_boxes import BoxAnnotation, read_voc_file
from .images import DEFAULT_MAX_PIXELS, read_image_size
from .knowledge_columns import KnowledgeJoiner
from .labels import decode_bio, split_tag, unify_type

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
BoxFinder = Callable[[str, "tuple[int, int] | None"], "BoxAnnotation | None"]


@dataclass(frozen=True)
class LoadingPlan:
    """Everything that turns the label file of one split into rows.

    Attributes:
        name: used in the ids of sentences without an image id.
        split: `train`, `validation` or `test`.
        path: the label file.
        bio_format: its columns.
        published_types: types that may occur in it; None = any.
        types: types of the label list, after unification.
        use_unified: whether type names are unified (`OTHER` becomes `MISC`).
        images: image file of each id.
        find_boxes: from an image id and the size in the image's header to its gold boxes, or None.
        find_knowledge: from a sentence and the size of its image to its knowledge column.
    """

    name: str
    split: str
    path: Path
    bio_format: BioFormat
    published_types: Sequence[str] | None
    types: Sequence[str]
    use_unified: bool
    images: dict[str, Path]
    find_boxes: BoxFinder
    find_knowledge: KnowledgeJoiner


@dataclass(frozen=True)
class RowPlan:
    """One split of a set without label files of words.

    Attributes:
        split: `train`, `validation` or `test`.
        path: where it is from, for error texts.
        types: types of the label list.
        rows: yields the rows; their `ner_tags` are tags, not numbers.
    """

    split: str
    path: Path
    types: Sequence[str]
    rows: Callable[[OnError], Iterator[dict[str, Any]]]


def list_types(published: Sequence[str], use_unified: bool) -> list[str]:
    """Return the type names of the label list.

    Raises:
        ValueError: if two published types would become one.
    """
    types = [unify_type(entity_type) if use_unified else entity_type for entity_type in published]
    if len(set(types)) != len(types):
        raise ValueError(f"Types {list(published)} fall together under one spelling; pass `unify_types=False`.")
    return types


def find_image_folders(
    data_dir: Path, patterns: Sequence[str], image_dir: str | os.PathLike[str] | None
) -> list[Path]:
    """Return the folders to search for images: `image_dir` alone if given, else what exists of the patterns.

    Raises:
        FileNotFoundError: if `image_dir` does not exist.
    """
    if image_dir is None:
        return [folder for pattern in patterns for folder in sorted(data_dir.glob(pattern)) if folder.is_dir()]
    if not Path(image_dir).is_dir():
        raise FileNotFoundError(f"Image folder '{image_dir}' does not exist; check `image_dir=`.")
    return [Path(image_dir)]


def iterate_rows(plan: LoadingPlan, on_error: OnError = "raise") -> Iterator[dict[str, Any]]:
    """Yield the rows of one split in file order; see `load_mner_dataset` for `on_error`."""
    for block in iterate_bio_blocks(plan.path):
        try:
            sentence = parse_bio_block(block, plan.bio_format, plan.published_types)
            if sentence is not None:
                yield _build_row(sentence, plan)
        except ValueError as error:
            if on_error == "raise":
                raise
            first = block.lines[0].decode("utf-8", "replace")
            logger.warning("Skipped the row at %s, line %d (%s): %s", block.path, block.first_line, first, error)


def make_voc_finder(folder: Path | None) -> BoxFinder:
    """Return a function that reads `<folder>/<id>.xml`; an image without that file has no boxes."""
    known = {path.stem: path for path in folder.glob("*.xml")} if folder is not None else {}

    def find_boxes(image_id: str, _: tuple[int, int] | None) -> BoxAnnotation | None:
        return read_voc_file(known[image_id]) if image_id in known else None

    return find_boxes


def _build_row(sentence: BioSentence, plan: LoadingPlan) -> dict[str, Any]:
    image_id = sentence.image_id
    image = plan.images.get(image_id) if image_id is not None else None
    size = read_image_size(image, DEFAULT_MAX_PIXELS) if image is not None else None
    boxes = (plan.find_boxes(image_id, size) if image_id is not None else None) or BoxAnnotation()
    if size and boxes.image_size and tuple(boxes.image_size) != tuple(size):
        raise ValueError(
            f"{sentence.location}: image '{image}' is {size[0]} x {size[1]} pixels upright, and its boxes are those of"
            f" {boxes.image_size[0]} x {boxes.image_size[1]}; use the image that was annotated, or scale the boxes."
        )
    tags = [_unify_tag(tag) for tag in sentence.tags] if plan.use_unified else sentence.tags
    spans = decode_bio(tags)
    boxes.check_all_found(sentence.tokens, [(start, end) for start, end, _ in spans], sentence.location)
    return {
        "id": image_id if image_id is not None else f"{plan.name}-{plan.split}-{sentence.position}",
        "tokens": sentence.tokens,
        "ner_tags": tags,
        "image": str(image) if image is not None else None,
        "image_size": list(boxes.image_size or size or ()) or None,
        "entities": [
            {"start": start, "end": end, "type": entity_type, "boxes": boxes.find(sentence.tokens, start, end)}
            for start, end, entity_type in spans
        ],
        "knowledge": plan.find_knowledge(sentence, boxes.image_size or size),
    }


def _unify_tag(tag: str) -> str:
    prefix, entity_type = split_tag(tag)
    return f"{prefix}-{unify_type(entity_type)}" if entity_type else prefix
