"""Detections of VinVL, from files that the tests write and from the published ones."""

import base64
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_ham_learning, tiny_ham_learning_processor, tiny_image

from hf_mner.data.knowledge_columns import complete_knowledge
from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import KnowledgeSource, add_knowledge
from hf_mner.knowledge.registry import open_sources
from hf_mner.knowledge.store import describe_source
from hf_mner.knowledge.vinvl import VinvlObjects
from hf_mner.knowledge.vinvl_files import index_tsv, read_tsv_row, read_vinvl

DATA = Path(os.environ.get("HF_MNER_DATA", "absent")) / "images"
BOXES = [[10, 20, 50, 60], [0, 0, 100, 80], [30.5, 5, 90, 70.25]]
SCORES = [0.4, 0.9, 0.6]
LABELS = ["hat", "man", "dog"]
ATTRIBUTED = ["red hat", "tall man", "black dog"]
FEATURES = [[0.5, 0, 0, 1], [0.5, 1, 0, 2], [0.5, 2, 0, 3]]


def write_npz(path, **changes):
    parts = {
        "bounding_boxes": np.array(BOXES, dtype=np.float32),
        "box_features": np.array(FEATURES, dtype=np.float32),
        "scores": np.array(SCORES),
        "objects": np.array(LABELS),
        "attr_obj": np.array(ATTRIBUTED),
        "image_w": 100,
        "image_h": 80,
    }
    np.savez(path, **{name: part for name, part in {**parts, **changes}.items() if part is not None})
    return path


def tsv_row(name, boxes=BOXES, **changes):
    items = [
        {"rect": box, "class": label, "conf": score, "attributes": [attributed.split()[0]], "feature": in_base64(row)}
        for box, label, score, attributed, row in zip(boxes, LABELS, SCORES, ATTRIBUTED, FEATURES, strict=False)
    ]
    return f"{name}\t{json.dumps({'image_w': 100, 'image_h': 80, 'objects': items, **changes})}\n"


def in_base64(feature):
    return base64.b64encode(np.array(feature, dtype=np.float32).tobytes()).decode()


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
    assert read_tsv_row(place).features.tolist() == FEATURES
    assert read_tsv_row(place, with_features=False).features is None


def test_each_object_has_its_own_feature(path):
    """Also where objects are sorted, scaled, clipped, dropped for being thin, and cut to the best."""
    found, nothing = VinvlObjects(path, features=True)([{"id": "7"}, {"id": "8"}])
    hat, man, dog = FEATURES
    assert {item["label"]: list(item["feature"]) for item in found} == {"hat": hat, "man": man, "dog": dog}
    assert nothing == []
    check_knowledge({"objects": found}, image_size=[100, 80])
    (best,) = VinvlObjects(path, features=True, max_objects=1)([{"id": "7", "image_size": [200, 40]}])
    assert [list(item["feature"]) for item in best] == [man]
    (wide,) = VinvlObjects(path, features=True)([{"id": "7", "image_size": [100, 1]}])
    assert [(item["label"], list(item["feature"])) for item in wide] == [("man", man)]
    without = [{key: part for key, part in item.items() if key != "feature"} for item in found]
    assert without == VinvlObjects(path)([{"id": "7"}])[0]


def test_features_are_a_setting_of_the_source(path):
    (source,) = open_sources([{"vinvl_objects": {"path": str(path), "features": True}}])
    assert source.identity != VinvlObjects(path).identity
    (row,) = add_knowledge([{"id": "7", "tokens": ["a"]}], [source])
    assert [list(item["feature"]) for item in row["knowledge"]["objects"]] == [FEATURES[1], FEATURES[2], FEATURES[0]]
    completed = complete_knowledge(row["knowledge"])
    assert not any("feature" in item for item in completed["objects"])  # no column of the data sets


def test_files_without_features_say_what_to_do(tmp_path):
    write_npz(tmp_path / "7.npz", box_features=None)
    assert len(VinvlObjects(tmp_path)([{"id": "7"}])[0]) == 3
    with pytest.raises(
        ValueError, match="7.npz holds no features of its 3 objects; .*`box_features`.*leave `features`"
    ):
        VinvlObjects(tmp_path, features=True)([{"id": "7"}])
    file = tmp_path / "rows.tsv"
    some = [{"rect": BOXES[0], "class": "hat", "conf": 0.4}]
    file.write_text(tsv_row("6", boxes=[]) + tsv_row("7", objects=some), encoding="utf-8")
    assert VinvlObjects(file, features=True)([{"id": "6"}]) == [[]]
    with pytest.raises(ValueError, match="rows.tsv, byte .* holds no features of its 1 objects"):
        VinvlObjects(file, features=True)([{"id": "7"}])
    write_npz(tmp_path / "8.npz", box_features=np.ones(3))
    write_npz(tmp_path / "9.npz", box_features=np.full((3, 4), np.nan))
    for name in ("8", "9"):
        with pytest.raises(ValueError, match=f"{name}.npz holds features of shape .*; expected a vector of finite"):
            VinvlObjects(tmp_path, features=True)([{"id": name}])
    with pytest.raises(ValueError, match="Object 'hat': `feature` is a str; expected an array of numbers"):
        check_knowledge({"objects": [{"label": "hat", "box": BOXES[0], "feature": "1"}]})


def test_ham_learning_reads_the_features(path):
    post = {"id": "7", "tokens": ["Kerr", "lands"], "image": tiny_image(size=(100, 80)), "image_size": [100, 80]}
    blank = {**post, "id": "8"}
    source = VinvlObjects(path, features=True)
    examples = add_knowledge([post, blank], [source])
    processor = tiny_ham_learning_processor(object_feature_size=4)
    seen, unseen = rows = processor.rows(examples)
    assert seen["object_features"].tolist() == [FEATURES[1], FEATURES[2], FEATURES[0]]
    assert unseen["object_features"].tolist() == [[0, 0, 0, 0]]  # the image itself, which no detector has seen
    assert all("feature" not in item for item in seen["shown"]["objects"])
    model = tiny_ham_learning(object_feature_size=4)
    batch = processor.pad(rows)
    with torch.no_grad():
        whole, encoded = model(**batch), model(**processor.pad(model.encode_shared(rows, processor, 2, {})))
        changed = model(**{**batch, "object_features": batch["object_features"] + 1})
    assert not torch.equal(whole.logits, changed.logits)
    assert torch.allclose(whole.logits, encoded.logits, atol=1e-5)  # the same sums, by another way through the batch
    with pytest.raises(ValueError, match="of example '7' has a `feature` of 4 numbers, expected 8"):
        tiny_ham_learning_processor(object_feature_size=8).rows(examples)
    with pytest.raises(ValueError, match="has a `feature` of 0 numbers, expected 4.*`features: true`"):
        processor.rows(add_knowledge([post], [VinvlObjects(path)]))


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
    (given,) = VinvlObjects(DATA / "vinvl", features=True)([{"id": "O_4154"}])
    stored = read_vinvl(DATA / "vinvl" / "O_4154.jpg.npz")
    best = stored.scores.argsort()[::-1][0]
    assert given[0]["feature"].tolist() == stored.features[best].tolist()
    assert read_vinvl(DATA / "vinvl" / "O_4154.jpg.npz").features.shape[1] == 2048
