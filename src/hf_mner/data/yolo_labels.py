"""Object boxes in YOLO's format as phrase grounding: each class in an image is a phrase with its boxes.

Two layouts are found below the data folder, or below its folder `yolo`:

    data.yaml              names, and train, val, test: folders of images or lists of them (Ultralytics)
    images/train/<id>.jpg  the images; any place with a folder `images` in it
    labels/train/<id>.txt  `class cx cy w h` a line, fractions of the image; `labels` for the last `images`

    coco_classes.yaml      names
    coco/<id>.jpg          the images; these three may lie in `images/` of the data folder
    coco_labels/<id>.txt   the labels

An image gives one example for each of its classes: the tokens are the words of the class's name, all of them are one
entity of type `object`, and its boxes are all boxes of the class. Where there is but one group of images, every fourth
of the sorted ones is a test image and all others are for training. An image without labels gives no example.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .boxes import Box, check_area
from .images import DEFAULT_MAX_PIXELS, IMAGE_SUFFIXES, read_image_size
from .labels import encode_bio
from .readers import DATA_VARIABLE
from .rows import OnError, RowPlan

logger = logging.getLogger(__name__)

OBJECT = "object"  # one type for all classes: what is looked for is told by the words
TYPES = (OBJECT,)
TEST_EVERY = 4  # of the images of a set without splits
SPLIT_KEYS = {"train": "train", "validation": "val", "test": "test"}
CLASSES_SUFFIX = "_classes.yaml"
WANTED = "expected `class cx cy w h`, the last four as fractions of the image's width and height"


@dataclass(frozen=True)
class YoloImages:
    """The images of one split, each with its label file (which may be missing), and where they are from."""

    where: Path
    files: tuple[tuple[Path, Path], ...]


def plan_yolo(data_dir: Path) -> list[RowPlan]:
    """Return how to read each split; see the module's text.

    Raises:
        FileNotFoundError: if there is no such layout, or a folder that it names is missing.
        ValueError: if there are several, or the file of classes is malformed.
    """
    classes_file, splits = find_yolo(data_dir)
    names = read_class_names(classes_file)

    def plan(split: str, images: YoloImages) -> RowPlan:
        return RowPlan(split, images.where, TYPES, lambda on_error: iterate_yolo_rows(images, names, on_error))

    return [plan(split, images) for split, images in splits.items()]


def list_yolo_files(data_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the file of classes and the label files of each split, with a key that does not depend on the place."""
    classes_file, splits = find_yolo(data_dir)
    yield "classes", classes_file
    for split, images in splits.items():
        yield from ((f"{split}/{path.name}", path) for _, path in images.files if path.is_file())


def find_yolo(data_dir: Path) -> tuple[Path, dict[str, YoloImages]]:
    """Return the file of classes and the images of each split."""
    for root in (data_dir / "yolo", data_dir):
        if (path := _find_dataset_file(root)) is not None:
            return path, split_images(_list_ultralytics(path))
    places = [path for root in (data_dir, data_dir / "images") for path in sorted(root.glob(f"*{CLASSES_SUFFIX}"))]
    found = [path for path in places if all(folder.is_dir() for folder in _beside(path))]
    if len(found) > 1:
        raise ValueError(
            f"'{data_dir}' holds several sets in YOLO's format ({', '.join(str(path) for path in found)}); expected"
            " one. Point `data_dir=` at a folder with one of them."
        )
    if found:
        images, labels = _beside(found[0])
        files = tuple((path, labels / f"{path.stem}.txt") for path in _list_images(images))
        return found[0], split_images({"train": YoloImages(images, files)})
    raise FileNotFoundError(
        f"'{data_dir}' holds no set in YOLO's format; expected 'data.yaml' (with `names`, `train` and `val`), or"
        f" 'coco{CLASSES_SUFFIX}' beside 'coco/' and 'coco_labels/'. Point `data_dir=` or {DATA_VARIABLE} at it."
    )


