from __future__ import annotations

import json
from collections import Counter, defaultdict
from math import atan2, cos, degrees, hypot, pi, sin

import numpy as np
import pytest
from typer.testing import CliRunner

from hf_mner.cli import main
from hf_mner.data import (
    PlantedSignal,
    chance_level,
    label_file_hash,
    load_mner_dataset,
    load_planted_signal,
    synthetic,
    write_planted_folder,
)
from hf_mner.data.readers import GENERATED
from hf_mner.data.schema import check_knowledge
from hf_mner.data.synthetic_images import GAP, draw_mask
from hf_mner.data.synthetic_random import StableRandom
from hf_mner.data.synthetic_relations import (
    CIRCLE,
    MARGIN,
    SECTOR_COUNTS,
    SIZES,
    SQUARE,
    find_free_corners,
    list_sectors,
    place_related,
)

SIZE = 300
SPLITS = ("train", "validation", "test")
RELATION = PlantedSignal(signal="relation", with_knowledge=True)
TYPES = {count: tuple(f"T{number}" for number in range(count)) for count in SECTOR_COUNTS}


@pytest.fixture(scope="module")
def splits():
    return {split: list(RELATION.stream(split, SIZE)) for split in SPLITS}


@pytest.fixture(scope="module")
def examples(splits):
    return [example for rows in splits.values() for example in rows]


def boxes_of(example, label):
    return [item["box"] for item in example["knowledge"]["objects"] if item["label"] == label]


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def offset(example):
    """The way from the square to the circle in pixels, y downwards."""
    (square,), (circle,) = boxes_of(example, SQUARE), boxes_of(example, CIRCLE)
    return center(circle)[0] - center(square)[0], center(circle)[1] - center(square)[1]


def angle(example):
    dx, dy = offset(example)
    return degrees(atan2(dy, dx)) % 360


def is_apart(one, other):
    gaps = one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3]
    return max(gaps) >= GAP


