from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from PIL import Image
from typer.testing import CliRunner

from hf_mner.cli import main
from hf_mner.data import (
    PlantedSignal,
    chance_level,
    find_leaks,
    load_mner_dataset,
    load_planted_signal,
    synthetic,
    write_planted_folder,
)
from hf_mner.data.synthetic_images import DrawnShape
from hf_mner.data.synthetic_random import StableRandom
from hf_mner.data.synthetic_shapes import DISTRACTORS, KEY_SHAPES
from hf_mner.data.synthetic_texts import ORDINARY, Post, make_name
from hf_mner.data.synthetic_topics import add_topic, pick_topic, read_topic

SIZE = 1500
MIXED = PlantedSignal(misleading_share=0.5, with_knowledge=True)
RELATION = PlantedSignal(misleading_share=0.5, with_knowledge=True, signal="relation")


@pytest.fixture
def without_pixels(monkeypatch):
    """Draw nothing, which takes most of the time; words, types and the shapes' names are the same."""

    def list_shapes(_random, names, _place):
        return Image.new("RGB", (8, 8)), [DrawnShape(name, "red", (0, 0, 8, 8)) for name in names]

    monkeypatch.setattr(synthetic, "draw_picture", list_shapes)


def shapes_of(example):
    return [item["label"] for item in example["knowledge"]["objects"]]


def distractors_of(example):
    return [name for name in shapes_of(example) if name in DISTRACTORS]


def is_relevant(example):
    return read_topic(example["tokens"]) in shapes_of(example)


def halves(rows):
    """Relevant and irrelevant examples."""
    parts = defaultdict(list)
    for example in rows:
        parts[is_relevant(example)].append(example)
    return parts[True], parts[False]


def assert_alike(one, other):
    """Two counters hold draws of one distribution: no share differs by more than four standard deviations."""
    for key in {*one, *other}:
        pooled = (one[key] + other[key]) / (one.total() + other.total())
        deviation = (pooled * (1 - pooled) * (1 / one.total() + 1 / other.total())) ** 0.5
        assert abs(one[key] / one.total() - other[key] / other.total()) <= 4 * deviation, key


def test_no_share_is_the_set_from_before():
    plain, none = PlantedSignal(), PlantedSignal(misleading_share=0)
    assert none == plain
    assert none.fingerprint({"train": 1}) == plain.fingerprint({"train": 1})
    assert MIXED.fingerprint({"train": 1}) != PlantedSignal(with_knowledge=True).fingerprint({"train": 1})
    assert read_topic(plain.example("train", 0)["tokens"]) is None


@pytest.mark.parametrize("signal", [MIXED, RELATION], ids=["symbol", "relation"])
def test_words_and_types_stay_and_a_topic_follows(without_pixels, signal):
    plain = PlantedSignal(signal=signal.signal)
    for example, before in zip(signal.stream("train", 100), plain.stream("train", 100), strict=True):
        assert example["tokens"] == [*before["tokens"], "#", read_topic(example["tokens"])]
        assert example["ner_tags"] == [*before["ner_tags"], 0, 0]
        assert [e["type"] for e in example["entities"]] == [e["type"] for e in before["entities"]]


def test_a_relevant_picture_is_that_of_the_plain_set():
    """Also in its pixels, but for pictures of all kinds of distractors, which leave no topic: 1 in 100."""
    plain = PlantedSignal(with_knowledge=True)
    pairs = [(MIXED.example("train", index), plain.example("train", index)) for index in range(60)]
    same = [one["image"].tobytes() == other["image"].tobytes() for one, other in pairs if is_relevant(one)]
    assert sum(same) >= len(same) - 2 > 15


def test_only_relevant_pictures_have_boxes_and_tell_the_type(without_pixels):
    relevant, irrelevant = halves(MIXED.stream("train", SIZE))
    assert abs(len(irrelevant) / SIZE - 0.5) < 4 * (0.25 / SIZE) ** 0.5
    for example in relevant:
        assert all(entity["boxes"] for entity in example["entities"])
        assert all(MIXED.symbols[entity["type"]] in shapes_of(example) for entity in example["entities"])
    assert all(entity["boxes"] == [] for example in irrelevant for entity in example["entities"])
    named = [example for example in irrelevant if example["entities"]]
    right = sum(MIXED.symbols[example["entities"][0]["type"]] in shapes_of(example) for example in named)
    assert abs(right / len(named) - 1 / 4) < 4 * (3 / 16 / len(named)) ** 0.5, "one in four types is right by chance"
    assert all(len(set(shapes_of(example)) & set(KEY_SHAPES)) == 1 for example in irrelevant)


@pytest.mark.parametrize("signal", ["symbol", "relation"])
def test_distractors_do_not_depend_on_the_relevance(without_pixels, signal):
    """What is drawn beside the key symbol is equal, example by example, whatever share misleads."""
    sets = [
        [
            distractors_of(e)
            for e in PlantedSignal(misleading_share=s, with_knowledge=True, signal=signal).stream("test", 300)
        ]
        for s in (0.001, 0.5, 1.0)
    ]
    assert sets[0] == sets[1] == sets[2]


