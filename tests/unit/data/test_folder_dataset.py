from __future__ import annotations

import pytest

from hf_mner.data import load_mner_dataset

TRAIN = "IMGID:1\nKerr\tB-PER\nmeets\tO\nKerr\tB-PER\n\nno\tO\nimage\tB-GADGET\n"


def test_any_subset_of_splits_with_images_and_boxes(write_file, write_image, tmp_path):
    write_file("train.txt", TRAIN)
    write_file("dev.txt", "a O\nb B-LOC\n")
    write_image("images/1.png", size=(20, 10))
    write_file("boxes.jsonl", '{"id": "1", "start": 2, "end": 3, "boxes": [[0, 0, 20, 10]]}\n')
    dataset = load_mner_dataset("folder", tmp_path)
    assert list(dataset) == ["train", "validation"]
    names = dataset["train"].features["ner_tags"].feature.names
    assert names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-GADGET", "I-GADGET"]
    assert dataset["validation"].features == dataset["train"].features
    first, second = dataset["train"][0], dataset["train"][1]
    assert [entity["boxes"] for entity in first["entities"]] == [[], [[0, 0, 20, 10]]]
    assert (first["image"].size, first["image_size"]) == ((20, 10), [20, 10])
    assert (second["id"], second["image"], second["image_size"]) == ("folder-train-1", None, None)


def test_pascal_voc_boxes_and_other_becomes_misc(write_file, tmp_path):
    write_file("test.txt", "IMGID:1\nBig\tB-OTHER\nBen\tI-OTHER\n")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    write_file("xml/1.xml", f"<annotation><object><name>Big Ben</name>{box}</object></annotation>")
    (row,) = load_mner_dataset("folder", tmp_path)["test"]
    assert row["entities"] == [{"start": 0, "end": 2, "type": "MISC", "boxes": [[1, 2, 3, 4]]}]
    (row,) = load_mner_dataset("folder", tmp_path, unify_types=False)["test"]
    assert row["entities"][0]["type"] == "OTHER"
    write_file("boxes.jsonl", "")
    with pytest.raises(ValueError, match=r"both boxes\.jsonl and xml/; keep one"):
        load_mner_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"id": "9", "name": "Kerr", "boxes": []}', r"id '9' \(1 in all\) is on no IMGID line"),
        ('{"id": "1", "name": "Curry", "boxes": []}', r"given for 'Curry', which is no entity .*\['Kerr', 'Kerr'\]"),
        ('{"id": "1", "start": 0, "end": 2, "boxes": []}', r"given for \(0, 2\), which is no entity"),
        ('{"id": "1", "name": "Kerr", "boxes": [[0, 0, 21, 5]]}', "id '1', Kerr: box .* leaves its image of width 20"),
        ('{"id": "1", "name": "Kerr", "boxes": [[5, 0, 5, 5]]}', "has no area"),
        ('{"id": "1", "name": "Kerr", "boxes": [3]}', "3 is not a box; expected four numbers"),
    ],
)
def test_boxes_that_fit_nothing(write_file, write_image, tmp_path, record, message):
    write_file("train.txt", TRAIN)
    write_image("images/1.png", size=(20, 10))
    write_file("boxes.jsonl", record)
    with pytest.raises(ValueError, match=message):
        load_mner_dataset("folder", tmp_path)


def test_types_that_fall_together(write_file, tmp_path):
    write_file("train.txt", "a\tB-OTHER\nb\tB-MISC\n")
    with pytest.raises(ValueError, match="pass `unify_types=False`"):
        load_mner_dataset("folder", tmp_path)
    assert load_mner_dataset("folder", tmp_path, unify_types=False)["train"].num_rows == 1


