"""What the image sources find in real photographs, and how long they take.

    python -m benchmarks.image_sources --data-dir DATA --weights WEIGHTS \
        --output results/knowledge/image_sources.json --contact-sheet docs/image_sources.png

`DATA/images` holds 128 photographs of COCO val2017 with their boxes, images of tweets, other photographs, and files of
VinVL; `WEIGHTS` holds YOLOX-nano (ONNX), DeepLabV3 and MobileNetV2. Seconds are of one thread (OMP_NUM_THREADS=1),
with the images decoded before. A gold box counts as found if a detection overlaps it by half (IoU); each detection
finds one box, the best ones choose first.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contact_sheet import Panel, draw_sheet
from benchmarks.timing import report, seconds
from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge import ImageClassifier, OcrText, OnnxDetector, SegmentationObjects, VinvlObjects
from hf_mner.knowledge.coco_classes import COCO_CLASSES
from hf_mner.knowledge.detections import overlaps

Gold = list[tuple[str, list[float]]]  # label and box of each thing in a photograph

VOC_NAMES = {  # where the label of DeepLab's data differs from COCO's
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
IMAGENET_CLASSES = {  # the numbers of ImageNet's classes that are this thing, first and last
    "dog": [(151, 268)],
    "cat": [(281, 285)],
    "bear": [(294, 297)],
    "zebra": [(340, 340)],
    "elephant": [(101, 101), (385, 386)],
    "bus": [(654, 654), (779, 779), (874, 874)],
    "train": [(466, 466), (547, 547), (565, 565), (705, 705), (820, 820), (829, 829)],
    "airplane": [(404, 404), (895, 895)],
    "pizza": [(963, 963)],
    "toilet": [(861, 861)],
    "broccoli": [(937, 937)],
    "stop sign": [(919, 919)],
    "umbrella": [(879, 879)],
}


def read_coco(folder: Path) -> tuple[list[MnerExample], list[Gold]]:
    """Return the photographs as examples, and what is in them."""
    examples: list[MnerExample] = []
    golds = []
    for path in sorted((folder / "coco").iterdir()):
        image = load_rgb_image(path)
        examples.append({"id": path.stem, "tokens": [], "image": image})
        golds.append(read_labels(folder / "coco_labels" / f"{path.stem}.txt", image.size))
    return examples, golds


def read_labels(path: Path, size: tuple[int, int]) -> Gold:
    """Read boxes in YOLO's format (class, centre, sides, in fractions of the image) as corners in pixels."""
    gold = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        number, *fractions = line.split()
        x, y, width, height = (float(part) * side for part, side in zip(fractions, size * 2, strict=True))
        gold.append((COCO_CLASSES[int(number)], [x - width / 2, y - height / 2, x + width / 2, y + height / 2]))
    return gold


def count_found(gold: Gold, objects: Sequence[Any], needs_label: bool) -> int:
    """Return how many gold boxes are found, each by a detection of its own."""
    boxes, open_boxes = np.array([box for _, box in gold]).reshape(-1, 4), set(range(len(gold)))
    for item in objects:  # best first
        ious = overlaps(np.array(item["box"]), boxes)
        fitting = [
            index
            for index in open_boxes
            if ious[index] >= 0.5 and (not needs_label or gold[index][0] == item["label"])
        ]
        if fitting:
            open_boxes.remove(max(fitting, key=lambda index: ious[index]))
    return len(gold) - len(open_boxes)


def detection_scores(golds: list[Gold], found: list[Any]) -> dict[str, float | int]:
    """Return recall and precision over all photographs."""
    pairs = list(zip(golds, found, strict=True))
    hits = sum(count_found(gold, objects, needs_label=True) for gold, objects in pairs)
    boxes, detections = sum(map(len, golds)), sum(map(len, found))
    return {
        "gold_boxes": boxes,
        "detections": detections,
        "recall": round(hits / boxes, 4),
        "recall_any_label": round(sum(count_found(*pair, needs_label=False) for pair in pairs) / boxes, 4),
        "precision": round(hits / max(detections, 1), 4),
    }


def run_detector(path: Path, examples: list[MnerExample], golds: list[Gold]) -> dict[str, Any]:
    """Score YOLOX at several thresholds, with many objects, and as the source is by default."""
    result: dict[str, Any] = {}
    for threshold in (0.1, 0.3, 0.5):
        detector = OnnxDetector(path, threshold=threshold, max_objects=100)
        result[f"threshold_{threshold}"] = detection_scores(golds, detector(examples))
    default = OnnxDetector(path)
    result["default"] = detection_scores(golds, default(examples))
    result["images_per_second"] = round(len(examples) / seconds(lambda: default(examples)), 1)
    return result


def run_segmentation(path: Path, examples: list[MnerExample], golds: list[Gold]) -> dict[str, Any]:
    """Score the areas of DeepLab on the things that it was trained on, and on the large ones of them."""
    source = SegmentationObjects(str(path), device="cpu")
    found: list[Any] = []
    took = seconds(lambda: found.extend(source(examples)))
    named = [[{**item, "label": VOC_NAMES.get(item["label"], item["label"])} for item in objects] for objects in found]
    labels = set(source._model.config.id2label.values())
    known = {VOC_NAMES.get(label, label) for label in labels}
    golds = [[thing for thing in gold if thing[0] in known] for gold in golds]
    alone = [[thing for thing in gold if Counter(label for label, _ in gold)[thing[0]] == 1] for gold in golds]
    return {
        "voc_classes": detection_scores(golds, named),
        "voc_classes_one_of_a_kind": {
            name: value
            for name, value in detection_scores(alone, named).items()
            if "recall" in name or name == "gold_boxes"
        },
        "images_per_second": round(len(examples) / took, 2),
    }


