from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hf_mner.cli import main
from hf_mner.data import (
    PlantedSignal,
    chance_level,
    count_dataset,
    find_leaks,
    label_file_hash,
    load_mner_dataset,
    load_planted_signal,
    loaders,
    refuse_leakage,
    synthetic,
    write_parquet_dataset,
    write_planted_folder,
)
from hf_mner.data.schema import check_knowledge
from hf_mner.data.synthetic_images import COLORS, GAP, NOISE, SIDES, SIZES, draw_mask, draw_picture
from hf_mner.data.synthetic_random import StableRandom
from hf_mner.data.synthetic_shapes import DISTRACTORS, KEY_SHAPES
from hf_mner.data.synthetic_texts import ORDINARY, owner

SIZE = 100
TOLD = PlantedSignal(with_knowledge=True)


@pytest.fixture(scope="module")
def examples():
    return list(TOLD.stream("train", SIZE))


@pytest.fixture
def without_pictures(monkeypatch):
    """Draw nothing, which takes most of the time; words and types are the same."""
    monkeypatch.setattr(synthetic, "draw_picture", lambda *_: (Image.new("RGB", (8, 8)), []))


def names_of(examples):
    return [" ".join(e["tokens"][x["start"] : x["end"]]) for e in examples for x in e["entities"]]


def fingerprint(examples):
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example["image"].tobytes() + repr({**example, "image": None}).encode())
    return digest.hexdigest()


def is_apart(one, other, gap):
    return one[2] + gap <= other[0] or other[2] + gap <= one[0] or one[3] + gap <= other[1] or other[3] + gap <= one[1]


def test_an_example_does_not_depend_on_what_came_before(examples):
    assert fingerprint([TOLD.example("train", 99)]) == fingerprint(examples[99:])
    assert fingerprint(TOLD.stream("train", 3)) == fingerprint(examples[:3])


