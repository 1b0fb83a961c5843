"""Detections of VinVL, from files that the tests write and from the published ones."""

import base64
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import KnowledgeSource, add_knowledge
from hf_mner.knowledge.store import describe_source
from hf_mner.knowledge.vinvl import VinvlObjects
from hf_mner.knowledge.vinvl_files import index_tsv, read_tsv_row, read_vinvl

DATA = Path(os.environ.get("HF_MNER_DATA", "absent")) / "images"
BOXES = [[10, 20, 50, 60], [0, 0, 100, 80], [30.5, 5, 90, 70.25]]
SCORES = [0.4, 0.9, 0.6]
LABELS = ["hat", "man", "dog"]
ATTRIBUTED = ["red hat", "tall man", "black dog"]


def write_npz(path, **changes):
    parts = {
        "bounding_boxes": np.array(BOXES, dtype=np.float32),
        "box_features": np.ones((3, 4), dtype=np.float32),
        "scores": np.array(SCORES),
        "objects": np.array(LABELS),
        "attr_obj": np.array(ATTRIBUTED),
        "image_w": 100,
        "image_h": 80,
    }
    np.savez(path, **{name: part for name, part in {**parts, **changes}.items() if part is not None})
    return path


def tsv_row(name, boxes=BOXES, **changes):
    feature = base64.b64encode(np.arange(4, dtype=np.float32).tobytes()).decode()
    items = [
        {"rect": box, "class": label, "conf": score, "attributes": [attributed.split()[0]], "feature": feature}
        for box, label, score, attributed in zip(boxes, LABELS, SCORES, ATTRIBUTED, strict=False)
    ]
    return f"{name}\t{json.dumps({'image_w': 100, 'image_h': 80, 'objects': items, **changes})}\n"


@pytest.fixture(params=["npz", "tsv"])
def path(request, tmp_path):
    """The same detections of the images 7 (three objects) and 8 (none), in both formats."""
    if request.param == "tsv":
        file = tmp_path / "predictions.tsv"
        file.write_text(tsv_row("7.jpg") + tsv_row("8", boxes=[]), encoding="utf-8")
        return file
    write_npz(tmp_path / "7.jpg.npz")
    none = {"bounding_boxes": np.zeros((0, 4)), "box_features": np.zeros((0, 4)), "scores": np.zeros(0)}
    write_npz(tmp_path / "8.npz", **none, objects=np.zeros(0, dtype="U1"), attr_obj=np.zeros(0, dtype="U1"))
    return tmp_path


def test_objects_are_found_by_id_and_come_best_first(path):
    found, nothing = VinvlObjects(path)([{"id": "7"}, {"id": "8"}])
    assert [(item["label"], item["score"], item["box"]) for item in found] == [
        ("man", 0.9, [0, 0, 100, 80]),
        ("dog", 0.6, [30.5, 5, 90, 70.25]),
        ("hat", 0.4, [10, 20, 50, 60]),
    ]
    assert nothing == []
    check_knowledge({"objects": found}, image_size=[100, 80])


def test_attributes_are_a_choice_and_the_best_are_kept(path):
    (found,) = VinvlObjects(path, labels="attributes", max_objects=2)([{"id": "7"}])
    assert [item["label"] for item in found] == ["tall man", "black dog"]


def test_boxes_are_scaled_to_the_size_of_the_image(path):
    (found,) = VinvlObjects(path)([{"id": "7", "image_size": [200, 40]}])
    assert found[2]["box"] == [20, 10, 100, 30]
    assert VinvlObjects(path)([{"id": "7", "image_size": None}]) == VinvlObjects(path)([{"id": "7"}])


def test_missing_ids_are_none_and_warned_of_once(path, caplog):
    source = VinvlObjects(path)
    with caplog.at_level(logging.WARNING):
        found = source([{"id": "5"}, {"id": "7"}, {"id": "6"}])
        source([{"id": "5"}])
    assert [objects is None for objects in found] == [True, False, True]
    (record,) = caplog.records
    assert "2 of 3 examples have no detections" in record.message
    assert "'5'" in record.message


def test_as_a_knowledge_source(path):
    source = VinvlObjects(path)
    assert isinstance(source, KnowledgeSource)
    (row,) = add_knowledge([{"id": "7", "tokens": ["a"]}], [source])
    (note,) = row["knowledge"]["sources"]
    assert (note["source"], note["model"]) == ("VinvlObjects", path.name)
    with pytest.raises(ValueError, match="id"):  # its answer depends on the id, which no store knows
        describe_source(source)
    assert VinvlObjects(path, max_objects=1).identity != source.identity == VinvlObjects(path).identity


def test_features_come_with_the_boxes(tmp_path):
    found = read_vinvl(write_npz(tmp_path / "7.npz"))
    assert found.features.shape == (3, 4)
    assert found.boxes.tolist() == BOXES
    assert (found.labels, found.attribute_labels, found.image_size) == (LABELS, ATTRIBUTED, (100, 80))
    assert read_vinvl(tmp_path / "7.npz", with_features=False).features is None
    (tmp_path / "7.tsv").write_text(tsv_row("7"))
    (place,) = index_tsv(tmp_path / "7.tsv").values()
    assert read_tsv_row(place).features.tolist() == [[0, 1, 2, 3]] * 3


def test_wrong_files_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"lacks.npz holds no detections \(.*scores.*expected an .npz file with"):
        read_vinvl(write_npz(tmp_path / "lacks.npz", scores=None))
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ValueError, match="text.npz holds no detections"):
        read_vinvl(tmp_path / "text.npz")
    with pytest.raises(ValueError, match=r"boxes of shape \(3, 4\) with 2, 3, 3, 3 scores, labels and features"):
        read_vinvl(write_npz(tmp_path / "short.npz", scores=np.ones(2)))
    with pytest.raises(ValueError, match="boxes outside its image of 30 x 80 pixels.*Check `image_w`"):
        read_vinvl(write_npz(tmp_path / "small.npz", image_w=30))
    (tmp_path / "bad.tsv").write_text("7\t100\t80\t3\tAAAA\tAAAA\n" + "8\t[1]\n" + tsv_row("9", objects=[{"rect": 1}]))
    for name, place in index_tsv(tmp_path / "bad.tsv").items():
        with pytest.raises(
            ValueError, match=f"image '{name}' is not understood.*expected two columns, the id and JSON"
        ):
            read_tsv_row(place)


def test_wrong_arguments_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent'` does not exist; give a folder of `.npz` files or a `.tsv`"):
        VinvlObjects(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no detections; expected files `<id>.jpg.npz`"):
        VinvlObjects(tmp_path)
    write_npz(tmp_path / "7.npz")
    with pytest.raises(ValueError, match="`labels='words'` is not known; choose one of objects, attributes"):
        VinvlObjects(tmp_path, labels="words")
    with pytest.raises(ValueError, match="`max_objects` must be at least 1"):
        VinvlObjects(tmp_path, max_objects=0)


@pytest.mark.skipif(not (DATA / "vinvl").is_dir(), reason="needs images/vinvl in HF_MNER_DATA")
def test_the_published_files_are_read():
    source = VinvlObjects(DATA / "vinvl", labels="attributes")
    (found,) = source([{"id": "O_4154"}])
    assert found[0]["label"] == "black microphone"
    assert len(found) == 18
    assert read_vinvl(DATA / "vinvl" / "O_4154.jpg.npz").features.shape[1] == 2048