def split_images(splits: Mapping[str, YoloImages]) -> dict[str, YoloImages]:
    """Return the splits, made of the training images where there are no others."""
    if "train" not in splits or len({images.files for images in splits.values()}) > 1:
        return dict(splits)
    where, files = splits["train"].where, sorted(splits["train"].files)
    return {
        "train": YoloImages(where, tuple(pair for place, pair in enumerate(files, start=1) if place % TEST_EVERY)),
        "test": YoloImages(where, tuple(files[TEST_EVERY - 1 :: TEST_EVERY])),
    }


def read_class_names(path: Path) -> dict[int, str]:
    """Read `names` of a YAML file, a list or a mapping from numbers.

    Raises:
        ValueError: if it is neither, or a name is empty.
    """
    names = _read_yaml(path).get("names")
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(pairs, dict) or not pairs:
        raise ValueError(f"{path}: `names` is {names!r}; expected the classes, such as `names: [person, car]`.")
    for number, name in pairs.items():
        if isinstance(number, bool) or not isinstance(number, int) or not split_class_name(name):
            raise ValueError(f"{path}: `names` holds {number!r}: {name!r}; expected a number and a name. Quote it.")
    return pairs


def split_class_name(name: Any) -> list[str]:
    """Return the words of a class's name; what is no text has none."""
    return name.replace("_", " ").split() if isinstance(name, str) else []


def iterate_yolo_rows(images: YoloImages, names: Mapping[int, str], on_error: OnError) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split in the order of the images; a bad file is all of its image's rows."""
    for image, label_file in images.files:
        try:
            if label_file.is_file():
                yield from build_yolo_rows(image, label_file, names)
        except (ValueError, FileNotFoundError) as error:
            if on_error == "raise":
                raise
            logger.warning("Skipped the rows of %s: %s", image, error)


