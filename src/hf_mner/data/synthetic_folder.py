"""Write a planted-signal set as a folder of one's own, as `load_mner_dataset("folder", ...)` reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .folder_dataset import FolderPost, write_folder
from .knowledge_columns import FOLDER_KNOWLEDGE
from .labels import bio_labels
from .schema import MnerExample
from .synthetic import PlantedSignal, check_sizes, encode_png


def write_planted_folder(signal: PlantedSignal, sizes: Mapping[str, int], output: str | os.PathLike[str]) -> Path:
    """Write label files, `images/`, `boxes.jsonl` and, if the examples have any, `knowledge.jsonl`.

    Read back, the examples are the same, provided that every type occurs (the labels of a folder are those that do)
    and none is called `OTHER` (else pass `unify_types=False`).

    Args:
        signal: what decides the examples.
        sizes: number of examples of each split.
        output: a folder that does not exist or is empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: if the folder holds something.
        ValueError: if a split or size is not as `load_planted_signal` wants it.
    """
    folder, chosen = Path(output), check_sizes(sizes)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"Output folder '{folder}' is not empty; choose a new one, or empty it first.")
    labels, knowledge = bio_labels(signal.types), []

    def posts(split: str, size: int) -> Iterator[FolderPost]:
        for example in signal.stream(split, size):
            knowledge.append(json.dumps({"id": example["id"], **(example["knowledge"] or {})}) + "\n")
            yield to_post(example, labels)

    write_folder({split: posts(split, size) for split, size in chosen.items()}, folder)
    if signal.with_knowledge:
        (folder / FOLDER_KNOWLEDGE).write_text("".join(knowledge), encoding="utf-8", newline="\n")
    return folder


def to_post(example: MnerExample, labels: Sequence[str]) -> FolderPost:
    """Turn an example into what `write_folder` writes."""
    boxes: list[dict[str, Any]] = [
        {"start": entity["start"], "end": entity["end"], "boxes": entity["boxes"]} for entity in example["entities"]
    ]
    return FolderPost(
        id=example["id"],
        tokens=example["tokens"],
        tags=[labels[tag] for tag in example["ner_tags"]],
        image={"bytes": encode_png(example["image"]), "path": None},
        boxes=boxes,
    )