def test_a_folder_without_or_with_two_label_files(write_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected at least one of train\.txt, validation\.txt"):
        load_mner_dataset("folder", tmp_path)
    write_file("valid.txt", TRAIN)
    write_file("dev.txt", TRAIN)
    with pytest.raises(ValueError, match=r"has valid\.txt and dev\.txt for validation; keep one"):
        load_mner_dataset("folder", tmp_path)


def test_bad_rows_of_a_folder(write_file, tmp_path):
    write_file("train.txt", "a\tB-PER\n\nb\n\nc\tNONSENSE\n")
    with pytest.raises(ValueError, match="line 3: 'b' has 1 filled column"):
        load_mner_dataset("folder", tmp_path)
    assert load_mner_dataset("folder", tmp_path, on_error="skip")["train"]["tokens"][:] == [["a"]]


def test_folder_has_no_published_knowledge(write_file, tmp_path):
    write_file("train.txt", TRAIN)
    assert load_mner_dataset("folder", tmp_path, knowledge=[])["train"].num_rows == 2
    with pytest.raises(ValueError, match=r"not published for 'folder'; what there is: knowledge\.jsonl"):
        load_mner_dataset("folder", tmp_path, knowledge=["chatgpt"])
    with pytest.raises(FileNotFoundError, match=r"knowledge\.jsonl' is missing; put the file .* or leave it out of"):
        load_mner_dataset("folder", tmp_path, knowledge=["knowledge.jsonl"])


def test_knowledge_of_a_folder(write_file, tmp_path):
    write_file("train.txt", TRAIN)
    write_file("test.txt", "IMGID:2\na\tO\n\nIMGID:2\nb\tO\n\nIMGID:3\nc\tO\n\nIMGID:4\nd\tO\n")
    write_file(
        "knowledge.jsonl",
        '{"id": "1", "caption": "a man", "auxiliary": "a coach", "similarity": 0.5, "encyclopedia":'
        ' [{"mention": "Kerr", "text": "a coach"}]}\n\n{"id": 2, "objects":'
        ' [{"label": "cup", "box": [0, 0, 5, 5], "score": 1}]}\n{"id": "3"}\n',
    )
    dataset = load_mner_dataset("folder", tmp_path)
    assert dataset["train"]["knowledge"][:] == [
        {
            "caption": "a man",
            "auxiliary": "a coach",
            "ocr": None,
            "similarity": 0.5,
            "objects": None,
            "encyclopedia": [{"mention": "Kerr", "title": None, "text": "a coach", "rule": None, "source": None}],
            "sources": None,
        },
        None,
    ]
    first, second, third, fourth = dataset["test"]["knowledge"]
    cup = {"label": "cup", "box": [0, 0, 5, 5], "score": 1, "caption": None, "similarity": None}
    nothing = dict.fromkeys(("caption", "auxiliary", "ocr", "similarity", "encyclopedia", "sources"))
    assert first == second == {**nothing, "objects": [cup]}
    assert (third, fourth) == (None, None)
    named = load_mner_dataset("folder", tmp_path, knowledge=["knowledge.jsonl"])
    assert named["test"]["knowledge"][:] == dataset["test"]["knowledge"][:]
    assert load_mner_dataset("folder", tmp_path, knowledge=[])["test"]["knowledge"][:] == [None] * 4


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("a man", r"knowledge\.jsonl, line 2: b'a man' is not JSON .*; expected \{\"id\": \.\.\., \"caption\""),
        ('["1"]', "line 2: .* is no object with an `id`; expected"),
        ('{"caption": "a man"}', "line 2: .* is no object with an `id`; expected"),
        ('{"id": "9"}', r"line 2: id '9' is on no IMGID line; correct the id"),
        ('{"id": "1"}', "line 2: id '1' stands on line 1 already; keep one"),
        ('{"id": "2", "captions": "a"}', r"line 2: `knowledge` has parts that nothing reads: \['captions'\]"),
        ('{"id": "2", "similarity": 31}', r"line 2: `knowledge\['similarity'\]` is 31; expected a number"),
        ('{"id": "2", "objects": [{"label": "cup", "box": [0, 0, 21, 5]}]}', "line 2: Object 'cup': .* leaves its"),
    ],
)
def test_knowledge_that_fits_nothing(write_file, write_image, tmp_path, record, message):
    write_file("train.txt", TRAIN + "\nIMGID:2\na\tO\n")
    write_image("images/2.png", size=(20, 10))
    write_file("knowledge.jsonl", '{"id": "1", "caption": "a man"}\n' + record)
    with pytest.raises(ValueError, match=message):
        load_mner_dataset("folder", tmp_path)
