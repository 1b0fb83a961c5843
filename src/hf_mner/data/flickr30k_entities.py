"""Flickr30K Entities as its authors publish it: captions with phrases, and the boxes of the phrases.

    flickr30k_entities/          (or flickr30k/, or the data folder itself)
        train.txt val.txt test.txt   image ids, one a line
        Sentences/<id>.txt           a caption a line, phrases as `[/EN#<chain>/<type> words ...]`
        Annotations/<id>.xml         the boxes of each chain
        flickr30k-images/<id>.jpg    the images of Flickr30K; may be missing, or lie elsewhere (`IMAGE_FOLDERS`)

Each caption is an example, each phrase an entity of its first type, with all boxes of its chain. Phrases of type
`notvisual`, phrases of the whole scene and chains without a box have none.

Source: Plummer et al. 2015 (https://github.com/BryanPlummer/flickr30k_entities).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .boxes import Box, check_box
from .gmner_boxes import CORNERS, parse_voc_file
from .images import DEFAULT_MAX_PIXELS, index_images, read_image_size
from .labels import encode_bio
from .readers import DATA_VARIABLE, find_file
from .rows import OnError, RowPlan, find_image_folders

logger = logging.getLogger(__name__)

TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other", "notvisual")
FOLDERS = ("flickr30k_entities", "Flickr30kEntities", "flickr30k", ".")
IMAGE_FOLDERS = (
    "flickr30k[-_]images",
    "flickr30k[-_]images/flickr30k[-_]images",
    "images/flickr30k*",
    "flickr30k/flickr30k[-_]images",
    "images",
)
SPLIT_FILES = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
_PHRASE_START = re.compile(r"\[/EN#(\d+)((?:/[^/\s\]]+)+)")
WANTED = "expected phrases such as `[/EN#283585/people A young boy]`"


class Phrase(NamedTuple):
    """Words of a caption: `start` and `end` (exclusive) index tokens; phrases of one chain name one thing."""

    start: int
    end: int
    type: str
    chain: str


class ImageBoxes(NamedTuple):
    """The boxes in pixels of each chain of an image, and its `(width, height)`, None where the file does not say."""

    image_size: tuple[int, int] | None
    by_chain: Mapping[str, list[Box]]


def plan_flickr30k(data_dir: Path, image_dir: str | os.PathLike[str] | None = None) -> list[RowPlan]:
    """Return how to read each split; see the module's text.

    Raises:
        FileNotFoundError: if there is no such folder, or a file of ids is missing.
    """
    root = find_flickr30k(data_dir)
    found = find_image_folders(root, IMAGE_FOLDERS, image_dir)
    images = index_images(
        found if image_dir is not None else [*found, *find_image_folders(data_dir, IMAGE_FOLDERS, None)]
    )

    def plan(split: str, path: Path) -> RowPlan:
        return RowPlan(split, path, TYPES, lambda on_error: iterate_flickr30k_rows(root, path, images, on_error))

    return [plan(split, find_file(root, name)) for split, name in SPLIT_FILES.items()]


def list_flickr30k_files(data_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of ids, captions and boxes with a key that does not depend on the place."""
    root = find_flickr30k(data_dir)
    yield from ((split, find_file(root, name)) for split, name in SPLIT_FILES.items())
    for folder in ("Sentences", "Annotations"):
        yield from ((f"{folder}/{path.name}", path) for path in sorted((root / folder).iterdir()))


def find_flickr30k(data_dir: Path) -> Path:
    """Return the folder of the data set.

    Raises:
        FileNotFoundError: if there is none.
    """
    for name in FOLDERS:
        if all((data_dir / name / part).is_dir() for part in ("Sentences", "Annotations")):
            return data_dir / name
    raise FileNotFoundError(
        f"'{data_dir}' holds no 'flickr30k_entities' with the folders 'Sentences' and 'Annotations'; unpack the"
        f" authors' annotations.zip there, or point `data_dir=` or {DATA_VARIABLE} at it."
    )