@pytest.mark.parametrize("split", SPLITS)
def test_the_direction_gives_the_type_and_the_circle_the_box(splits, split):
    by_quarter = {0: "PER", 1: "LOC", 2: "ORG", 3: "MISC"}
    assert {"PER", "LOC", "ORG", "MISC"} == {x["type"] for e in splits[split] for x in e["entities"]}
    for example in splits[split]:
        for entity in example["entities"]:
            assert entity["type"] == by_quarter[int(angle(example) // 90)]
            assert entity["boxes"] == boxes_of(example, CIRCLE)


@pytest.mark.parametrize("count", SECTOR_COUNTS)
def test_sectors_are_unions_of_the_eight_classes(count):
    """Class `c` of the paper is [45 (c - 1), 45 c): of four types, the first has classes 1 and 2."""
    signal = PlantedSignal(types=TYPES[count], signal="relation", with_knowledge=True)
    classes = defaultdict(set)
    for example in signal.stream("train", 200):
        for entity in example["entities"]:
            classes[entity["type"]].add(int(angle(example) // 45) + 1)
    each = 8 // count
    expected = {name: set(range(at * each + 1, at * each + each + 1)) for at, name in enumerate(signal.types)}
    assert classes == expected


def test_directions_are_spread_and_clear(examples):
    within = np.array([angle(example) % 90 for example in examples])
    assert within.min() >= MARGIN - 2, "rounding to pixels takes up to 2 degrees"
    assert within.max() <= 90 - MARGIN + 2
    for low in (10, 27.5, 45, 62.5):
        share = np.mean((within >= low) & (within < low + 17.5))
        assert 0.19 < share < 0.31, "a quarter each, give or take four standard deviations of 0.0144"


def test_types_are_equally_frequent(examples):
    quarters = Counter(int(angle(example) // 90) for example in examples)
    deviation = (len(examples) * 0.25 * 0.75) ** 0.5
    assert all(abs(quarters[number] - len(examples) / 4) < 4 * deviation for number in range(4))


def test_a_picture_shows_one_pair_and_one_to_three_others(examples):
    others = Counter()
    for example in examples:
        labels = Counter(item["label"] for item in example["knowledge"]["objects"])
        assert labels.pop(SQUARE) == labels.pop(CIRCLE) == 1
        assert set(labels) <= {"hexagon", "oval", "bar"}
        others[labels.total()] += 1
    assert set(others) == {1, 2, 3}


def test_the_pair_is_close_and_no_boxes_touch(examples):
    for example in examples:
        width, height = example["image_size"]
        assert hypot(*offset(example)) < 0.42 * hypot(width, height)
        boxes = [item["box"] for item in example["knowledge"]["objects"]]
        for number, box in enumerate(boxes):
            assert all(is_apart(box, other) for other in boxes[:number])
            assert GAP <= box[0] < box[2] <= width - GAP
            assert GAP <= box[1] < box[3] <= height - GAP


def test_rank_colour_and_size_do_not_tell_the_type(examples):
    """The best rule on each, counted on the examples that it is judged on, is hardly better than chance."""

    def accuracy(read):
        counts = defaultdict(Counter)
        for example in examples:
            counts[read(example)][int(angle(example) // 90)] += 1
        return sum(max(row.values()) for row in counts.values()) / len(examples)

    labels = [[item["label"] for item in example["knowledge"]["objects"]] for example in examples]
    assert accuracy(lambda e: [x["label"] for x in e["knowledge"]["objects"]].index(CIRCLE)) < 0.33
    assert accuracy(lambda e: next(x for x in e["knowledge"]["objects"] if x["label"] == CIRCLE)["caption"]) < 0.33
    assert accuracy(lambda e: len(e["knowledge"]["objects"])) < 0.3
    assert accuracy(lambda e: e["image_size"][0] > e["image_size"][1]) < 0.3
    assert len({tuple(sorted(row)) for row in labels}) > 10


@pytest.mark.parametrize("label", [SQUARE, CIRCLE])
def test_the_place_of_one_shape_says_little(examples, label):
    """On 2,000 examples, the best rule on quarters of the picture is right for 0.43 (circle) and 0.46 (square)."""
    counts = defaultdict(Counter)
    for example in examples:
        (x, y), (width, height) = center(boxes_of(example, label)[0]), example["image_size"]
        counts[x > width / 2, y > height / 2][int(angle(example) // 90)] += 1
    assert sum(max(row.values()) for row in counts.values()) / len(examples) < 0.5


def test_words_and_types_are_those_of_the_symbols(examples):
    for example, other in zip(examples, PlantedSignal().stream("train", 20), strict=False):
        assert (example["tokens"], example["ner_tags"]) == (other["tokens"], other["ner_tags"])
        assert example["id"] == other["id"].replace("planted_signal", "planted_relation")
    assert set(GENERATED) == {"planted_signal", "planted_relation"}


def test_an_example_depends_on_its_index_alone(splits):
    again = PlantedSignal(signal="relation").example("test", 7)
    assert again["image"].tobytes() == splits["test"][7]["image"].tobytes()
    assert again["entities"] == splits["test"][7]["entities"]


def test_uninformative_pictures_lack_the_circle(splits):
    signal = PlantedSignal(signal="relation", with_knowledge=True, uninformative_share=0.4)
    rows = list(signal.stream("train", SIZE))
    blind = [example for example in rows if not boxes_of(example, CIRCLE)]
    assert 0.28 < len(blind) / SIZE < 0.52
    assert all(entity["boxes"] == [] for example in blind for entity in example["entities"])
    assert all(len(boxes_of(example, SQUARE)) == 1 for example in rows)
    assert all(entity["boxes"] for example in rows if boxes_of(example, CIRCLE) for entity in example["entities"])
    assert [e["ner_tags"] for e in rows] == [e["ner_tags"] for e in splits["train"]], "words and types stay"
    level = chance_level(rows)
    assert level.image_accuracy < 0.85
    assert level.text_only_f1 < 0.4
    assert chance_level(splits["train"])[-2:] == (1, 1)


def test_knowledge_names_no_type(examples):
    for example in examples[:50]:
        check_knowledge(example["knowledge"], example["image_size"])
        text = json.dumps(example["knowledge"])
        assert not any(entity_type in text for entity_type in RELATION.types)
        assert "degrees" not in text


def test_symbols_say_where_the_circle_lies():
    assert RELATION.symbols["LOC"] == "circle at 90 to 180 degrees from the square"
    eight = PlantedSignal(types=TYPES[8], signal="relation").symbols
    assert eight["T7"] == "circle at 315 to 360 degrees from the square"


@pytest.mark.parametrize("size", [(128, 128), (128, 256), (256, 128)])
@pytest.mark.parametrize("sector", list_sectors(8))
def test_crowded_pictures_are_placed_too(size, sector):
    """Thirty shapes do not fit in their sizes; the pair keeps its own, the others become as small as they must."""
    names = [*["hexagon"] * 28, CIRCLE, SQUARE]
    placed = place_related(StableRandom("crowded", size, sector), names, size, sector)
    boxes = [placement.box for placement in placed]
    assert all(is_apart(box, other) for number, box in enumerate(boxes) for other in boxes[:number])
    sides = [max(box[2] - box[0], box[3] - box[1]) / min(size) for box in boxes]
    assert min(sides) < SIZES[0] - 0.02
    assert min(sides[-2:]) > SIZES[0] - 0.02
    assert all(placement.mask.any() for placement in placed)


def test_free_corners_are_those_where_a_shape_fits():
    others, size, shape = [(20, 10, 26, 18)], (40, 32), draw_mask("bar", 9, 0).shape
    free = find_free_corners(shape, size, others)
    assert free.shape == (32, 40)
    for top, left in np.ndindex(free.shape):
        box = (left, top, left + shape[1], top + shape[0])
        is_inside = min(left, top, size[0] - box[2], size[1] - box[3]) >= GAP
        assert free[top, left] == (is_inside and is_apart(box, others[0]))
    assert not find_free_corners((30, 30), size, []).any()


def test_angles_turn_from_right_to_down():
    assert list_sectors(4) == [(0, 90), (90, 180), (180, 270), (270, 360)]
    for low, high in list_sectors(8):
        middle = (low + high) / 2 * pi / 180
        square, circle = place_related(StableRandom(low), [SQUARE, CIRCLE], (200, 200), (low, high))
        dx, dy = (b - a for a, b in zip(center(square.box), center(circle.box), strict=True))
        assert (dx > 0, dy > 0) == (cos(middle) > 0, sin(middle) > 0)


def test_sets_of_relations_have_a_name_and_a_hash(monkeypatch):
    monkeypatch.delenv("HF_MNER_DATA", raising=False)
    monkeypatch.setattr(synthetic, "DEFAULT_SIZES", {"train": 6, "validation": 4, "test": 4})
    told = load_mner_dataset("planted_relation", knowledge=["drawing"])
    for split, rows in load_planted_signal(signal="relation", with_knowledge=True).items():
        assert told[split]["entities"][:] == rows["entities"][:]
        assert told[split]["knowledge"][:] == rows["knowledge"][:]
    assert load_mner_dataset("planted_relation")["train"][0]["knowledge"] is None
    assert label_file_hash("planted_relation") != label_file_hash("planted_signal")
    with pytest.raises(ValueError, match="leave it out for 'planted_relation'"):
        load_mner_dataset("planted_relation", image_dir="x")
    with pytest.raises(ValueError, match="'chatgpt' is not published for 'planted_relation'"):
        load_mner_dataset("planted_relation", knowledge=["chatgpt"])


def test_the_command_writes_the_same_folder(tmp_path):
    sizes = {"train": 4, "test": 3}
    options = ["--train", "4", "--validation", "0", "--test", "3", "--knowledge", "--signal", "relation"]
    done = CliRunner().invoke(main.app, ["data", "synthetic", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    folder = write_planted_folder(RELATION, sizes, tmp_path / "again")
    written = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == written
    refused = CliRunner().invoke(main.app, ["data", "synthetic", str(tmp_path / "no"), "--signal", "colour"])
    assert refused.exit_code == 2


@pytest.mark.parametrize("count", [1, 3, 5, 6, 7])
def test_other_numbers_of_types_are_refused(count):
    with pytest.raises(ValueError, match="expected 2, 4 or 8 names with `signal='relation'`.*Leave some out"):
        PlantedSignal(types=tuple("ABCDEFG"[:count]), signal="relation")
