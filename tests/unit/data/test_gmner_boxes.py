from __future__ import annotations

import pytest

from hf_mner.data.boxes import check_box
from hf_mner.data.gmner_boxes import collect_boxes, read_boxes_jsonl, read_voc_file

OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def voc(*objects, size=(100, 80)):
    parts = "".join(OBJECT.format(name, *box) for name, *box in objects)
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{parts}</annotation>"


def test_objects_of_one_name_are_boxes_of_one_entity(write_file):
    path = write_file("1.xml", voc(("Steve Kerr", 0, 0, 10, 10), ("Steve Kerr", 20, 0, 100, 80), ("NBA", 1, 2, 3, 4)))
    annotation = read_voc_file(path)
    tokens = ["Steve", "Kerr", "of", "the", "NBA", "and", "Kerr"]
    assert annotation.image_size == (100, 80)
    assert annotation.find(tokens, 0, 2) == [[0, 0, 10, 10], [20, 0, 100, 80]]
    assert annotation.find(tokens, 4, 5) == [[1, 2, 3, 4]]
    assert annotation.find(tokens, 6, 7) == []  # no object of that very name: not in the image


def test_escaped_names_are_unescaped_once(write_file):
    annotation = read_voc_file(write_file("1.xml", voc(("Fox &amp;amp ; Co", 0, 0, 1, 1))))
    assert list(annotation.by_name) == ["Fox &amp ; Co"]


def test_a_size_of_zero_is_no_size(write_file):
    annotation = read_voc_file(write_file("1.xml", voc(("a", 0, 0, 900, 900), size=(0, 0))))
    assert annotation.image_size is None
    assert annotation.by_name["a"] == [[0, 0, 900, 900]]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((5, 0, 5, 10), r"object 'a': box \[5.0, 0.0, 5.0, 10.0\] has no area; expected xmin < xmax"),
        ((0, 9, 5, 3), "has no area"),
        ((0, 0, 101, 10), "leaves its image of width 100 and height 80; clip"),
        ((-1, 0, 5, 10), "leaves its image"),
        (("x", 0, 5, 10), "is not a box; expected four numbers"),
        (("nan", 0, 5, 10), "is not a box; expected four numbers"),
    ],
)
def test_bad_boxes(write_file, box, message):
    with pytest.raises(ValueError, match=message):
        read_voc_file(write_file("1.xml", voc(("a", *box))))


def test_the_whole_image_is_a_box():
    assert check_box((0, 0, 100, 80), (100, 80), "x") == [0, 0, 100, 80]


def test_unreadable_xml_names_the_file(write_file):
    path = write_file("1.xml", "<annotation><object>")
    with pytest.raises(ValueError, match=r"1\.xml: not a readable XML file"):
        read_voc_file(path)
    with pytest.raises(ValueError, match="an <object> without <name>"):
        read_voc_file(write_file("2.xml", "<annotation><object/></annotation>"))


def test_boxes_jsonl_by_name_and_by_words(write_file):
    by_name = '{"id": "1", "name": "Kerr", "boxes": [[0, 0, 5, 5]]}'
    by_words = '{"id": "1", "start": 2, "end": 3, "boxes": [[1, 1, 2, 2]]}'
    path = write_file("boxes.jsonl", f"{by_name}\n\n{by_words}\n")
    annotation = collect_boxes(read_boxes_jsonl(path)["1"], (10, 10), path, "1")
    assert annotation.find(["Kerr", "and", "Love"], 0, 1) == [[0, 0, 5, 5]]
    assert annotation.find(["Kerr", "and", "Love"], 2, 3) == [[1, 1, 2, 2]]
    with pytest.raises(ValueError, match="boxes are given for 'Kerr', which is no entity"):
        annotation.check_all_found(["Kerr", "and", "Love"], [(2, 3)], "here")
    with pytest.raises(ValueError, match="id '1', Kerr: box .* leaves its image"):
        collect_boxes(read_boxes_jsonl(path)["1"], (4, 4), path, "1")


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 1, "name": "a"}', '{"id": 1, "start": 1, "boxes": []}'])
def test_bad_jsonl_lines(write_file, line):
    with pytest.raises(ValueError, match=r"boxes\.jsonl, line 1: .*expected"):
        read_boxes_jsonl(write_file("boxes.jsonl", line))