def build_yolo_rows(image: Path, label_file: Path, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return one row for each class in an image.

    Raises:
        FileNotFoundError: if the image is missing.
        ValueError: if it cannot be read, or a line of the label file is malformed.
    """
    if not image.is_file():
        raise FileNotFoundError(f"Image '{image}' is missing, but '{label_file}' is there; restore or unlist it.")
    size = read_image_size(image, DEFAULT_MAX_PIXELS)
    rows = []
    for number, boxes in sorted(read_yolo_file(label_file, size, names).items()):
        words = split_class_name(names[number])
        rows.append(
            {
                "id": f"{image.stem}-{'_'.join(words)}",
                "tokens": words,
                "ner_tags": encode_bio([(0, len(words), OBJECT)], len(words)),
                "image": str(image),
                "image_size": list(size),
                "entities": [{"start": 0, "end": len(words), "type": OBJECT, "boxes": boxes}],
                "knowledge": None,
            }
        )
    return rows


def read_yolo_file(path: Path, image_size: tuple[int, int], names: Mapping[int, str]) -> dict[int, list[Box]]:
    """Read the boxes of an image in pixels, by class.

    Args:
        path: the label file.
        image_size: `(width, height)` in pixels.
        names: the classes.

    Raises:
        ValueError: naming the line that is malformed.
    """
    found: dict[int, list[Box]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            label, fractions = _parse_line(line, where)
            if label not in names:
                raise ValueError(
                    f"{where}: class {label} is not one of the {len(names)} in `names`; add it there, or correct it."
                )
            found.setdefault(label, []).append(to_pixels(fractions, image_size, where))
    return found


def to_pixels(fractions: Sequence[float], image_size: tuple[int, int], where: str) -> Box:
    """Turn `cx cy w h` as fractions of an image into corners in pixels.

    What rounding puts outside, up to a pixel, is clipped.

    Raises:
        ValueError: if the box has no area, or leaves the image by more.
    """
    (cx, cy, w, h), (width, height) = fractions, image_size
    box = [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]
    limits = (width, height, width, height)
    clipped = [min(max(side, 0.0), float(limit)) for side, limit in zip(box, limits, strict=True)]
    if max(abs(side - kept) for side, kept in zip(box, clipped, strict=True)) > 1:
        raise ValueError(
            f"{where}: box {list(fractions)} leaves its image of {width} x {height} pixels by more than one; {WANTED}."
            " Clip the box, or divide it by the image's own size."
        )
    return check_area(clipped, where)


def _parse_line(line: str, where: str) -> tuple[int, list[float]]:
    fields = line.split()
    try:
        label, fractions = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError as error:
        raise ValueError(f"{where}: {line!r} holds something that is no number; {WANTED}. Correct it.") from error
    if len(fractions) != 4:
        raise ValueError(
            f"{where}: {line!r} has {len(fields)} values; {WANTED}. Outlines and scores are not read; turn outlines"
            " into boxes, and leave scores out."
        )
    if not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"{where}: {line!r} holds a value outside [0, 1]; {WANTED}. Divide pixels by its size.")
    return label, fractions


def _find_dataset_file(root: Path) -> Path | None:
    """Return `data.yaml`, or the only YAML file of the folder with `names` and `train`."""
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    candidates = [path for suffix in ("yaml", "yml") for path in sorted(root.glob(f"*.{suffix}"))]
    found = [path for path in candidates if not path.name.endswith(CLASSES_SUFFIX) and _is_dataset_file(path)]
    return found[0] if len(found) == 1 else None


def _is_dataset_file(path: Path) -> bool:
    try:
        return {"names", "train"} <= set(_read_yaml(path))
    except ValueError:
        return False


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({' '.join(str(error).split())}); expected `names: [...]`.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {content!r}; expected keys and values such as `names: [person, car]`.")
    return content


def _beside(classes_file: Path) -> tuple[Path, Path]:
    """Return the folders of images and of labels beside `<name>_classes.yaml`."""
    name = classes_file.name.removesuffix(CLASSES_SUFFIX)
    return classes_file.with_name(name), classes_file.with_name(f"{name}_labels")


def _list_ultralytics(path: Path) -> dict[str, YoloImages]:
    """Return the images that `train`, `val` and `test` of a data set file name; without them, `images/<split>`."""
    content = _read_yaml(path)
    roots = [path.parent / str(content.get("path") or "."), path.parent]
    named = {split: content.get(key) for split, key in SPLIT_KEYS.items()}
    if not any(named.values()):
        named = {
            split: f"images/{key}" for split, key in SPLIT_KEYS.items() if (path.parent / "images" / key).is_dir()
        }
        named = named or {"train": "images"}
    splits = {}
    for split, entries in named.items():
        if entries:
            places = [_locate(str(entry), roots, path, split) for entry in _as_list(entries)]
            images = [image for place in places for image in _list_images(place, roots[0])]
            splits[split] = YoloImages(places[0], tuple((image, _label_file(image)) for image in images))
    return splits


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _locate(entry: str, roots: Sequence[Path], path: Path, split: str) -> Path:
    # Exports of Roboflow say `../train/images` of a folder beside the file.
    places = [root / name for root in roots for name in (entry, entry.removeprefix("../"))]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"{path}: `{SPLIT_KEYS[split]}: {entry}` does not exist; expected a folder of images, or a file that lists"
        f" them, such as '{places[0]}'. Correct the entry, or `path`."
    )


def _list_images(place: Path, root: Path | None = None) -> list[Path]:
    """Return the images of a folder and its folders, sorted, or those that a file lists, in its order."""
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    lines = [line.strip() for line in place.read_text(encoding="utf-8").splitlines()]
    near = place.parent
    return [(near if line.startswith("./") else root or near) / line for line in lines if line]


def _label_file(image: Path) -> Path:
    """Return the label file of an image: `labels` for the last folder `images` of its path, or beside it."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")
