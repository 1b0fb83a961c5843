from __future__ import annotations

import logging

import pytest

from hf_mner.data import count_dataset, label_file_hash, load_mner_dataset
from hf_mner.data.flickr30k_entities import parse_caption, read_flickr30k_boxes

CAPTIONS = """\
[/EN#40120/people A man] in [/EN#40123/clothing a blue shirt] stands on [/EN#40124/other/instruments a ladder] .
[/EN#40120/people Someone] in [/EN#0/notvisual the midst] of [/EN#40126/scene a street] .
A quiet day .
"""
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
ANNOTATION = f"""\
<annotation>
  <filename>36979.jpg</filename>
  <size><width>50</width><height>40</height><depth>3</depth></size>
  <object><name>40120</name>{BOX.format(1, 1, 20, 40)}</object>
  <object><name>40120</name><name>40123</name>{BOX.format(11, 6, 50, 30)}</object>
  <object><name>40124</name><nobndbox>1</nobndbox><scene>0</scene></object>
  <object><name>40126</name><nobndbox>0</nobndbox><scene>1</scene></object>
</annotation>
"""


@pytest.fixture
def flickr(write_file, write_image, tmp_path):
    """Three images, one for each split; the last one's file is not at hand."""
    for split, image_id in {"train": "36979", "val": "7", "test": "8"}.items():
        write_file(f"flickr30k_entities/{split}.txt", f"{image_id}\n")
        write_file(f"flickr30k_entities/Sentences/{image_id}.txt", CAPTIONS)
        write_file(f"flickr30k_entities/Annotations/{image_id}.xml", ANNOTATION)
    for image_id in ("36979", "7"):
        write_image(f"flickr30k_entities/flickr30k-images/{image_id}.jpg", size=(50, 40))
    return tmp_path


def test_each_caption_is_an_example_and_each_phrase_an_entity(flickr):
    rows = load_mner_dataset("flickr30k_entities", flickr)["train"]
    first, second, third = rows[0], rows[1], rows[2]
    assert rows["id"][:] == ["36979#0", "36979#1", "36979#2"]
    assert " ".join(first["tokens"]) == "A man in a blue shirt stands on a ladder ."
    man, shirt = [[0, 0, 20, 40], [10, 5, 50, 30]], [[10, 5, 50, 30]]
    assert first["entities"] == [
        {"start": 0, "end": 2, "type": "people", "boxes": man},  # a box of two chains is a box of each
        {"start": 3, "end": 6, "type": "clothing", "boxes": shirt},
        {"start": 8, "end": 10, "type": "other", "boxes": []},  # the first of two types
    ]
    assert [entity["boxes"] for entity in second["entities"]] == [man, [], []]
    assert [entity["type"] for entity in second["entities"]] == ["people", "notvisual", "scene"]
    assert (third["tokens"], third["entities"]) == (["A", "quiet", "day", "."], [])
    assert (first["image"].size, first["image_size"]) == ((50, 40), [50, 40])
    names = rows.features["ner_tags"].feature.int2str
    assert names(first["ner_tags"])[:4] == ["B-people", "I-people", "O", "B-clothing"]


def test_missing_images_are_none_and_boxes_stay(flickr):
    dataset = load_mner_dataset("flickr30k_entities", flickr)
    assert list(dataset) == ["train", "validation", "test"]
    assert (dataset["test"][0]["image"], dataset["test"][0]["image_size"]) == (None, [50, 40])
    counts = count_dataset(dataset)["test"]
    assert (counts["images"], counts["entities"], counts["groundable"], counts["boxes"]) == (0, 6, 3, 5)


@pytest.mark.parametrize("place", ["flickr30k-images", "flickr30k_images/flickr30k_images", "images/flickr30k-images"])
def test_images_lie_where_users_put_them(flickr, write_image, place):
    write_image(f"{place}/8.jpg", size=(50, 40))
    assert load_mner_dataset("flickr30k_entities", flickr)["test"][0]["image"].size == (50, 40)
    rows = load_mner_dataset("flickr30k_entities", flickr / "flickr30k_entities", image_dir=flickr / place)
    assert rows["train"][0]["image"] is None
    assert rows["test"][0]["image"] is not None