def run_classifier(path: Path, examples: list[MnerExample], golds: list[Gold]) -> dict[str, Any]:
    """Count how often the best class is that of a thing which fills a quarter of the photograph or more."""
    source = ImageClassifier(str(path), threshold=0.0, max_objects=1, device="cpu")
    found: list[Any] = []
    took = seconds(lambda: found.extend(source(examples)))
    names = source._model.config.id2label  # number 0 is the background
    total = right = 0
    for example, gold, objects in zip(examples, golds, found, strict=True):
        label = main_thing(gold, example["image"].size)
        if label in IMAGENET_CLASSES:
            ranges = IMAGENET_CLASSES[label]
            wanted = {names[number + 1].split(",")[0] for first, last in ranges for number in range(first, last + 1)}
            total, right = total + 1, right + (objects[0]["label"] in wanted)
    return {"photographs": total, "right": right, "images_per_second": round(len(examples) / took, 1)}


def main_thing(gold: Gold, size: tuple[int, int]) -> str | None:
    """Return the label of the largest box if it fills a quarter of the photograph."""
    areas = [((box[2] - box[0]) * (box[3] - box[1]), label) for label, box in gold]
    area, label = max(areas, default=(0.0, ""))
    return label if area >= size[0] * size[1] / 4 else None


def run_ocr(source: OcrText, examples: list[MnerExample]) -> tuple[dict[str, Any], list[str | None]]:
    """Count images with writing; a single character is mostly a pattern taken for one."""
    texts: list[str | None] = []
    took = seconds(lambda: texts.extend(source(examples)))
    lengths = [len((text or "").replace(" ", "")) for text in texts]
    result = {
        "images": len(examples),
        "with_writing": sum(length > 0 for length in lengths),
        "with_two_characters": sum(length > 1 for length in lengths),
        "median_characters": float(np.median([length for length in lengths if length] or [0])),
        "seconds_per_image": round(took / len(examples), 2),
    }
    return result, texts


def read_folder(folder: Path) -> list[MnerExample]:
    """Return all images below a folder as examples."""
    suffixes = {".jpg", ".jpeg", ".png", ".bmp"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return [{"id": path.stem, "tokens": [], "image": load_rgb_image(path)} for path in paths]


def run_vinvl(folder: Path) -> dict[str, Any]:
    """Read the objects of all files."""
    source, with_attributes = VinvlObjects(folder), VinvlObjects(folder, labels="attributes")
    examples: list[MnerExample] = [{"id": path.name.split(".")[0], "tokens": []} for path in sorted(folder.iterdir())]
    found: list[Any] = []
    took = seconds(lambda: found.extend(source(examples)))
    return {
        "images": len(examples),
        "objects": [len(objects) for objects in found],
        "best": [objects[0]["label"] for objects in with_attributes(examples) if objects],
        "milliseconds_per_image": round(1e3 * took / len(examples), 1),
    }


def choose_panels(examples: list[MnerExample], found: list[Any], texts: list[str | None]) -> list[Panel]:
    """Return six photographs with much writing, then six of the rest with many kinds of things.

    The sheet's font has no Chinese; photographs in which the OCR reads any are left out.
    """
    drawable = [index for index, text in enumerate(texts) if (text or "").isascii()]
    writing = sorted(drawable, key=lambda index: -len(texts[index] or ""))[:6]
    kinds = {index: len({item["label"] for item in found[index]}) for index in drawable}
    things = sorted(set(kinds) - set(writing), key=lambda index: (-kinds[index], index))[:6]
    return [
        Panel(examples[index]["image"], found[index], f"Writing: {texts[index]}" if texts[index] else "No writing.")
        for index in [*writing, *things]
    ]


def main() -> None:
    """Run all sources and write the numbers and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contact-sheet", type=Path)
    options = parser.parse_args()
    images, weights = options.data_dir / "images", options.weights
    examples, golds = read_coco(images)
    detector, reader = weights / "yolox_nano" / "yolox_nano.onnx", OcrText()
    reader(examples[:1])  # opens its models
    photographs, texts = run_ocr(reader, examples)
    others, other_texts = run_ocr(reader, others_examples := read_folder(images / "photos"))
    result = {
        "threads": torch.get_num_threads(),
        "yolox_nano": run_detector(detector, examples, golds),
        "deeplabv3_mobilenet_v2": run_segmentation(weights / "deeplabv3_mobilenet_v2_pascal-hf", examples, golds),
        "mobilenet_v2": run_classifier(weights / "mobilenet_v2_1.0_224-hf", examples, golds),
        "ocr": {
            "coco": photographs,
            "photos": {
                **others,
                "texts": {str(e["id"]): t for e, t in zip(others_examples, other_texts, strict=True)},
            },
            "tweets": run_ocr(reader, read_folder(images / "twitter"))[0],
        },
        "vinvl": run_vinvl(images / "vinvl"),
    }
    report(result, options.output)
    if options.contact_sheet:
        found = OnnxDetector(detector, threshold=0.4)(examples)
        footer = "Photographs: COCO val2017, CC-BY 4.0. Boxes: YOLOX-nano, score of at least 0.4. Writing: PP-OCR."
        draw_sheet(choose_panels(examples, found, texts), footer, options.contact_sheet)


if __name__ == "__main__":
    main()
