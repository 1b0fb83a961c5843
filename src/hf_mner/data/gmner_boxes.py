"""Read gold boxes: Pascal-VOC files as Twitter-GMNER publishes them, and `boxes.jsonl` of a user's own folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .boxes import Box, check_box
from .json_lines import read_json_lines

logger = logging.getLogger(__name__)

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class BoxAnnotation:
    """The gold boxes of one image.

    Attributes:
        image_size: `(width, height)` in pixels, or None where the file does not say.
        by_name: boxes of an entity, found by its tokens joined with spaces.
        by_span: boxes of an entity, found by its word indices `(start, end)`, `end` exclusive.
        needs_entities: whether boxes of no entity are an error; else they are logged and left out.
    """

    image_size: tuple[int, int] | None = None
    by_name: dict[str, list[Box]] = field(default_factory=dict)
    by_span: dict[tuple[int, int], list[Box]] = field(default_factory=dict)
    needs_entities: bool = False

    def find(self, tokens: Sequence[str], start: int, end: int) -> list[Box]:
        """Return the boxes of the entity `tokens[start:end]`; `[]` = it is not in the image (ungroundable)."""
        return [*self.by_name.get(" ".join(tokens[start:end]), ()), *self.by_span.get((start, end), ())]

    def check_all_found(self, tokens: Sequence[str], spans: Sequence[tuple[int, int]], where: str) -> None:
        """Refuse boxes that belong to none of the sentence's entities, or only log them without `needs_entities`.

        Twitter-GMNER v2.0 has no such box; other versions of a public set may.

        Raises:
            ValueError: naming the first such box.
        """
        names = [" ".join(tokens[start:end]) for start, end in spans]
        unknown = [*(self.by_name.keys() - set(names)), *(self.by_span.keys() - set(spans))]
        if not unknown:
            return
        message = (
            f"{where}: boxes are given for {unknown[0]!r}, which is no entity of this sentence; its entities are"
            f" {names} at {list(spans)} (words, end exclusive). Correct the name or span."
        )
        if self.needs_entities:
            raise ValueError(message)
        logger.warning("%s The boxes are left out.", message)


def parse_voc_file(path: Path) -> tuple[ElementTree.Element, tuple[int, int] | None]:
    """Return the root of a Pascal-VOC file and the image's `(width, height)`, None where it does not say.

    Raises:
        ValueError: if the file is not XML, or its size is no size.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not a readable XML file ({error}); expected Pascal-VOC. Fetch it again.") from error
    return root, _read_voc_size(root, path)


def read_voc_file(path: Path) -> BoxAnnotation:
    """Read one Pascal-VOC file; several objects of one name are several boxes of one entity.

    The file's own name is the image id: `<filename>` inside is `<id>_region.jpg` in 765 files of Twitter-GMNER.

    Raises:
        ValueError: if the file is not XML, lacks a needed element, or holds a box that `check_box` refuses.
    """
    root, size = parse_voc_file(path)
    annotation = BoxAnnotation(image_size=size)
    for voc_object in root.iter("object"):
        name = voc_object.findtext("name")
        if not name:
            raise ValueError(f"{path}: an <object> without <name>; expected the entity's tokens joined with spaces.")
        corners = [voc_object.findtext(f"bndbox/{corner}") for corner in CORNERS]
        box = check_box(corners, annotation.image_size, f"{path}, object {name!r}")  # type: ignore[arg-type]
        annotation.by_name.setdefault(name, []).append(box)
    return annotation


WANTED = 'expected {"id": ..., "name": ..., "boxes": [[xmin, ymin, xmax, ymax]]}, or "start" and "end" for "name"'


def read_boxes_jsonl(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read `boxes.jsonl`: one `{"id", "name" or "start" and "end", "boxes"}` a line; boxes are checked on use.

    Returns:
        The records of each id.

    Raises:
        ValueError: naming the line that is not such an object.
    """
    records: dict[str, list[dict[str, Any]]] = {}
    for line in read_json_lines(path, WANTED):
        if not _is_box_record(line.record):
            raise ValueError(f"{line.where}: {line.text!r} lacks a part; {WANTED}.")
        records.setdefault(str(line.record["id"]), []).append(line.record)
    return records


def collect_boxes(
    records: Iterable[dict[str, Any]], image_size: tuple[int, int] | None, path: Path, row_id: str
) -> BoxAnnotation:
    """Turn the `boxes.jsonl` records of one row into an annotation, checking each box."""
    annotation = BoxAnnotation(image_size=image_size, needs_entities=True)
    for record in records:
        named = "name" in record
        where = f"{path}, id {row_id!r}, " + (record["name"] if named else f"words {record['start']}-{record['end']}")
        boxes = [check_box(box, image_size, where) for box in record["boxes"]]
        if named:
            annotation.by_name.setdefault(record["name"], []).extend(boxes)
        else:
            annotation.by_span.setdefault((record["start"], record["end"]), []).extend(boxes)
    return annotation


def _read_voc_size(root: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    width, height = root.findtext("size/width") or "0", root.findtext("size/height") or "0"
    if not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise ValueError(f"{path}: <size> says {width!r} x {height!r}; expected whole numbers of pixels.")
    size = int(width), int(height)
    return size if all(size) else None


def _is_box_record(record: Any) -> bool:
    """Tell whether this is an object with an id, boxes, and a name or the words that are meant."""
    if not isinstance(record, dict) or "id" not in record or not isinstance(record.get("boxes"), list):
        return False
    return isinstance(record.get("name"), str) or all(isinstance(record.get(key), int) for key in ("start", "end"))
