from __future__ import annotations

import logging

import pytest

from hf_mner.data import count_dataset, label_file_hash, load_mner_dataset
from hf_mner.data.yolo_labels import find_yolo, read_class_names, read_yolo_file, to_pixels

CLASSES = "names:\n  0: person\n  1: traffic light\n  7: hair_drier\n"


@pytest.fixture
def coco(write_file, write_image, tmp_path):
    """Eight photographs in the layout of the shared data: a person in each, and two lights in the first."""
    write_file("images/coco_classes.yaml", f"path: .\ntrain: nowhere\n{CLASSES}")
    for number in range(8):
        write_image(f"images/coco/{number}.jpg", size=(200, 100))
        write_file(f"images/coco_labels/{number}.txt", "0 0.5 0.5 0.5 1.0\n")
    write_file("images/coco_labels/0.txt", "1 0.25 0.5 0.5 0.2\n0 0.5 0.5 0.5 1.0\n\n1 0.9 0.5 0.2 0.2\n")
    return tmp_path


@pytest.fixture
def ultralytics(write_file, write_image, tmp_path):
    write_file("data.yaml", "path: set\ntrain: images/train\nval: [images/val]\nnames: [person, dog]\n")
    for split, count in {"train": 3, "val": 2}.items():
        for number in range(count):
            write_image(f"set/images/{split}/{split}{number}.png", size=(10, 20))
            write_file(f"set/labels/{split}/{split}{number}.txt", "1 0.5 0.5 1 0.5\n")
    return tmp_path


def test_an_image_gives_one_phrase_for_each_class(coco):
    dataset = load_mner_dataset("yolo", coco)
    person, light = dataset["train"][0], dataset["train"][1]
    assert (person["id"], person["tokens"], person["image_size"]) == ("0-person", ["person"], [200, 100])
    assert person["entities"] == [{"start": 0, "end": 1, "type": "object", "boxes": [[50, 0, 150, 100]]}]
    assert person["image"].size == (200, 100)
    assert (light["id"], light["tokens"]) == ("0-traffic_light", ["traffic", "light"])
    assert light["ner_tags"] == [1, 2]
    assert light["entities"][0]["boxes"] == [[0, 40, 100, 60], [160, 40, 200, 60]]
    assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-object", "I-object"]


def test_every_fourth_image_is_for_the_test(coco):
    dataset = load_mner_dataset("yolo", coco)
    assert list(dataset) == ["train", "test"]
    assert dataset["test"]["id"][:] == ["3-person", "7-person"]
    assert len(set(dataset["train"]["id"])) == 7


def test_published_photographs(load_published):
    dataset = load_published("yolo")
    images = {split: {row_id.split("-")[0] for row_id in rows["id"]} for split, rows in dataset.items()}
    assert {split: len(ids) for split, ids in images.items()} == {"train": 96, "test": 32}
    assert not images["train"] & images["test"]
    assert sum(split["boxes"] for split in count_dataset(dataset).values()) == 898


def test_the_usual_layout(ultralytics, write_image, write_file):
    dataset = load_mner_dataset("yolo", ultralytics)
    assert {split: rows.num_rows for split, rows in dataset.items()} == {"train": 3, "validation": 2}
    assert dataset["validation"]["entities"][0][0]["boxes"] == [[0, 5, 10, 15]]
    write_image("set/images/train/background.png")
    write_file("set/labels/train/train0.txt", "")
    assert load_mner_dataset("yolo", ultralytics)["train"].num_rows == 2  # images without labels are no examples


@pytest.mark.parametrize(
    "content",
    [
        "names: [person, dog]",  # folders of the usual names
        "train: ../images/train\nval: ../images/val\nnames: {0: person, 1: dog}",  # as Roboflow writes it
        "train: train.txt\nval: images/val\nnames: [person, dog]",
    ],
)
def test_ways_to_name_images(ultralytics, write_file, content):
    write_file("set/data.yaml", content)
    write_file("set/train.txt", "./images/train/train1.png\nimages/train/train0.png\n\n./images/train/train2.png\n")
    dataset = load_mner_dataset("yolo", ultralytics / "set")
    assert {split: rows.num_rows for split, rows in dataset.items()} == {"train": 3, "validation": 2}


def test_one_group_of_images_under_two_names_is_split(ultralytics, write_file):
    write_file("data.yaml", "train: set/images\nval: set/images\nnames: [person, dog]\n")
    assert {s: rows["id"][:] for s, rows in load_mner_dataset("yolo", ultralytics).items()} == {
        "train": ["train0-dog", "train1-dog", "train2-dog", "val1-dog"],
        "test": ["val0-dog"],
    }


