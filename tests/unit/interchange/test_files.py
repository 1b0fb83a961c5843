"""CoNLL folders, JSON lines and COCO files: written, read back, and refused."""

from __future__ import annotations

import json

import pytest
from random_posts import random_posts, without_image
from tiny import tiny_image

from hf_mner.interchange import (
    make_coco,
    read_coco,
    read_conll_folder,
    read_jsonl,
    to_example,
    write_coco,
    write_conll_folder,
    write_jsonl,
)


@pytest.mark.parametrize("seed", range(3))
def test_json_lines_round_trip(tmp_path, seed):
    posts = [without_image(post) for post in random_posts(seed, is_flat=False)]
    assert write_jsonl(posts, tmp_path / "a.jsonl") == len(posts)
    assert list(read_jsonl(tmp_path / "a.jsonl")) == posts


def test_json_lines_count_images_from_their_folder(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x", "image": "img/a.png"}))
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [
        {"id": "1", "text": "x", "image": str(tmp_path / "img" / "a.png"), "entities": []}
    ]
    with pytest.raises(ValueError, match="its image is a Image, which JSON does not hold"):
        write_jsonl([{"id": "a", "text": "x", "image": tiny_image()}], tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], r"line 1: \[1\] is no post"),
        ({"text": "x", "entities": [{"start": 0}]}, "is no entity"),
        ({"text": "ab", "entities": [{"entity_group": "A", "start": 0, "end": 3}]}, "its text has 2"),
        ({"text": "ab", "entities": [{"entity_group": "A", "start": 0, "end": 1, "word": "b"}]}, "which are 'a'"),
    ],
)
def test_bad_lines(tmp_path, record, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({"text": "good"}))
    with pytest.raises(ValueError, match=message):
        list(read_jsonl(tmp_path / "a.jsonl"))
    assert [post["text"] for post in read_jsonl(tmp_path / "a.jsonl", on_error="skip")] == ["good"]


@pytest.mark.parametrize("seed", range(3))
def test_conll_round_trip(tmp_path, seed):
    posts = [post for post in random_posts(seed, is_scored=False) if to_example(post)["tokens"]]
    assert write_conll_folder({"test": posts}, tmp_path / "data") == {"test": len(posts)}
    found = list(read_conll_folder(tmp_path / "data", "test"))
    assert [post["id"] for post in found] == [post["id"] for post in posts]
    for one, other in zip(map(to_example, found), map(to_example, posts), strict=True):
        assert one["tokens"] == other["tokens"]
        for entity, expected in zip(one["entities"], other["entities"], strict=True):
            assert (entity["start"], entity["end"], entity["type"]) == (
                expected["start"], expected["end"], expected["type"]
            )  # fmt: skip
            for box, expected_box in zip(entity["boxes"], expected["boxes"], strict=True):
                assert box == pytest.approx(expected_box, abs=1e-5)  # data sets hold single precision
    assert [post.get("image") is not None for post in found] == ["image" in post for post in posts]


def test_conll_refuses_what_it_cannot_hold(tmp_path):
    entity = {"entity_group": "ORG", "start": 1, "end": 4, "boxes": []}
    posts = [{"id": "a", "text": "#NBAFinals", "entities": [entity]}, {"id": "b", "text": "x", "entities": []}]
    with pytest.raises(ValueError, match="does not begin and end with a word"):
        write_conll_folder({"train": posts}, tmp_path / "a")
    assert write_conll_folder({"train": posts}, tmp_path / "b", on_error="skip") == {"train": 1}
    assert write_conll_folder({"train": posts}, tmp_path / "c", cut_words=True) == {"train": 2}
    assert "NBA\tB-ORG\nFinals\tO" in (tmp_path / "c" / "train.txt").read_text()
    with pytest.raises(ValueError, match="has no split 'test'"):
        list(read_conll_folder(tmp_path / "c", "test"))
    with pytest.raises(FileExistsError, match="choose a new folder"):
        write_conll_folder({"train": posts}, tmp_path / "c")
    missing = {"id": "a", "text": "x", "image": str(tmp_path / "no.png")}
    with pytest.raises(ValueError, match=r"Post 'a': image '.*no\.png' does not exist"):
        write_conll_folder({"train": [missing]}, tmp_path / "d")
    bad_word = {"id": "a", "tokens": ["a\tb"]}
    with pytest.raises(ValueError, match="has a tab or a line break"):
        write_conll_folder({"train": [bad_word]}, tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"], "a failure leaves nothing"


@pytest.mark.parametrize("write", [write_coco, write_jsonl])
def test_files_are_whole_and_never_replaced(tmp_path, post, write):
    bad = {**post, "image_size": [1, 1]}  # too small for its box, and JSON holds no pixels
    with pytest.raises(ValueError, match="kerr"):
        write([without_image(post), bad], tmp_path / "a")
    assert not list(tmp_path.iterdir())
    write([without_image(post)], tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    with pytest.raises(FileExistsError, match=r"Output '.*a' is there; choose a new file, or remove it"):
        write([], tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "a").mkdir()
    assert write_conll_folder({"train": [{"id": "a", "text": "x", "entities": []}]}, tmp_path / "a") == {"train": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_scored", [True, False])
def test_coco_round_trip(tmp_path, seed, is_scored):
    posts = [without_image(post) for post in random_posts(seed, is_flat=False, is_scored=is_scored)]
    counts = write_coco(posts, tmp_path / "a.json")
    assert counts["posts"] == len(posts)
    assert counts["annotations"] == sum(len(entity["boxes"]) for post in posts for entity in post["entities"])
    assert list(read_coco(tmp_path / "a.json")) == posts


def test_coco_is_coco(post):
    coco = make_coco([post])
    (annotation,) = coco["annotations"]
    assert coco["categories"] == [{"id": 1, "name": "PER"}, {"id": 2, "name": "LOC"}]
    assert coco["images"] == [{"id": 1, "file_name": "", "width": 10, "height": 8}]
    assert annotation["bbox"] == [1.0, 2.0, 4.0, 6.0]
    assert (annotation["area"], annotation["iscrowd"], annotation["category_id"]) == (24.0, 0, 1)
    assert (annotation["word"], annotation["start"], annotation["end"]) == ("Steve Kerr", 8, 18)
    assert (annotation["score"], annotation["entity_score"]) == (0.5, 0.75)


def test_coco_of_others_and_bad_boxes(tmp_path, post):
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match="has no `posts`"):
        list(read_coco(tmp_path / "a.json"))
    wide = {**post, "image_size": [4, 8]}
    with pytest.raises(ValueError, match="leaves its image of width 4"):
        make_coco([wide])
    assert len(make_coco([wide, post], on_error="skip")["posts"]) == 1
    with pytest.raises(ValueError, match=r"type 'LOC' is not among `types` \(PER\)"):
        make_coco([post], types=["PER"])
