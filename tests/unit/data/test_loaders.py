from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from hf_mner.data import DATASET_NAMES, count_dataset, label_file_hash, load_mner_dataset
from hf_mner.data.readers import SPLITS

TWEETS = "IMGID:1\nKerr\tB-PER\nwins\tO\n\nIMGID:2\nBig\tB-OTHER\nBen\tI-OTHER\n"
VOC = (
    "<annotation><size><width>8</width><height>6</height></size><object><name>{}</name>"
    "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>{}</xmax><ymax>6</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def gmner(write_file, tmp_path):
    """A data folder in the layout of the published sets, with a two-tweet GMNER."""
    for split in ("train", "dev", "test"):
        write_file(f"twitter_gmner/txt/{split}.txt", TWEETS)
    write_file("twitter_gmner/xml/1.xml", VOC.format("Kerr", 8))
    return tmp_path


def test_rows_of_a_grounded_set(gmner, write_image):
    write_image("images/twitter/twitter2015_images/2.jpg", size=(7, 5))
    rows = load_mner_dataset("twitter_gmner", gmner)["test"]
    first, second = rows[0], rows[1]
    assert first["entities"] == [{"start": 0, "end": 1, "type": "PER", "boxes": [[0, 0, 8, 6]]}]
    assert (first["id"], first["image"], first["image_size"], first["knowledge"]) == ("1", None, [8, 6], None)
    assert second["entities"] == [{"start": 0, "end": 2, "type": "MISC", "boxes": []}]
    assert (second["image"].size, second["image_size"]) == ((7, 5), [7, 5])
    assert rows.features["ner_tags"].feature.int2str(second["ner_tags"]) == ["B-MISC", "I-MISC"]


def test_a_bad_row_stops_or_is_skipped(gmner, write_file, write_image, caplog):
    write_file("twitter_gmner/xml/1.xml", VOC.format("Kerr", 9))
    with pytest.raises(ValueError, match="object 'Kerr': box .* leaves its image of width 8"):
        load_mner_dataset("twitter_gmner", gmner)
    with caplog.at_level(logging.WARNING):
        rows = load_mner_dataset("twitter_gmner", gmner, on_error="skip")["train"]
    assert rows["id"][:] == ["2"]
    assert "Skipped the row at" in caplog.text
    assert "IMGID:1" in caplog.text
    write_file("twitter_gmner/txt/test.txt", "a\tX-Y\n")
    with pytest.raises(ValueError, match="holds no sentence that could be read"):
        load_mner_dataset("twitter_gmner", gmner, on_error="skip")


def test_an_undecodable_image_is_a_bad_row(gmner, write_file):
    write_file("pictures/2.jpg", b"no image")
    with pytest.raises(ValueError, match=r"2\.jpg cannot be decoded"):
        load_mner_dataset("twitter_gmner", gmner, image_dir=gmner / "pictures")
    rows = load_mner_dataset("twitter_gmner", gmner, image_dir=gmner / "pictures", on_error="skip")["test"]
    assert rows["id"][:] == ["1"]


def test_boxes_of_no_entity_are_logged(gmner, write_file, caplog):
    write_file("twitter_gmner/xml/1.xml", VOC.format("Steve", 8))
    with caplog.at_level(logging.WARNING):
        counts = count_dataset(load_mner_dataset("twitter_gmner", gmner))
    assert counts["test"]["boxes"] == 0
    assert "boxes are given for 'Steve', which is no entity" in caplog.text


def test_a_changed_file_changes_the_result(gmner, write_file):
    before = label_file_hash("twitter_gmner", gmner)
    assert load_mner_dataset("twitter_gmner", gmner)["test"].num_rows == 2
    write_file("twitter_gmner/txt/test.txt", "IMGID:3\na\tO\n")
    assert load_mner_dataset("twitter_gmner", gmner)["test"]["id"][:] == ["3"]
    assert label_file_hash("twitter_gmner", gmner) != before


def test_knowledge_is_joined_by_id_and_by_order(gmner, write_file):
    write_file("knowledge/blip2_captions/twitter2015.txt", "1.jpg :a coach\n")
    write_file("knowledge/blip2_captions/twitter2017.txt", "2.jpg :\n")
    for split in ("train", "valid", "test"):
        write_file(f"knowledge/chatgpt/twitter_gmner/{split}.txt", "Kerr\tB-PER\nwins\tO\n<EOS>\tX\nA\tX\ncoach\tX\n")
    auto = load_mner_dataset("twitter_gmner", gmner)["test"]["knowledge"]
    assert [row and (row["caption"], row["auxiliary"]) for row in auto] == [("a coach", None), None]
    chosen = load_mner_dataset("twitter_gmner", gmner, knowledge=["chatgpt"])["test"]["knowledge"]
    assert [row and (row["caption"], row["auxiliary"]) for row in chosen] == [(None, "A coach"), None]
    with pytest.raises(FileNotFoundError, match=r"train\.txt' is missing; point `data_dir=`"):
        load_mner_dataset("twitter_gmner", gmner, knowledge=["mplug_owl_captions"])
    write_file("knowledge/chatgpt/twitter_gmner/train.txt", "Curry\tB-PER\n<EOS>\tX\nA\tX\n")
    with pytest.raises(ValueError, match=r"record 1 starts \['Curry'\], but .* starts \['Kerr', 'wins'\]"):
        load_mner_dataset("twitter_gmner", gmner, knowledge=["chatgpt"])


def test_sentences_without_images_have_ids(write_file, tmp_path):
    for name in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
        write_file(f"wnut17/{name}", "Bad Bunny\tB-person\n\t\nb\tO\n")
    dataset = load_mner_dataset("wnut17", tmp_path)
    assert dataset["validation"]["id"][:] == ["wnut17-validation-0", "wnut17-validation-1"]
    assert dataset["train"]["tokens"][0] == ["Bad Bunny"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "twitter2016"}, f"'twitter2016' is not known; choose one of {', '.join(DATASET_NAMES)}"),
        ({"granularity": "fine"}, "'twitter_fmnerg' only"),
        ({"granularity": "finest"}, "choose 'coarse' or 'fine'"),
        ({"on_error": "ignore"}, "choose 'raise' or 'skip'"),
        ({"knowledge": ["wikipedia"]}, "'wikipedia' is not published for 'twitter_gmner'"),
    ],
)
def test_unknown_options(gmner, options, message):
    with pytest.raises(ValueError, match=message):
        load_mner_dataset(**{"name": "twitter_gmner", "data_dir": gmner, **options})