def test_a_changed_label_changes_the_hash(coco, write_file):
    before = label_file_hash("yolo", coco)
    assert label_file_hash("yolo", coco) == before
    write_file("images/coco_labels/5.txt", "0 0.5 0.5 0.5 0.9\n")
    assert label_file_hash("yolo", coco) != before


def test_rounding_is_clipped_and_more_is_refused():
    assert to_pixels([0.5, 0.5, 1.0, 1.000004], (640, 480), "x") == [0, 0, 640, 480]
    assert to_pixels([0.999, 0.5, 0.005, 1.0], (640, 480), "x")[2] == 640  # 0.96 pixels outside
    with pytest.raises(ValueError, match=r"x: box .* leaves its image of 640 x 480 pixels by more than one"):
        to_pixels([0.99, 0.5, 0.1, 1.0], (640, 480), "x")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", r"'0 0.5 0.5 0.5' has 4 values; expected `class cx cy w h`"),
        ("0 0 0 0 1 1 1", "turn outlines into boxes"),
        ("person 0.5 0.5 0.5 0.5", "holds something that is no number"),
        ("0 320 240 64 48", r"holds a value outside \[0, 1\]; .* Divide pixels"),
        ("0 nan 0.5 0.5 0.5", r"outside \[0, 1\]"),
        ("9 0.5 0.5 0.5 0.5", r"class 9 is not one of the 1 in `names`; add it there"),
        ("0 0.5 0.5 0 0.5", "has no area"),
    ],
)
def test_bad_lines_are_named(write_file, line, message):
    path = write_file("1.txt", f"0 0.5 0.5 0.5 0.5\n{line}\n")
    with pytest.raises(ValueError, match=rf"1\.txt, line 2.*{message}"):
        read_yolo_file(path, (10, 10), {0: "person"})


def test_a_bad_file_stops_or_is_skipped(coco, write_file, caplog):
    write_file("images/coco_labels/1.txt", "8 0.5 0.5 0.5 0.5\n")
    write_file("images/coco/2.jpg", b"no image")
    with pytest.raises(ValueError, match=r"1\.txt, line 1: class 8"):
        load_mner_dataset("yolo", coco)
    with caplog.at_level(logging.WARNING):
        rows = load_mner_dataset("yolo", coco, on_error="skip")["train"]
    assert {row_id[0] for row_id in rows["id"]} == {"0", "4", "5", "6"}
    assert "2.jpg cannot be decoded" in caplog.text


def test_a_listed_image_that_is_missing(ultralytics):
    (ultralytics / "set/images/train/train0.png").unlink()
    (ultralytics / "data.yaml").write_text("path: set\ntrain: t.txt\nval: images/val\nnames: [person, dog]\n")
    (ultralytics / "set/t.txt").write_text("images/train/train0.png\nimages/train/train1.png\n")
    with pytest.raises(FileNotFoundError, match=r"train0\.png' is missing, but .*train0\.txt' is there"):
        load_mner_dataset("yolo", ultralytics)
    assert load_mner_dataset("yolo", ultralytics, on_error="skip")["train"]["id"][:] == ["train1-dog"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: person", "`names` is 'person'; expected the classes"),
        ("nc: 80", "`names` is None"),
        ("names: [person, yes]", "`names` holds 1: True; expected a number and a name. Quote it"),
        ("names: {a: person}", "`names` holds 'a': 'person'"),
        ("names: [", "not YAML"),
        ("- person", "expected keys and values"),
    ],
)
def test_bad_classes_are_named(write_file, content, message):
    with pytest.raises(ValueError, match=message):
        read_class_names(write_file("data.yaml", content))


def test_missing_parts_are_named(coco, ultralytics, write_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no set in YOLO's format; expected 'data\.yaml'"):
        find_yolo(tmp_path / "set")
    write_file("data.yaml", "train: nowhere/images\nnames: [person]")
    with pytest.raises(FileNotFoundError, match=r"data\.yaml: `train: nowhere/images` does not exist"):
        find_yolo(ultralytics)
    (tmp_path / "data.yaml").unlink()
    for name in ("more_classes.yaml", "more/1.txt", "more_labels/1.txt"):
        write_file(name, CLASSES)
    with pytest.raises(ValueError, match="holds several sets in YOLO's format"):
        find_yolo(coco)


@pytest.mark.parametrize("option", [{"image_dir": "."}, {"granularity": "fine"}, {"knowledge": ["blip2_captions"]}])
def test_options_of_other_sets_are_refused(coco, option):
    with pytest.raises(ValueError, match=next(iter(option)) if "knowledge" not in option else "is not published"):
        load_mner_dataset("yolo", coco, **option)
