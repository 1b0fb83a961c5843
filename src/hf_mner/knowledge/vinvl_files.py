"""The files in which detections of VinVL and of bottom-up attention are published."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png")  # of images, in front of `.npz` or in a row's name


@dataclass(frozen=True)
class VinvlDetections:
    """What a bottom-up detector found in one image.

    Attributes:
        boxes: `r 4`, float32, `[xmin, ymin, xmax, ymax]` in pixels of the image.
        features: `r d`, float32, one vector for each box; None where the file holds none.
        scores: `r`, float32, in [0, 1].
        labels: `r` classes, e.g. `"microphone"`.
        attribute_labels: `r` classes with their attribute, e.g. `"black microphone"`.
        image_size: `(width, height)` of the image that the detector saw.
    """

    boxes: np.ndarray
    features: np.ndarray | None
    scores: np.ndarray
    labels: list[str]
    attribute_labels: list[str]
    image_size: tuple[int, int]


@dataclass(frozen=True)
class TsvPlace:
    """Where a row of a `.tsv` file begins, in bytes."""

    path: Path
    offset: int


def read_vinvl(path: str | Path, with_features: bool = True) -> VinvlDetections:
    """Read the detections of one image from an `.npz` file.

    Args:
        path: a file with `bounding_boxes` (`r 4`, pixels), `scores` (`r`), `objects` and `attr_obj` (`r` texts),
            `image_w` and `image_h`, and perhaps `box_features` (`r d`).
        with_features: False leaves out `box_features`, which make up nearly the whole file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is no such file, or its parts differ in length.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in ("bounding_boxes", "scores", "objects", "attr_obj")}
            size = int(file["image_w"]), int(file["image_h"])
            has_features = with_features and "box_features" in file
            features = file["box_features"].astype(np.float32) if has_features else None
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"{path} holds no detections ({error}); expected an .npz file with `bounding_boxes`, `scores`, `objects`,"
            " `attr_obj`, `image_w`, `image_h` and perhaps `box_features`. Remove it, or write it again."
        ) from error
    boxes, scores = (parts[name].astype(np.float32) for name in ("bounding_boxes", "scores"))
    return _checked(boxes, features, scores, parts["objects"].tolist(), parts["attr_obj"].tolist(), size, str(path))


def index_npz(folder: Path) -> dict[str, Path]:
    """Map the id of each image (`<id>.npz` or `<id>.jpg.npz`) to its file."""
    return {_without_suffix(file.stem): file for file in sorted(folder.glob("*.npz"))}


def index_tsv(path: Path) -> dict[str, TsvPlace]:
    """Map the id in the first column of a `.tsv` file to its row."""
    places = {}
    with path.open("rb") as file:
        offset = 0
        for line in file:
            if line.strip():
                places[_without_suffix(line.split(b"\t", 1)[0].decode("utf-8").strip())] = TsvPlace(path, offset)
            offset += len(line)
    return places


def read_tsv_row(place: TsvPlace, with_features: bool = True) -> VinvlDetections:
    """Read the detections of one image from a row of a `.tsv` file, in one of two formats.

    VinVL's two columns: the id, and JSON with `image_w`, `image_h` and `objects`, a list of `rect` (`[xmin, ymin,
    xmax, ymax]` in pixels), `class`, `conf`, and optionally `attributes` (texts, best first) and `feature` (float32 in
    base64). Bottom-up attention's six columns have no classes, only numbers, and are refused.

    Args:
        place: where the row begins.
        with_features: False leaves out `feature`, which makes up nearly the whole row.

    Raises:
        ValueError: naming the file and what was expected.
    """
    import numpy as np

    with place.path.open("rb") as file:
        file.seek(place.offset)
        columns = file.readline().decode("utf-8").rstrip("\r\n").split("\t")
    where = f"{place.path}, image {columns[0]!r}"
    try:
        record = json.loads(columns[1]) if len(columns) == 2 else None
        if not isinstance(record, dict):
            raise ValueError(f"{len(columns)} columns")
        items = record["objects"]
        size = int(record["image_w"]), int(record["image_h"])
        labels = [str(item["class"]) for item in items]
        attributes = [_with_attribute(item) for item in items]
        boxes = np.array([item["rect"] for item in items], dtype=np.float32).reshape(-1, 4)
        scores = np.array([item["conf"] for item in items], dtype=np.float32)
        features = _features(items) if with_features else None
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ValueError(
            f"{where} is not understood ({type(error).__name__}: {error}); expected two columns, the id and JSON with"
            ' `image_w`, `image_h` and `objects`: [{"rect": [xmin, ymin, xmax, ymax], "class": "cat", "conf": 0.9}].'
        ) from error
    return _checked(boxes, features, scores, labels, attributes, size, where)


def _features(items: list[dict[str, Any]]) -> np.ndarray | None:
    import numpy as np

    if not items or any("feature" not in item for item in items):
        return None
    return np.stack([np.frombuffer(base64.b64decode(item["feature"]), dtype=np.float32) for item in items])


def _with_attribute(item: dict[str, Any]) -> str:
    attributes = item.get("attributes") or []
    return f"{attributes[0]} {item['class']}" if attributes else str(item["class"])


def _checked(
    boxes: np.ndarray,
    features: np.ndarray | None,
    scores: np.ndarray,
    labels: list[str],
    attribute_labels: list[str],
    size: tuple[int, int],
    where: str,
) -> VinvlDetections:
    """Return the detections if each box has its score and labels, and lies in the image but for rounding."""
    import numpy as np

    counts = [len(boxes), len(scores), len(labels), len(attribute_labels)]
    counts += [] if features is None else [len(features)]
    if len(set(counts)) != 1 or boxes.shape[1:] != (4,):
        raise ValueError(
            f"{where} holds boxes of shape {boxes.shape} with {', '.join(map(str, counts[1:]))} scores, labels and"
            " features; expected one of each for every box of 4 numbers. Write it again."
        )
    if features is not None and (features.ndim != 2 or not np.isfinite(features).all()):
        raise ValueError(
            f"{where} holds features of shape {features.shape}; expected a vector of finite numbers for every box."
            " Write it again."
        )
    limits = np.array([*size, *size]) + 1.0  # detectors round to whole pixels, and some count from 1
    if len(boxes) and (not np.isfinite(boxes).all() or (boxes < -1).any() or (boxes > limits).any()):
        raise ValueError(
            f"{where} has boxes outside its image of {size[0]} x {size[1]} pixels; expected [xmin, ymin, xmax, ymax]"
            " in pixels. Check `image_w` and `image_h`, and that the boxes are corners."
        )
    return VinvlDetections(boxes, features, scores, labels, attribute_labels, size)


def _without_suffix(name: str) -> str:
    """Return an image's id without the folder and the suffix of its file."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