def test_missing_folders_and_files(gmner, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"twitter2015/train\.txt' is missing; point `data_dir=` or HF_MNER_DATA"
    ):
        load_mner_dataset("twitter2015", gmner)
    with pytest.raises(FileNotFoundError, match="does not exist; check `data_dir=`"):
        load_mner_dataset("twitter2015", gmner / "nowhere")
    with pytest.raises(FileNotFoundError, match="check `image_dir=`"):
        load_mner_dataset("twitter_gmner", gmner, image_dir=gmner / "nowhere")
    monkeypatch.delenv("HF_MNER_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="pass `data_dir=` .`--data-dir`., or set HF_MNER_DATA"):
        load_mner_dataset("twitter2015")
    monkeypatch.setenv("HF_MNER_DATA", str(gmner))
    assert tuple(load_mner_dataset("twitter_gmner")) == SPLITS
    (gmner / "twitter_gmner/xml/1.xml").unlink()
    (gmner / "twitter_gmner/xml").rmdir()
    with pytest.raises(FileNotFoundError, match="every entity would look ungroundable"):
        load_mner_dataset("twitter_gmner")


def test_importing_the_package_is_cheap():
    heavy = "{'torch', 'transformers', 'datasets', 'PIL', 'pyarrow'}"
    code = f"import sys, hf_mner.data; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