def test_an_image_of_another_size_is_refused(flickr, write_image):
    write_image("flickr30k_entities/flickr30k-images/7.jpg", size=(25, 20))
    with pytest.raises(ValueError, match=r"7\.jpg' is 25 x 20 pixels, but the boxes of .* are for \(50, 40\)"):
        load_mner_dataset("flickr30k_entities", flickr)


def test_the_hash_sees_captions_boxes_and_splits(flickr, write_file):
    hashes = {label_file_hash("flickr30k_entities", flickr)}
    write_file("flickr30k_entities/Sentences/7.txt", "A dog .\n")
    hashes.add(label_file_hash("flickr30k_entities", flickr))
    write_file("flickr30k_entities/Annotations/7.xml", ANNOTATION.replace("<xmin>1<", "<xmin>2<"))
    hashes.add(label_file_hash("flickr30k_entities", flickr))
    write_file("flickr30k_entities/val.txt", "8\n")
    hashes.add(label_file_hash("flickr30k_entities", flickr))
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[/EN#1/people A man", "the phrase of chain 1 does not end; expected phrases such as .* Close it with `]`"),
        ("[/EN#1/people A [/EN#2/other cup] ]", r"'\[/EN#2/other' begins in a phrase that has not ended"),
        ("[/EN#1 A man]", r"'\[/EN#1' begins no phrase"),
        ("[/XY#1/people A man]", "begins no phrase"),
        ("[/EN#1/peoples A man]", "has type 'peoples'; expected one of people, clothing"),
        ("[/EN#1/people ] sits", "the phrase of chain 1 has no words"),
        ("[/EN#1/people]", "begins no phrase"),
    ],
)
def test_bad_captions_are_named(line, message):
    with pytest.raises(ValueError, match=f"1.txt, line 3: .*{message}"):
        parse_caption(line, "1.txt, line 3")


def test_a_bracket_outside_phrases_is_a_word():
    assert parse_caption("a ] b ]")[0] == ["a", "]", "b", "]"]
    assert parse_caption("[/EN#1/people A man ] sits") == (["A", "man", "sits"], [(0, 2, "people", "1")])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmin>1<", "<xmin>one<", "chain 40120: <bndbox> says .*'one'.*; expected four whole numbers"),
        ("<xmin>11</xmin>", "", "'xmin': None"),
        ("<xmax>50<", "<xmax>52<", "leaves its image of width 50"),
        ("<xmin>1<", "<xmin>-1<", r"box \[-1, 1, 20, 40\] leaves its image; expected pixels from 1 on"),
        ("<xmin>1<", "<xmin>30<", "has no area"),
        ("<name>40126</name>", "", "an <object> without <name>; expected the number of its chain"),
        ("</annotation>", "", "not a readable XML file"),
        ("<width>50<", "<width>wide<", "<size> says 'wide'"),
    ],
)
def test_bad_boxes_are_named(write_file, old, new, message):
    assert old in ANNOTATION
    with pytest.raises(ValueError, match=message):
        read_flickr30k_boxes(write_file("1.xml", ANNOTATION.replace(old, new, 1)))


def test_a_bad_file_stops_or_is_skipped(flickr, write_file, caplog):
    write_file("flickr30k_entities/train.txt", "36979\n7\n9\n")
    with pytest.raises(FileNotFoundError, match=r"Sentences/9\.txt' is missing"):
        load_mner_dataset("flickr30k_entities", flickr)
    write_file("flickr30k_entities/Sentences/36979.txt", "fine\n[/EN#1/people A")
    with caplog.at_level(logging.WARNING):
        rows = load_mner_dataset("flickr30k_entities", flickr, on_error="skip")["train"]
    assert rows["id"][:] == ["7#0", "7#1", "7#2"]
    assert "Skipped the rows of image 36979" in caplog.text
    assert "line 2" in caplog.text


def test_missing_parts_are_named(flickr, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no 'flickr30k_entities' with the folders 'Sentences'"):
        load_mner_dataset("flickr30k_entities", flickr / "flickr30k_entities" / "Sentences")
    (tmp_path / "flickr30k_entities/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.txt' is missing"):
        load_mner_dataset("flickr30k_entities", flickr)
    with pytest.raises(ValueError, match="'twitter_fmnerg' only"):
        load_mner_dataset("flickr30k_entities", flickr, granularity="fine")