@pytest.mark.parametrize("signal", [MIXED, RELATION], ids=["symbol", "relation"])
def test_neither_text_nor_picture_alone_tells_the_relevance(without_pixels, signal):
    relevant, irrelevant = halves(signal.stream("train", SIZE))
    for feature in (
        lambda e: read_topic(e["tokens"]),
        lambda e: (e["tokens"][0], len(e["entities"])),
        lambda e: len(shapes_of(e)),
        lambda e: len(set(shapes_of(e))),
        lambda e: tuple(sorted(set(distractors_of(e)))),
        lambda e: tuple(set(shapes_of(e)) & set(KEY_SHAPES)),
        lambda e: shapes_of(e)[0],
    ):
        assert_alike(Counter(map(feature, relevant)), Counter(map(feature, irrelevant)))
    topics = Counter(read_topic(e["tokens"]) for e in relevant)
    assert_alike(topics, Counter(dict.fromkeys(topics, len(relevant))))


def test_topics_are_kinds_that_can_be_missing(without_pixels):
    for signal, kinds in ((MIXED, set(DISTRACTORS)), (RELATION, {"hexagon", "oval", "bar"})):
        rows = list(signal.stream("train", 600))
        assert {read_topic(e["tokens"]) for e in rows} == kinds
        assert not any(kinds <= set(shapes_of(e)) for e in rows)


def test_an_irrelevant_relation_has_its_pair():
    _, irrelevant = halves(RELATION.stream("train", 30))
    assert irrelevant
    assert all({"square", "circle"} <= set(shapes_of(example)) for example in irrelevant)
    assert all(entity["boxes"] == [] for example in irrelevant for entity in example["entities"])


def test_topics_are_no_names_and_no_ordinary_words():
    random = StableRandom("names")
    names = {word.lower() for split in ("train", "test") for _ in range(2000) for word in make_name(random, split)}
    assert not set(DISTRACTORS) & {*names, *map(str.lower, ORDINARY)}


def test_pick_add_and_read():
    random, kinds = StableRandom("topic"), ["square", "bar", "oval"]
    drawn = ["star", "bar", "bar", "square"]
    assert {pick_topic(random, kinds, drawn, True) for _ in range(50)} == {"square", "bar"}
    assert {pick_topic(random, kinds, drawn, False) for _ in range(50)} == {"oval"}
    post = add_topic(Post(["Bado", "again"], [(0, 1)]), "oval")
    assert post == (["Bado", "again", "#", "oval"], [(0, 1)])
    assert read_topic(post.tokens) == "oval"
    for tokens in ([], ["oval"], ["#", "coffee"], ["#", "oval", "again"]):
        assert read_topic(tokens) is None


def test_both_shares_together(without_pixels):
    rows = list(PlantedSignal(misleading_share=0.5, uninformative_share=0.5, with_knowledge=True).stream("test", 300))
    kinds = Counter((is_relevant(e), bool(set(shapes_of(e)) & set(KEY_SHAPES))) for e in rows)
    assert len(kinds) == 4
    assert all(bool(entity["boxes"]) <= is_relevant(e) for e in rows for entity in e["entities"])


def test_splits_share_no_text(without_pixels):
    dataset = load_planted_signal({"train": 100, "validation": 50, "test": 50}, misleading_share=0.5)
    assert find_leaks(dataset["train"], [dataset["validation"], dataset["test"]]) == []


def test_chance_level_counts_irrelevant_pictures_as_unknown(without_pixels):
    level = chance_level(MIXED.stream("test", 500))
    assert level.image_accuracy == pytest.approx(0.5 + 0.5 * 0.25, abs=0.1)
    assert level.text_only_f1 == pytest.approx(0.25, abs=0.1)


def test_the_command_writes_a_folder_that_says_what_is_relevant(tmp_path):
    options = ["--train", "30", "--validation", "0", "--test", "8", "--misleading-share", "0.5", "--knowledge"]
    done = CliRunner().invoke(main.app, ["data", "synthetic", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    folder = write_planted_folder(MIXED, {"train": 30, "test": 8}, tmp_path / "again")
    written = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()}
    assert {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == written
    read = load_mner_dataset("folder", folder, knowledge=["knowledge.jsonl"])
    for index, row in enumerate(read["test"]):
        example = MIXED.example("test", index)
        assert row["tokens"] == example["tokens"]
        assert is_relevant(row) == is_relevant(example)
        assert not example["entities"] or is_relevant(row) == bool(row["entities"][0]["boxes"])


def test_shares_that_mean_nothing():
    with pytest.raises(ValueError, match=r"`misleading_share` is -0.1; expected a share in \[0, 1\]"):
        PlantedSignal(misleading_share=-0.1)
