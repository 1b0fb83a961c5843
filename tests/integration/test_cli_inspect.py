"""`hf-mner inspect graph`: from both kinds of input to a picture and its counts, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hf_mner.cli import main

# On an image of 200 x 150: a box, one in it, its double but for two pixels, and one far away to the lower right.
BOXES = [[10, 10, 60, 60], [20, 20, 40, 40], [12, 10, 62, 60], [160, 110, 190, 140]]
SCORES = [0.9, 0.8, 0.7, 0.6]
LABELS = ["man", "hat", "man", "dog"]


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (200, 150), "white").save(tmp_path / "7.png")
    return tmp_path / "7.png"


@pytest.fixture
def examples(tmp_path, image):
    """Posts with objects (worst first), without objects, without an image."""
    objects = [
        {"label": label, "score": score, "box": box} for label, score, box in zip(LABELS, SCORES, BOXES, strict=True)
    ]
    lines = [
        {"id": "a", "text": "Hello there", "image": "7.png", "knowledge": {"objects": objects[::-1]}},
        {"id": "b", "text": "No objects", "image": "7.png"},
        {"id": "c", "tokens": ["Text"], "knowledge": {"objects": []}},
        {"id": "d", "text": "Nothing found", "image": "7.png", "knowledge": {"objects": []}},
        {
            "id": "e",
            "text": "Outside",
            "image": "7.png",
            "knowledge": {"objects": [{"label": "x", "box": [0, 0, 300, 9]}]},
        },
        {"id": "f", "text": "Gone", "image": "absent.png", "knowledge": {"objects": []}},
    ]
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(params=["npz", "folder", "tsv"])
def detections(request, tmp_path):
    """The same objects as VinVL writes them, found in an image of twice the size."""
    boxes = np.array(BOXES) * 2.0
    if request.param == "tsv":
        items = [
            {"rect": box, "class": label, "conf": score}
            for box, label, score in zip(boxes.tolist(), LABELS, SCORES, strict=True)
        ]
        path = tmp_path / "predictions.tsv"
        path.write_text("7\t" + json.dumps({"image_w": 400, "image_h": 300, "objects": items}) + "\n")
        return path
    names = np.array(LABELS)
    (tmp_path / "vinvl").mkdir()
    path = tmp_path / "vinvl" / "7.jpg.npz"
    np.savez(path, bounding_boxes=boxes, scores=SCORES, objects=names, attr_obj=names, image_w=400, image_h=300)
    return path if request.param == "npz" else path.parent


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments, output="new/graph.png"):
        output = ["--output", str(tmp_path / output)] if output else []
        done = CliRunner().invoke(main.app, ["inspect", "graph", *map(str, arguments), *output])
        if done.exception:
            raise done.exception
        return json.loads(done.stdout)

    return invoke


def check_counts(counts):
    """The three boxes are within each other or overlap; the fourth is too far from them for an edge."""
    assert counts["nodes"] == 5
    found = {name: number for name, number in counts["edges_between_objects"].items() if number}
    assert found == {"inside": 2, "cover": 2, "overlap": 2}
    assert counts["edges_with_image"] == {"inside": 4, "cover": 4}
    with Image.open(counts["picture"]) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_objects_of_a_post(run, examples):
    check_counts(run("--examples", examples, "--id", "a"))


def test_objects_that_vinvl_found(run, image, detections):
    check_counts(run(image, "--objects", detections))


def test_the_best_objects_are_kept(run, examples):
    counts = run("--examples", examples, "--id", "a", "--max-objects", 2)
    assert counts["nodes"] == 3
    assert counts["edges_between_objects"]["inside"] == counts["edges_between_objects"]["cover"] == 1
    assert counts["edges_between_objects"]["overlap"] == 0, "the double is the third"


def test_more_than_the_paper_keeps(run, image, tmp_path):
    items = [{"rect": [n, n, n + 30, n + 30], "class": "cat", "conf": 0.5} for n in range(25)]
    path = tmp_path / "many.tsv"
    path.write_text("x.jpg\t" + json.dumps({"image_w": 200, "image_h": 150, "objects": items}) + "\n")
    assert run(image, "--objects", path, "--id", "x")["nodes"] == 16
    assert run(image, "--objects", path, "--id", "x", "--max-objects", 40)["nodes"] == 26


def test_a_post_without_a_single_object(run, examples):
    counts = run("--examples", examples, "--id", "d")
    assert counts["nodes"] == 1
    assert not any(counts["edges_between_objects"].values())


def test_a_generated_folder(run, tmp_path):
    from hf_mner.data.synthetic import PlantedSignal
    from hf_mner.data.synthetic_folder import write_planted_folder

    write_planted_folder(PlantedSignal(with_knowledge=True), {"train": 2}, tmp_path / "planted")
    name = "planted_signal-0-train-1"
    counts = run("--examples", tmp_path / "planted", "--joined", "knowledge.jsonl", "--id", name)
    (line,) = [line for line in (tmp_path / "planted" / "knowledge.jsonl").read_text().splitlines() if name in line]
    assert counts["nodes"] == 1 + len(json.loads(line)["objects"])


def test_options_that_do_not_fit_together(run, image, examples, detections):
    with pytest.raises(ValueError, match="Got no input; give either an image file with `--objects FILE`, or `--exam"):
        run()
    with pytest.raises(ValueError, match="Got IMAGE; give either"):
        run(image)
    with pytest.raises(ValueError, match="Got IMAGE and --examples; give either"):
        run(image, "--examples", examples)
    with pytest.raises(ValueError, match="Got IMAGE and --objects and --joined"):
        run(image, "--objects", detections, "--joined", "drawing")
    with pytest.raises(ValueError, match=r"`--output` is '.*graph.jpg'; expected a file that ends in .png. Rename it"):
        run("--examples", examples, "--id", "a", output="graph.jpg")


def test_files_that_are_not_there_or_of_another_kind(run, image, examples, tmp_path):
    with pytest.raises(FileNotFoundError, match="`IMAGE` is '.*no.png', which does not exist; expected an image file"):
        run(tmp_path / "no.png", "--objects", tmp_path)
    with pytest.raises(FileNotFoundError, match="`--objects` is '.*no.tsv', which does not exist; expected a .npz"):
        run(image, "--objects", tmp_path / "no.tsv")
    with pytest.raises(ValueError, match="posts.jsonl'; expected a .npz file .* For JSON lines use `--examples`"):
        run(image, "--objects", examples)
    with pytest.raises(ValueError, match="posts.jsonl cannot be decoded"):
        run(examples, "--objects", examples)
    with pytest.raises(ValueError, match="holds no detections; expected files"):
        run(image, "--objects", tmp_path)


def test_ids_that_are_not_there(run, image, examples, detections):
    with pytest.raises(
        ValueError, match="No example has the id 'z'; the examples are 'a', 'b', .* and 1 more. Name one"
    ):
        run("--examples", examples, "--id", "z")
    with pytest.raises(ValueError, match="`--id` is missing; the examples are 'a'"):
        run("--examples", examples)
    expected = "`--id` is '8', but .* of one image" if detections.suffix == ".npz" else "has no image '8'; it has '7'"
    with pytest.raises(ValueError, match=expected):
        run(image, "--objects", detections, "--id", "8")


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("b", ValueError, r"Example 'b' has no `knowledge\['objects'\]`; expected a list such as"),
        ("c", ValueError, "Example 'c' has no image; choose another with `--id`"),
        ("e", ValueError, "Object 'x': box .* leaves its image of width 200 and height 150"),
        ("f", FileNotFoundError, "Example 'f': image '.*absent.png' does not exist; correct its path"),
    ],
)
def test_posts_that_cannot_be_drawn(run, examples, tmp_path, name, error, expected):
    with pytest.raises(error, match=expected):
        run("--examples", examples, "--id", name)
    assert not (tmp_path / "new").exists()
