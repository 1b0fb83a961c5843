"""Write a planted-signal set as a folder of one's own, as `load_mner_dataset("folder", ...)` reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from .bio_files import IMAGE_ID_PREFIX
from .folder_dataset import SPLIT_FILES
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
    (folder / "images").mkdir(parents=True, exist_ok=True)
    labels = bio_labels(signal.types)
    with ExitStack() as stack:
        boxes = stack.enter_context(_open(folder / "boxes.jsonl"))
        knowledge = stack.enter_context(_open(folder / FOLDER_KNOWLEDGE)) if signal.with_knowledge else None
        for split, size in chosen.items():
            posts = stack.enter_context(_open(folder / SPLIT_FILES[split][0]))
            for example in signal.stream(split, size):
                (folder / "images" / f"{example['id']}.png").write_bytes(encode_png(example["image"]))
                posts.write(_render_post(example, labels))
                boxes.writelines(_render_boxes(example))
                if knowledge is not None:
                    knowledge.write(json.dumps({"id": example["id"], **(example["knowledge"] or {})}) + "\n")
    return folder


def _open(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", newline="\n")


def _render_post(example: MnerExample, labels: list[str]) -> str:
    words = zip(example["tokens"], example["ner_tags"], strict=True)
    lines = [f"{token}\t{labels[tag]}" for token, tag in words]
    return "\n".join([f"{IMAGE_ID_PREFIX}{example['id']}", *lines, "", ""])


def _render_boxes(example: MnerExample) -> list[str]:
    keys = ("start", "end", "boxes")
    return [
        json.dumps({"id": example["id"], **{key: entity[key] for key in keys}}) + "\n"  # type: ignore[literal-required]
        for entity in example["entities"]
    ]