def test_another_process_makes_the_same_examples(examples):
    code = f"""
import sys; sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
from test_synthetic import TOLD, fingerprint
print(fingerprint(TOLD.stream("train", 5)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(examples[:5])


def test_the_random_numbers_never_change():
    random = StableRandom("planted_signal", 1, "a")
    assert [random.whole(0, 999) for _ in range(4)] == [516, 532, 340, 387]
    assert random.noise(3).hex() == "45d718"


def test_the_generator_has_this_version():
    """Where this fails on purpose, raise `FORMAT_VERSION`: sets of the same settings are others from then on."""
    example = PlantedSignal().example("train", 1)
    assert synthetic.FORMAT_VERSION == 2
    assert example["tokens"] == ["all", "about", "Seitrem", "tonight"]
    assert example["entities"] == [{"start": 2, "end": 3, "type": "PER", "boxes": [[73, 8, 115, 50]]}]
    assert example["image_size"] == [161, 201]


@pytest.mark.parametrize(
    ("settings", "frozen", "name"),
    [
        ({}, "adea6dd33d39dc4b2421640d868f67134d7843739257d6edf6003a1469746f69", "aea9ecf1ab50"),
        (
            {"with_knowledge": True, "uninformative_share": 0.5, "seed": 3},
            "27e67eb29b2e6eeabcc28ae1e8a42ad36e8849b6c4ef12588aecc1ec1bef710b",
            "09af62c16818",
        ),
    ],
)
def test_sets_from_before_there_were_relations_are_the_same(settings, frozen, name):
    """Every pixel counts, so a Pillow that fills polygons otherwise fails here as well."""
    signal = PlantedSignal(**settings)
    some = [signal.example(split, index) for split in ("train", "validation", "test") for index in range(4)]
    assert fingerprint(some) == frozen
    assert signal.fingerprint(synthetic.DEFAULT_SIZES) == name
    assert PlantedSignal(**settings, signal="symbol") == signal


def test_seeds_and_splits_share_no_example(examples):
    other_seed = list(PlantedSignal(seed=1, with_knowledge=True).stream("train", SIZE))
    test = list(TOLD.stream("test", SIZE))
    for others in (other_seed, test):
        assert not {e["id"] for e in examples} & {e["id"] for e in others}
        assert not {e["image"].tobytes() for e in examples} & {e["image"].tobytes() for e in others}
    assert not set(names_of(examples)) & set(names_of(other_seed)), "names of other seeds are others"


def test_the_picture_and_nothing_else_decides_the_type(monkeypatch, examples):
    """With another stream for the type, words and spans stay; with another one for the words, type and picture do."""

    def replace_stream(purpose):
        def make(*key):
            return StableRandom(*key, "replaced" if key[-1] == purpose else "")

        monkeypatch.setattr(synthetic, "StableRandom", make)
        return list(PlantedSignal().stream("train", 30))

    def text_of(example):
        return example["tokens"], [(entity["start"], entity["end"]) for entity in example["entities"]]

    plain, other_type, other_text = map(replace_stream, ("none", "type", "text"))
    assert [text_of(e) for e in other_type] == [text_of(e) for e in plain]
    assert [e["entities"] for e in other_type] != [e["entities"] for e in plain]
    assert [e["image"].tobytes() for e in other_text] == [e["image"].tobytes() for e in plain]
    assert [text_of(e) for e in other_text] != [text_of(e) for e in plain]
    for one, other in zip(plain, other_text, strict=True):
        answers = [{(x["type"], str(x["boxes"])) for x in e["entities"]} for e in (one, other)]
        assert answers[0] == answers[1] or not all(answers), "type and box are those of the picture"


def test_types_are_equally_frequent_whatever_the_text_says(without_pictures):
    rows = [(e["tokens"], e["entities"]) for e in PlantedSignal().stream("validation", 250)]
    types = Counter(entities[0]["type"] for _, entities in rows if entities)
    with_names = types.total()
    expected, deviation = with_names / 4, (with_names * 0.25 * 0.75) ** 0.5
    assert all(abs(types[name] - expected) < 4 * deviation for name in ("PER", "LOC", "ORG", "MISC"))
    retweets = Counter(entities[0]["type"] for tokens, entities in rows if entities and tokens[0] == "RT")
    assert len(retweets) == 4


def test_the_key_symbol_gives_type_and_box(examples):
    assert TOLD.symbols == {"PER": "star", "LOC": "triangle", "ORG": "cross", "MISC": "ring"}
    for example in examples:
        objects = example["knowledge"]["objects"]
        keys = [item for item in objects if item["label"] in KEY_SHAPES]
        assert len(keys) == 1
        assert 2 <= len(objects) - 1 <= 5
        for entity in example["entities"]:
            assert TOLD.symbols[entity["type"]] == keys[0]["label"]
            assert entity["boxes"] == [keys[0]["box"]]


def test_boxes_are_tight_inside_and_apart(examples):
    """The pixels of a shape are those around its box that have its colour, give or take the noise."""
    for example in examples[:60]:
        pixels = np.asarray(example["image"]).astype(int)
        width, height = example["image_size"]
        assert example["image"].size == (width, height)
        assert all(SIDES[0] <= side <= SIDES[1] for side in (width, height))
        objects = example["knowledge"]["objects"]
        for number, item in enumerate(objects):
            xmin, ymin, xmax, ymax = (int(side) for side in item["box"])
            assert GAP <= xmin < xmax <= width - GAP
            assert GAP <= ymin < ymax <= height - GAP
            share = max(xmax - xmin, ymax - ymin) / min(width, height)
            assert SIZES[0] - 0.02 < share < SIZES[1] + 0.02, "one pixel is 0.008 of the shortest side"
            around = pixels[ymin - GAP : ymax + GAP, xmin - GAP : xmax + GAP]
            color = COLORS[item["caption"].split()[1]]
            rows, columns = np.nonzero((abs(around - color) <= NOISE).all(axis=2))
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert found == [GAP, GAP, xmax - xmin + GAP, ymax - ymin + GAP]
            assert all(is_apart(item["box"], other["box"], GAP) for other in objects[:number])


def test_rank_colour_and_size_do_not_give_the_key_symbol_away():
    rows = [e["knowledge"]["objects"] for e in TOLD.stream("test", 200)]
    areas = [[(o["box"][2] - o["box"][0]) * (o["box"][3] - o["box"][1]) for o in row] for row in rows]
    key_at = [next(n for n, o in enumerate(row) if o["label"] in KEY_SHAPES) for row in rows]
    expected = sum(1 / len(row) for row in rows) / len(rows)
    deviation = (expected * (1 - expected) / len(rows)) ** 0.5
    assert abs(sum(at == 0 for at in key_at) / len(rows) - expected) < 4 * deviation
    largest = sum(at == row.index(max(row)) for at, row in zip(key_at, areas, strict=True)) / len(rows)
    assert largest < 0.6, "flat distractors have smaller boxes, but the largest box is often another shape's"
    colors = {row[at]["caption"].split()[1] for at, row in zip(key_at, rows, strict=True)}
    assert colors == set(COLORS)


def test_every_shape_is_another_one():
    masks = {name: draw_mask(name, 40, 0) for name in [*KEY_SHAPES, *DISTRACTORS]}
    for name, mask in masks.items():
        assert abs(max(mask.shape) - 40) <= 2
        assert mask.any(axis=0).all()
        assert mask.any(axis=1).all()
        same = [other for other in masks if masks[other].shape == mask.shape and (masks[other] == mask).all()]
        assert same == [name]
    assert not masks["ring"][20, 20]
    assert masks["circle"][20, 20]
    flat = (draw_mask("bar", 40, 0).shape, draw_mask("bar", 40, 90).shape)
    assert flat[0] == flat[1][::-1]


def test_crowded_pictures_are_placed_too():
    _, shapes = draw_picture(StableRandom("crowded"), ["star", *["square"] * 5])
    assert [shape.name for shape in shapes] == ["star", *["square"] * 5]


def test_posts_have_no_one_or_two_names(examples):
    counts = Counter(len(e["entities"]) for e in examples)
    assert set(counts) == {0, 1, 2}
    assert counts[1] > counts[2] > 0
    for example in examples:
        names = names_of([example])
        assert len(set(names)) == len(names)
        assert len({x["type"] for x in example["entities"]}) <= 1
        assert all(word.istitle() and word not in ORDINARY for name in names for word in name.split())
        assert not any(
            tag for tag, token in zip(example["ner_tags"], example["tokens"], strict=True) if token.islower()
        )
    words = {e["tokens"][i] for e in examples for i, tag in enumerate(e["ner_tags"]) if tag == 0}
    assert any(word.istitle() for word in words & set(ORDINARY))
    assert any(word.islower() for word in words & set(ORDINARY))


def test_names_and_texts_belong_to_one_split(without_pictures):
    splits = {split: list(PlantedSignal().stream(split, 60)) for split in ("train", "validation", "test")}
    for split, rows in splits.items():
        assert {owner(word) for name in names_of(rows) for word in name.split()} == {split}
    dataset = load_planted_signal({"train": 60, "validation": 30, "test": 30})
    assert find_leaks(dataset["train"], [dataset["validation"], dataset["test"]]) == []
    refuse_leakage("planted_signal", "planted_signal")


def test_uninformative_pictures_show_distractors_alone(examples):
    signal = PlantedSignal(uninformative_share=0.4, with_knowledge=True)
    rows, plain = list(signal.stream("train", SIZE)), examples
    blind = [e for e in rows if not {o["label"] for o in e["knowledge"]["objects"]} & set(KEY_SHAPES)]
    assert 25 < len(blind) < 55
    assert all(entity["boxes"] == [] for e in blind for entity in e["entities"])
    assert all(2 <= len(e["knowledge"]["objects"]) <= 5 for e in blind)
    assert all(entity["boxes"] for e in rows if e not in blind for entity in e["entities"])
    assert [e["ner_tags"] for e in rows] == [e["ner_tags"] for e in plain], "words and types stay"
    assert {len(e["entities"]) for e in blind} == {0, 1, 2}


def test_knowledge_lists_the_shapes_and_names_no_type(examples):
    for example in examples:
        knowledge = example["knowledge"]
        check_knowledge(knowledge, example["image_size"])
        assert all(item["caption"] in knowledge["auxiliary"] for item in knowledge["objects"])
        assert knowledge["auxiliary"].startswith("The image shows a")
        assert not any(entity_type in json.dumps(knowledge) for entity_type in TOLD.types)
    without = PlantedSignal().example("train", 0)
    assert without["knowledge"] is None
    assert without["image"].tobytes() == examples[0]["image"].tobytes()


def made(*answers):
    return [{"entities": [{"start": 0, "end": 1, "type": t, "boxes": b}]} for t, b in answers]


def test_chance_level_of_a_hand_worked_set():
    seen = [[0, 0, 9, 9]]
    rows = made(("PER", seen), ("PER", seen), ("PER", []), ("LOC", seen), ("LOC", []), ("LOC", []))
    rows += [{"entities": []}]
    level = chance_level(rows)
    assert level.entities == 6
    assert level.text_only_accuracy == level.text_only_f1 == 3 / 6
    assert level.text_only_grounded_f1 == 2 / 6  # LOC without a box
    assert level.image_accuracy == (3 + 2) / 6  # three are seen, LOC is guessed for the rest
    assert level.image_f1 == 2 * 5 / (6 + 6)
    both = chance_level(rows, types_per_name=2)
    assert both.text_only_f1 == 2 * 6 / (12 + 6)  # PER and LOC for each name: half of the answers are right
    assert both.image_f1 == max(2 * 5 / (6 + 6), 2 * 6 / (9 + 6))


def test_silence_can_be_worth_more_than_a_guess():
    rows = made(("PER", [[0, 0, 9, 9]]), *((t, []) for t in "ABCD"), ("PER", [[0, 0, 9, 9]]))
    level = chance_level(rows)
    assert level.image_accuracy == 3 / 6
    assert level.image_f1 == 2 * 2 / (2 + 6) == 0.5
    rows = made(*[("PER", [[0, 0, 9, 9]])] * 4, *((t, []) for t in "ABCD"))
    assert chance_level(rows).image_f1 == 2 * 4 / (4 + 8) > 2 * 5 / (8 + 8)


def test_chance_level_of_generated_sets():
    dataset = load_planted_signal({"test": 100}, uninformative_share=0.5)["test"]
    level = chance_level(dataset)
    assert level == chance_level(list(dataset))
    assert 0.25 <= level.text_only_f1 < 0.4
    assert level.image_accuracy == pytest.approx(0.5 + 0.5 * 0.28, abs=0.15)
    full = chance_level(PlantedSignal().stream("test", 100))
    assert (full.image_accuracy, full.image_f1, full.text_only_grounded_f1) == (1, 1, 0)
    with pytest.raises(ValueError, match="`examples` hold no entity.*give more"):
        chance_level([{"entities": []}])
    with pytest.raises(ValueError, match="`types_per_name` is 0; expected a whole number from 1 on"):
        chance_level(dataset, types_per_name=0)


def test_streams_are_lazy(monkeypatch):
    drawn = []
    monkeypatch.setattr(synthetic, "draw_picture", lambda *given: (drawn.append(given), draw_picture(*given))[1])
    stream = PlantedSignal().stream("train", 10**12)
    assert drawn == []
    assert len(list(islice(stream, 3))) == len(drawn) == 3
    rows = PlantedSignal().iterable_dataset("train", 10**12)
    assert rows.features["image"] is not None
    expected = PlantedSignal().example("train", 1)
    row = list(rows.take(2))[1]
    assert row.pop("image").tobytes() == expected.pop("image").tobytes()
    assert row == expected
    assert len(drawn) < 10


def test_rows_of_a_dataset_are_the_examples(examples):
    rows = TOLD.dataset("train", 8)
    assert rows.split == "train"
    for row, example in zip(rows, examples[:8], strict=True):
        assert row.pop("image").tobytes() == example["image"].tobytes()
        assert row == {key: value for key, value in example.items() if key != "image"}


def test_a_written_folder_reads_back_to_the_same_examples(tmp_path):
    sizes = {"test": 12, "train": 30}
    folder = write_planted_folder(PlantedSignal(with_knowledge=True, uninformative_share=0.3), sizes, tmp_path / "out")
    read = load_mner_dataset("folder", folder)
    made_here = load_planted_signal(sizes, with_knowledge=True, uninformative_share=0.3)
    assert list(read) == list(made_here) == ["train", "test"]
    for split, rows in made_here.items():
        assert read[split].features == rows.features
        for one, other in zip(read[split], rows, strict=True):
            assert one.pop("image").tobytes() == other.pop("image").tobytes()
            assert one == other
    with pytest.raises(FileExistsError, match=r"'.*out' is not empty; choose a new one, or empty it first"):
        write_planted_folder(PlantedSignal(), sizes, tmp_path / "out")


def test_the_command_writes_the_same_folder(tmp_path):
    options = ["--train", "5", "--validation", "0", "--test", "3", "--seed", "4", "--uninformative-share", "0.5"]
    arguments = ["data", "synthetic", str(tmp_path / "out"), *options, "--type", "A", "--type", "B"]
    done = CliRunner().invoke(main.app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "out")
    signal = PlantedSignal(types=("A", "B"), seed=4, uninformative_share=0.5)
    folder = write_planted_folder(signal, {"train": 5, "test": 3}, tmp_path / "again")
    written = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert len(written) == 8 + 3, "eight images, two label files, the boxes"
    assert {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")} == written
    refused = CliRunner().invoke(main.app, arguments)
    assert isinstance(refused.exception, FileExistsError)


def test_the_command_has_the_defaults_of_the_loader(tmp_path, monkeypatch):
    from hf_mner.data import synthetic_folder

    calls = []
    monkeypatch.setattr(synthetic_folder, "write_planted_folder", lambda *given: calls.append(given))
    assert CliRunner().invoke(main.app, ["data", "synthetic", str(tmp_path)]).exit_code == 0
    assert calls == [(PlantedSignal(), synthetic.DEFAULT_SIZES, tmp_path)]


def test_the_name_works_where_any_other_does(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_MNER_DATA", raising=False)
    monkeypatch.setattr(synthetic, "DEFAULT_SIZES", {"train": 6, "validation": 4, "test": 4})
    dataset = load_mner_dataset("planted_signal")
    assert {split: len(rows) for split, rows in dataset.items()} == synthetic.DEFAULT_SIZES
    assert dataset["train"][0]["knowledge"] is None
    told = load_mner_dataset("planted_signal", tmp_path, knowledge=[loaders.DRAWING])
    assert told["train"][0]["knowledge"]["objects"]
    assert count_dataset(dataset)["test"]["images"] == 4
    write_parquet_dataset(dataset, tmp_path / "out", "planted_signal")
    assert len(label_file_hash("planted_signal")) == 12
    assert label_file_hash("planted_signal") != PlantedSignal(seed=1).fingerprint(synthetic.DEFAULT_SIZES)
    for options, message in (
        ({"granularity": "fine"}, "'twitter_fmnerg' only; leave it out for 'planted_signal'"),
        ({"image_dir": "x"}, "`image_dir='x'` is for sets with files"),
        ({"knowledge": ["chatgpt"]}, "'chatgpt' is not published for 'planted_signal'; what there is: drawing"),
        ({"knowledge": "drawing"}, r"give 'auto' or a list such as \['drawing'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            load_mner_dataset("planted_signal", **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": ()}, r"`types` is \(\); expected 1 to 8 different names"),
        ({"types": ("A", "A")}, "different names"),
        ({"types": ("A B",)}, "without spaces"),
        ({"types": "PER"}, r"`types` is 'PER'"),
        ({"types": tuple("ABCDEFGHI")}, r"key symbols \(star, triangle.*Leave some out"),
        ({"seed": 1.5}, "`seed` is 1.5; expected a whole number"),
        ({"uninformative_share": 1.1}, r"`uninformative_share` is 1.1; expected a share in \[0, 1\]"),
        ({"uninformative_share": "half"}, "is 'half'; expected a share"),
        ({"signal": "colour"}, "`signal` is 'colour'; choose one of symbol, relation"),
        ({"with_knowledge": 1}, "`with_knowledge` is 1; expected True or False"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        PlantedSignal(**settings)


def test_splits_sizes_and_indices_that_mean_nothing():
    signal = PlantedSignal(types=[f"T{number}" for number in range(8)])
    assert list(signal.symbols.values()) == list(KEY_SHAPES)
    assert hash(signal) == hash(PlantedSignal(types=tuple(signal.types)))
    with pytest.raises(ValueError, match="`split` is 'dev'; choose one of train, validation, test"):
        signal.example("dev", 0)
    with pytest.raises(ValueError, match="`index` is -1; expected a whole number from 0 on"):
        signal.example("train", -1)
    for make in (signal.stream, signal.dataset, signal.iterable_dataset):
        with pytest.raises(ValueError, match="size of split 'test' is 0; expected a whole number from 1 on"):
            make("test", 0)
    with pytest.raises(ValueError, match="`sizes` is empty; expected numbers of examples"):
        load_planted_signal({})
    with pytest.raises(ValueError, match="`split` is 'dev'"):
        load_planted_signal({"dev": 3})