def iterate_flickr30k_rows(
    root: Path, ids_file: Path, images: Mapping[str, Path], on_error: OnError
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split, image by image; a bad file is all of its image's rows."""
    for image_id in ids_file.read_text(encoding="utf-8").split():
        try:
            yield from build_flickr30k_rows(root, image_id, images.get(image_id))
        except (ValueError, FileNotFoundError) as error:
            if on_error == "raise":
                raise
            logger.warning("Skipped the rows of image %s (%s): %s", image_id, ids_file, error)


def build_flickr30k_rows(root: Path, image_id: str, image: Path | None) -> list[dict[str, Any]]:
    """Return one row for each caption of an image.

    Raises:
        FileNotFoundError: if the file of its captions or of its boxes is missing.
        ValueError: if one of them is malformed, or the image has another size than its boxes are made for.
    """
    captions_file = find_file(root, f"Sentences/{image_id}.txt")
    boxes_file = find_file(root, f"Annotations/{image_id}.xml")
    annotation = read_flickr30k_boxes(boxes_file)
    size = read_image_size(image, DEFAULT_MAX_PIXELS) if image is not None else None
    if size is not None and annotation.image_size not in (None, size):
        raise ValueError(
            f"Image '{image}' is {size[0]} x {size[1]} pixels, but the boxes of {boxes_file} are for"
            f" {annotation.image_size}; take the image as Flickr30K publishes it."
        )
    image_size = annotation.image_size or size
    rows = []
    for number, line in enumerate(captions_file.read_text(encoding="utf-8").splitlines()):
        if not line.strip():
            continue
        tokens, phrases = parse_caption(line, f"{captions_file}, line {number + 1}")
        spans = [phrase[:3] for phrase in phrases]
        rows.append(
            {
                "id": f"{image_id}#{number}",
                "tokens": tokens,
                "ner_tags": encode_bio(spans, len(tokens)),
                "image": str(image) if image is not None else None,
                "image_size": list(image_size) if image_size else None,
                "entities": [
                    {
                        "start": phrase.start,
                        "end": phrase.end,
                        "type": phrase.type,
                        "boxes": [] if phrase.type == "notvisual" else annotation.by_chain.get(phrase.chain, []),
                    }
                    for phrase in phrases
                ],
                "knowledge": None,
            }
        )
    return rows


def parse_caption(line: str, where: str = "Caption") -> tuple[list[str], list[Phrase]]:
    """Take the marks out of a caption.

    Args:
        line: such as `[/EN#1/people A man] in [/EN#2/clothing a blue shirt] .`
        where: file and line, for error texts.

    Returns:
        The tokens, and the phrases with their first type.

    Raises:
        ValueError: if a mark is malformed, a phrase is empty, does not end or begins in another, or a type is unknown.
    """
    tokens: list[str] = []
    phrases: list[Phrase] = []
    opened: tuple[int, str, str] | None = None  # start, type, chain
    for word in line.split():
        if word.startswith("[/"):
            if opened is not None:
                raise ValueError(
                    f"{where}: {word!r} begins in a phrase that has not ended; {WANTED}. Correct the line."
                )
            opened = (len(tokens), *_parse_mark(word, where))
            continue
        is_last = opened is not None and word.endswith("]")
        tokens += [text] if (text := word[:-1] if is_last else word) else []
        if opened is not None and is_last:
            start, phrase_type, chain = opened
            if start == len(tokens):
                raise ValueError(f"{where}: the phrase of chain {chain} has no words; {WANTED}. Correct the line.")
            phrases.append(Phrase(start, len(tokens), phrase_type, chain))
            opened = None
    if opened is not None:
        raise ValueError(f"{where}: the phrase of chain {opened[2]} does not end; {WANTED}. Close it with `]`.")
    if not tokens:
        raise ValueError(f"{where}: {line!r} has no words; {WANTED}. Remove the line.")
    return tokens, phrases


def read_flickr30k_boxes(path: Path) -> ImageBoxes:
    """Read the boxes of one image.

    The published corners count pixels from 1 and include the last one; ours are edges: `1 1 5 5` is `[0, 0, 5, 5]`.

    Raises:
        ValueError: if the file is no XML of this form, or a box leaves its image by more than one pixel.
    """
    root, size = parse_voc_file(path)
    by_chain: dict[str, list[Box]] = {}
    for element in root.iter("object"):
        chains = [name.text.strip() for name in element.iter("name") if name.text and name.text.strip()]
        if not chains:
            raise ValueError(f"{path}: an <object> without <name>; expected the number of its chain. Fetch it again.")
        for bndbox in element.iter("bndbox"):
            box = _read_box(dict.fromkeys(CORNERS) | {part.tag: part.text for part in bndbox}, size, path, chains[0])
            for chain in dict.fromkeys(chains):
                by_chain.setdefault(chain, []).append(box)
    return ImageBoxes(size, by_chain)


def _parse_mark(mark: str, where: str) -> tuple[str, str]:
    """Return the first type and the chain of the mark before a phrase."""
    match = _PHRASE_START.fullmatch(mark)
    if match is None:
        raise ValueError(f"{where}: {mark!r} begins no phrase; {WANTED}. Correct the line.")
    types = match[2].split("/")[1:]
    if types[0] not in TYPES:
        raise ValueError(f"{where}: {mark!r} has type {types[0]!r}; expected one of {', '.join(TYPES)}. Correct it.")
    return types[0], match[1]


def _read_box(corners: Mapping[str, str | None], size: tuple[int, int] | None, path: Path, chain: str) -> Box:
    where = f"{path}, chain {chain}"
    try:
        xmin, ymin, xmax, ymax = (int(corners[corner] or "") for corner in CORNERS)
    except ValueError as error:
        texts = {corner: corners[corner] for corner in CORNERS}
        raise ValueError(
            f"{where}: <bndbox> says {texts}; expected four whole numbers of pixels. Fetch the file again."
        ) from error
    box = [max(xmin - 1, 0), max(ymin - 1, 0), xmax, ymax]
    if min(xmin, ymin) < 0:
        raise ValueError(f"{where}: box {[xmin, ymin, xmax, ymax]} leaves its image; expected pixels from 1 on.")
    if size is not None:
        box = [*box[:2], *(limit if side == limit + 1 else side for side, limit in zip(box[2:], size, strict=True))]
    return check_box(box, size, where)
