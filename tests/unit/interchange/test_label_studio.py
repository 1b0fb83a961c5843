"""Label Studio: what is written is read back as it was, and what cannot be read is named."""

from __future__ import annotations

import base64
import copy
import json
import logging
from xml.etree import ElementTree

import pytest
from random_posts import TYPES, random_posts, without_image
from tiny import tiny_image

from hf_mner.data import load_mner_dataset
from hf_mner.interchange import (
    from_example,
    make_config,
    make_task,
    read_label_studio,
    read_tasks,
    to_example,
    write_conll_folder,
    write_label_studio,
)
from hf_mner.interchange.label_studio_reading import from_utf16


def ordered(posts):
    """Posts with their entities in the order in which they are read, and without what tasks do not say."""
    return [
        {
            **without_image(post),
            "image_size": post.get("image_size") if any(e["boxes"] for e in post["entities"]) else None,
            "entities": sorted(post["entities"], key=lambda entity: (entity["start"], entity["end"])),
        }
        for post in posts
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_gold", [True, False])
def test_a_round_trip_changes_nothing(tmp_path, seed, is_gold):
    posts = random_posts(seed, is_flat=False, is_scored=not is_gold)
    assert write_label_studio(posts, tmp_path / "project", TYPES, "m-1", is_gold) == len(posts)
    part = "annotations" if is_gold else "predictions"
    images = tmp_path / "project" / "images"
    found = list(read_label_studio(tmp_path / "project" / "tasks.json", TYPES, images, part))
    assert [{"image_size": None, **without_image(post)} for post in found] == ordered(posts)
    assert [post["image"] is not None for post in found] == ["image" in post for post in posts]


def test_tokens_survive():
    example = {"id": "1", "tokens": ["do", "n't", "#", "NBA"], "entities": [{"start": 3, "end": 4, "type": "ORG"}]}
    (post,) = read_tasks([make_task(from_example(example), is_gold=True)])
    assert to_example(post)["tokens"] == example["tokens"]
    assert to_example(post)["entities"] == [{"start": 3, "end": 4, "type": "ORG", "boxes": []}]


def test_the_task_is_as_label_studio_wants_it(post):
    task = make_task(post, "http://host/a.png", "m-1")
    assert task["data"] == {"text": post["text"], "post_id": "kerr", "image": "http://host/a.png"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("m-1", 0.5)
    span, box, relation, other = prediction["result"]
    assert span["value"] == {"start": 8, "end": 18, "text": "Steve Kerr", "labels": ["PER"]}
    assert (span["type"], span["from_name"], span["to_name"], span["score"]) == ("labels", "entity", "text", 0.75)
    assert box["value"] == {
        "x": 10.0, "y": 25.0, "width": 40.0, "height": 75.0, "rotation": 0, "rectanglelabels": ["PER"]
    }  # fmt: skip
    assert (box["original_width"], box["original_height"], box["score"]) == (10, 8, 0.5)
    assert relation == {"type": "relation", "from_id": span["id"], "to_id": box["id"], "direction": "right"}
    assert other["value"]["text"] == "Oakland"


def test_the_set_up_names_controls_objects_and_labels():
    root = ElementTree.fromstring(make_config(TYPES))
    controls = {child.tag: child.attrib for child in root}
    assert controls["Labels"] == {"name": "entity", "toName": "text"}
    assert controls["RectangleLabels"] == {"name": "box", "toName": "image"}
    assert [label.get("value") for label in root.find("Labels")] == TYPES
    assert ElementTree.fromstring(make_config(["PER"], has_images=False)).find("Image") is None
    with pytest.raises(ValueError, match="expected a list of distinct entity types"):
        make_config([])


def test_every_task_of_a_project_with_images_has_the_key_that_the_set_up_shows(tmp_path, post):
    write_label_studio([post, without_image({**post, "entities": []})], tmp_path / "a")
    tasks = json.loads((tmp_path / "a" / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["/data/local-files/?d=a/images/000000.png", ""]


def test_boxes_of_a_known_size_survive_without_images(tmp_path, post):
    write_label_studio([without_image(post)], tmp_path / "a")
    assert "RectangleLabels" in (tmp_path / "a" / "config.xml").read_text()
    (found,) = read_label_studio(tmp_path / "a" / "tasks.json", part="predictions")
    assert found == {**post, "image": None}


def annotated(post, **changes):
    task = {"id": 7, **make_task(post, is_gold=True)}
    return task | copy.deepcopy(changes)


def results(task):
    return task["annotations"][0]["result"]


def test_a_corrected_project_can_be_trained_on(tmp_path, post):
    """As an annotator does: drag the span's border with a space too many, in the editor's own form, and add a box."""
    write_label_studio([post], tmp_path / "project")
    (task,) = json.loads((tmp_path / "project" / "tasks.json").read_text())
    result = task.pop("predictions")[0]["result"]
    place = post["text"].index("in Oakland")
    value = {"start": place - 1, "end": place + 10, "text": "\\nin Oakland", "labels": ["ORG"]}
    result[3] = {"id": "q1", "from_name": "entity", "to_name": "text", "type": "labels", "value": value}
    result.append({**result[1], "id": "q2", "value": {**result[1]["value"], "x": 50, "rectanglelabels": ["LOC"]}})
    result.append({"type": "relation", "from_id": "q2", "to_id": "q1", "direction": "left"})
    task["annotations"] = [{"result": [], "was_cancelled": True}, {"result": result}]
    (tmp_path / "export.json").write_text(json.dumps([task]))
    posts = read_label_studio(tmp_path / "export.json", ["PER", "ORG"], tmp_path / "project" / "images")
    assert write_conll_folder({"train": posts}, tmp_path / "data") == {"train": 1}
    (row,) = load_mner_dataset("folder", tmp_path / "data")["train"]
    assert row["entities"] == [
        {"start": 3, "end": 5, "type": "PER", "boxes": [[1.0, 2.0, 5.0, 8.0]]},
        {"start": 5, "end": 7, "type": "ORG", "boxes": [[5.0, 2.0, 9.0, 8.0]]},
    ]
    assert row["image"].size == (10, 8)


def test_units_of_javascript_are_recognised_by_the_text(post):
    task = annotated(post)
    span = results(task)[0]
    span["value"]["start"] += 1  # the emoji before it is two units
    span["value"]["end"] += 1
    (found,) = read_tasks([task])
    assert found["entities"][0]["word"] == "Steve Kerr"
    assert (found["entities"][0]["start"], found["entities"][0]["end"]) == (8, 18)
    del span["value"]["text"]
    (found,) = read_tasks([task])
    assert found["entities"][0]["word"] == "teve Kerr\n", "without the text, characters are code points"


def test_utf16_units():
    assert [from_utf16("a😀b", units) for units in range(6)] == [0, 1, None, 2, 3, None]
    text = "x😀é小👩‍👩‍👧"
    for position in range(len(text) + 1):
        assert from_utf16(text, len(text[:position].encode("utf-16-le")) // 2) == position


def spoil(task, place, **changes):
    results(task)[place].update(changes)
    return task


BAD = {
    "two labels": (lambda t: results(t)[0]["value"].update(labels=["PER", "LOC"]), r"expected one"),
    "no label": (lambda t: results(t)[0]["value"].update(labels=[]), r"has the labels \[\]"),
    "unknown label": (lambda t: results(t)[0]["value"].update(labels=["DOG"]), r"'DOG' is not among the types"),
    "behind the text": (lambda t: results(t)[0]["value"].update(end=99), r"is not what stands there"),
    "other text": (lambda t: results(t)[0]["value"].update(text="Steve Jobs"), r"was the task's text changed\?"),
    "turned box": (lambda t: results(t)[1]["value"].update(rotation=12), r"is turned"),
    "turned image": (lambda t: spoil(t, 1, image_rotation=90), r"is turned"),
    "box outside": (lambda t: results(t)[1]["value"].update(width=95), r"leaves its image of width 10"),
    "box without area": (lambda t: results(t)[1]["value"].update(width=0), r"has no area"),
    "box without span": (lambda t: results(t).pop(2), r"belongs to no span; draw a relation"),
    "relation of spans": (lambda t: spoil(t, 2, to_id=results(t)[3]["id"]), r"does not join a span of the text"),
    "unknown size": (lambda t: spoil(t, 1, original_width=None), r"expected `original_width`"),
    "other result": (lambda t: spoil(t, 3, type="choices"), r"a result of the type 'choices'"),
    "two annotations": (lambda t: t["annotations"].append({"result": []}), r"has 2 annotations that count"),
    "span without id": (
        lambda t: results(t)[0].pop("id"),
        r"type 'labels' with the id None; expected a text.*Give it",
    ),
    "box without id": (lambda t: results(t)[1].pop("id"), r"type 'rectanglelabels' with the id None; expected"),
    "no result": (lambda t: results(t).append(3), r"has the result 3; expected a mapping with `type`. Remove it"),
    "numbers as words": (
        lambda t: t["data"].update(tokens=[1, 2]),
        r"its `tokens` are \[1, 2\]; expected a list of words",
    ),
    "no list of words": (lambda t: t["data"].update(tokens=3), r"its `tokens` are 3; expected a list of words"),
    "no text": (lambda t: t["data"].pop("text"), r"no `data` with a `text`"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_task_is_named_or_skipped(post, caplog, bad):
    break_it, message = BAD[bad]
    task = annotated(post)
    break_it(task)
    with pytest.raises(ValueError, match=rf"Task 7.*{message}"):
        list(read_tasks([task], ["PER", "LOC"]))
    with caplog.at_level(logging.WARNING):
        found = list(read_tasks([task, {**annotated(post), "id": 8}], ["PER", "LOC"], on_error="skip"))
    assert len(found) == 1
    assert "Skipped: Task 7" in caplog.text


def test_ground_truth_decides_and_unfinished_tasks_are_left_out(post, caplog):
    task = annotated(post)
    task["annotations"].append({"result": [], "ground_truth": True})
    with caplog.at_level(logging.WARNING):
        (found,) = read_tasks([task, {"data": {"text": "later"}, "annotations": []}])
    assert found["entities"] == []
    assert "1 tasks have no annotations" in caplog.text


def test_images_in_a_task_and_in_a_folder(tmp_path, post, caplog):
    tiny_image().save(tmp_path / "a b.png")
    content = (tmp_path / "a b.png").read_bytes()
    addresses = {
        "/data/local-files/?d=project/images/a%20b.png": str(tmp_path / "a b.png"),
        "https://host/data/local-files/?d=project/images/a%20b.png": str(tmp_path / "a b.png"),
        "http://host:8080/ls/data/local-files/?x=1&d=a%20b.png": str(tmp_path / "a b.png"),
        "https://host/images/a%20b.png?token=a/b": str(tmp_path / "a b.png"),
        "s3://bucket/images/a b.png": str(tmp_path / "a b.png"),
        "data:image/png;base64," + base64.b64encode(content).decode(): {"bytes": content, "path": None},
    }
    for address, image in addresses.items():
        (found,) = read_tasks([make_task(post, address, is_gold=True)], image_folder=tmp_path)
        assert found["image"] == image
    with pytest.raises(FileNotFoundError, match=r"Post 'kerr': its image 'x/c\.png' is not in .*put `c\.png` there"):
        list(read_tasks([make_task(post, "x/c.png", is_gold=True)], image_folder=tmp_path))
    with caplog.at_level(logging.WARNING):
        (found,) = read_tasks([make_task(post, "x/c.png", is_gold=True)])
    assert found["image"] is None
    assert "1 images were left out" in caplog.text


def test_what_cannot_be_written_is_named(tmp_path, post):
    with pytest.raises(ValueError, match=r"Post 'kerr': the type 'LOC' is not among `types` \(PER\)"):
        write_label_studio([post], tmp_path / "a", ["PER"])
    assert not list(tmp_path.iterdir()), "so that the corrected call can have the folder"
    assert write_label_studio([post], tmp_path / "a") == 1
    with pytest.raises(FileExistsError, match="is there and not empty; choose a new folder"):
        write_label_studio([post], tmp_path / "a")
    wide = {**post, "image_size": [4, 8]}
    with pytest.raises(ValueError, match=r"Post 'kerr': box .* leaves its image of width 4"):
        make_task(wide)
    with pytest.raises(ValueError, match="Post 'kerr' has boxes and no image"):
        make_task({key: value for key, value in post.items() if not key.startswith("image")})
    assert write_label_studio([wide, post], tmp_path / "b", on_error="skip") == 1


def test_a_file_that_is_no_export(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of tasks"):
        list(read_label_studio(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text("id,text")
    with pytest.raises(ValueError, match="export the project in the format `JSON`"):
        list(read_label_studio(tmp_path / "a.json"))
