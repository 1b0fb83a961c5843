from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset

from hf_mner.data import DATASET_NAMES, count_dataset, load_mner_dataset, write_parquet_dataset
from hf_mner.data.build_program import run_build_program
from hf_mner.data.publishing import DEFAULT, render_dataset_card, write_parquet_configurations
from hf_mner.data.readers import GENERATED, PHRASE_SETS

SCRIPTS = Path(__file__).parents[3] / "datasets_scripts"


@pytest.fixture
def own_folder(write_file, write_image, tmp_path):
    write_file("own/train.txt", "IMGID:1\nKerr\tB-PER\nwins\tO\n\nIMGID:2\nx\tI-LOC\n")
    write_file("own/test.txt", "y\tB-LOC\n")
    write_image("own/images/1.png", size=(20, 10))
    write_file("own/boxes.jsonl", '{"id": "1", "name": "Kerr", "boxes": [[0, 0, 20, 10]]}\n')
    return tmp_path / "own"


def test_parquet_round_trip_needs_no_image_files(own_folder, tmp_path):
    dataset = load_mner_dataset("folder", own_folder)
    counts, first = count_dataset(dataset), dataset["train"][0]
    output = write_parquet_dataset(dataset, tmp_path / "out", "folder")
    (own_folder / "images" / "1.png").unlink()
    again = load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert count_dataset(again) == counts
    assert again["train"].features == dataset["train"].features
    row = again["train"][0]
    assert (row["image"].size, row["image"].getpixel((3, 3))) == ((20, 10), (10, 200, 30))
    assert {**row, "image": None} == {**first, "image": None}
    stored = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in stored


def test_configurations_lie_side_by_side_and_the_first_is_the_default(own_folder, tmp_path):
    dataset = load_mner_dataset("folder", own_folder)
    parts = {"whole": dataset, "tests": {"test": dataset["test"]}}
    output = write_parquet_configurations(parts, tmp_path / "out", "folder")
    for name, splits in ((None, {"train", "test"}), ("whole", {"train", "test"}), ("tests", {"test"})):
        assert set(load_dataset(str(output), name, cache_dir=str(tmp_path / "cache"))) == splits
    body = (output / "README.md").read_text(encoding="utf-8")
    assert "## Counts of `tests`" in body
    assert "## Types of `whole`" in body


def test_card_says_what_is_inside(own_folder, tmp_path):
    output = write_parquet_dataset(load_mner_dataset("folder", own_folder), tmp_path / "out", "folder")
    _, front, body = (output / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "unknown"
    assert metadata["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*.parquet"},
        {"split": "test", "path": "data/test-*.parquet"},
    ]
    assert "| entities | 2 | 1 |" in body
    assert "| of these starting with `B-` | 1 | 1 |" in body
    assert "| LOC | 1 | 1 |" in body


def test_output_folder_must_be_empty(own_folder, tmp_path):
    dataset = load_mner_dataset("folder", own_folder)
    write_parquet_dataset(dataset, tmp_path / "out", "folder")
    with pytest.raises(FileExistsError, match="is not empty; choose a new one"):
        write_parquet_dataset(dataset, tmp_path / "out", "folder")


def test_every_set_has_its_program(own_folder, tmp_path, monkeypatch, capsys):
    with_files = set(DATASET_NAMES) - {*GENERATED, *PHRASE_SETS}  # these: `hf-mner data build`
    assert {path.stem for path in SCRIPTS.glob("build_*.py")} == {f"build_{name}" for name in with_files}
    arguments = ["x", "--data-dir", str(own_folder), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(SCRIPTS / "build_folder.py"), run_name="__main__")
    assert f"Wrote {tmp_path / 'out'}" in capsys.readouterr().out
    for name in with_files - {"folder"}:
        missing = "twitter_gmner/xml" if name == "twitter_fmnerg" else name
        with pytest.raises(FileNotFoundError, match=missing):
            runpy.run_path(str(SCRIPTS / f"build_{name}.py"), run_name="__main__")


def test_published_images_are_embedded(published_dir, tmp_path):
    output = run_build_program("cp_mner", None, ["--data-dir", str(published_dir), "--output", str(tmp_path / "out")])
    again = load_dataset(str(output), cache_dir=str(tmp_path / "cache"))
    assert [split["images"] for split in count_dataset(again).values()] == [946, 119, 119]
    assert list(again["test"][0]["image"].size) == again["test"][0]["image_size"]


def test_card_of_a_published_set_names_licence_and_mapping(load_published, tmp_path):
    card = render_dataset_card({DEFAULT: load_published("twitter2015")}, "twitter2015")
    assert "Twitter's terms" in card
    assert "published as `OTHER` and called `MISC`" in card
    assert "| entities | 6,352 | 1,594 | 5,207 |" in card
    published = load_published("twitter2015", unify_types=False)
    assert "as published" in render_dataset_card({DEFAULT: published}, "twitter2015")
    assert "license: cc-by-4.0" in render_dataset_card({DEFAULT: load_published("wnut17")}, "wnut17")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yolo", ["Each class in an image is a row", "BIO tags made for this copy"]),
        ("planted_signal", ["apache-2.0"]),
        ("planted_relation", ["apache-2.0", "how two shapes in the picture lie to each other"]),
    ],
)
def test_card_of_a_set_without_published_tags(own_folder, name, words):
    card = render_dataset_card({DEFAULT: load_mner_dataset("folder", own_folder)}, name)
    assert "A user's own folder" not in card
    assert all(word in card for word in [*words, "language:\n- en"])
