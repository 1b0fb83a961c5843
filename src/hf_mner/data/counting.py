"""Say what a data set holds: counts per split for reports, and a hash of its label files to print beside scores."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folder_dataset import find_split_files
from .labels import decode_bio
from .readers import FLICKR30K, GENERATED, PHRASE_SETS, find_data_dir, find_file, get_source

if TYPE_CHECKING:
    from datasets import Dataset

HASH_LENGTH = 12


def count_dataset(dataset: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
    """Count each split.

    Args:
        dataset: a `DatasetDict` of `MnerExample` rows, e.g. of `load_mner_dataset`.

    Returns:
        For each split: `sentences`, `tokens`, `images` (rows with one), `captions` and `auxiliary` (rows with such
        knowledge), `entities` (conlleval reading), `strict_entities` (those that start with `B-`), `types` (entities
        per type, in label order), `groundable` (entities with a box), `boxes`.
    """
    return {split: _count_split(rows) for split, rows in dataset.items()}


def label_file_hash(name: str, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Return a short SHA-256 of a data set's label and box files; public copies differ, and scores with them.

    Args:
        name: see `load_mner_dataset`.
        data_dir: as in `load_mner_dataset`.

    Returns:
        The first 12 hexadecimal digits; equal for equal bytes in equal splits, wherever the folder lies. For
        generated sets, which have no files: a hash of their settings and of the version of their generator.

    Raises:
        ValueError: if the name is not known.
        FileNotFoundError: if a file is missing.
    """
    if name in GENERATED:
        from .synthetic import DEFAULT_SIZES, PlantedSignal

        return PlantedSignal(signal=GENERATED[name]).fingerprint(DEFAULT_SIZES)
    digest = hashlib.sha256()
    for key, path in _iterate_label_files(name, data_dir):
        content = path.read_bytes()
        digest.update(f"{key}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:HASH_LENGTH]


def _count_split(rows: Dataset) -> dict[str, Any]:
    label_names = rows.features["ner_tags"].feature.names
    table = rows.select_columns(["ner_tags", "entities", "knowledge", "image"]).with_format("arrow")[:]
    entities = [entity for row in table["entities"].to_pylist() for entity in row]
    tags = [[label_names[tag] for tag in row] for row in table["ner_tags"].to_pylist()]
    types = Counter(entity["type"] for entity in entities)
    knowledge = [row or {} for row in table["knowledge"].to_pylist()]
    return {
        "sentences": len(tags),
        "tokens": sum(map(len, tags)),
        "images": len(rows) - table["image"].null_count,
        "captions": sum(row.get("caption") is not None for row in knowledge),
        "auxiliary": sum(row.get("auxiliary") is not None for row in knowledge),
        "entities": len(entities),
        "strict_entities": sum(len(decode_bio(row, "strict")) for row in tags),
        "types": {label[2:]: types[label[2:]] for label in label_names if label.startswith("B-")},
        "groundable": sum(bool(entity["boxes"]) for entity in entities),
        "boxes": sum(len(entity["boxes"]) for entity in entities),
    }


def _iterate_label_files(name: str, data_dir: str | os.PathLike[str] | None) -> Iterator[tuple[str, Path]]:
    if name == "folder":
        folder = find_data_dir(data_dir, name)
        yield from find_split_files(folder).items()
        boxes = [folder / "boxes.jsonl", *sorted(folder.glob("xml/*.xml"))]
        yield from ((path.name, path) for path in boxes if path.is_file())
        return
    if name in PHRASE_SETS:
        from .flickr30k_entities import list_flickr30k_files
        from .yolo_labels import list_yolo_files

        list_files = list_flickr30k_files if name == FLICKR30K else list_yolo_files
        yield from list_files(find_data_dir(data_dir, name))
        return
    source = get_source(name)
    root = find_data_dir(data_dir, name)
    for split, relative in source.files.items():
        yield split, find_file(root, relative)
    if source.box_folder is not None:
        yield from ((path.name, path) for path in sorted((root / source.box_folder).glob("*.xml")))
