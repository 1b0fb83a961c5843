"""Label noise: examples stay well formed, and as much is spoilt as was asked for."""

import copy
import random

import pytest

from hf_mner.data import bio_labels, corrupt_labels, decode_bio, encode_bio

TYPES = ["PER", "LOC", "ORG"]
LABELS = bio_labels(TYPES)


def random_examples(number=400, seed=0):
    """Texts of 1 to 12 words with entities, also at the ends and side by side."""
    generator = random.Random(seed)
    examples = []
    for index in range(number):
        length, spans, place = generator.randint(1, 12), [], 0
        while place < length:
            end = min(place + generator.randint(1, 3), length)
            if generator.random() < 0.5:
                spans.append((place, end, generator.choice(TYPES)))
            place = end
        examples.append(
            {
                "id": str(index),
                "tokens": [f"w{word}" for word in range(length)],
                "ner_tags": [LABELS.index(tag) for tag in encode_bio(spans, length)],
                "entities": [
                    {"start": start, "end": end, "type": entity_type, "boxes": [[0, 0, start + 1, end]]}
                    for start, end, entity_type in spans
                ],
            }
        )
    return examples


def spans_of(example):
    return [(entity["start"], entity["end"], entity["type"]) for entity in example["entities"]]


@pytest.mark.parametrize("kinds", [("type",), ("boundary",), ("missing",), ("type", "boundary", "missing")])
@pytest.mark.parametrize("rate", [0, 0.2, 1])
def test_noisy_examples_are_well_formed_and_the_given_ones_unchanged(kinds, rate):
    examples = random_examples()
    before = copy.deepcopy(examples)
    noisy, counts = corrupt_labels(examples, rate, 1, TYPES, kinds)
    assert examples == before
    assert tuple(counts) == kinds
    for clean, example in zip(examples, noisy, strict=True):
        assert {**example, "entities": 0, "ner_tags": 0} == {**clean, "entities": 0, "ner_tags": 0}
        assert decode_bio([LABELS[tag] for tag in example["ner_tags"]]) == sorted(spans_of(example))
        assert example["entities"] is not clean["entities"]
        assert all(end <= len(example["tokens"]) for _, end, _ in spans_of(example))
    if rate == 0:
        assert noisy == examples
        assert not any(counts.values())


@pytest.mark.parametrize("kind", ["type", "boundary", "missing"])
def test_each_kind_changes_what_it_says_and_is_counted(kind):
    examples = random_examples()
    noisy, counts = corrupt_labels(examples, 0.5, 3, TYPES, [kind])
    changed = 0
    for clean, example in zip(examples, noisy, strict=True):
        if kind == "missing":
            assert set(spans_of(example)) <= set(spans_of(clean))
            changed += len(clean["entities"]) - len(example["entities"])
            continue
        for old, new in zip(clean["entities"], example["entities"], strict=True):
            assert new["boxes"] == old["boxes"]
            moved = abs(new["start"] - old["start"]) + abs(new["end"] - old["end"])
            retyped = new["type"] != old["type"]
            assert (moved, retyped) in {(0, False), (0, True) if kind == "type" else (1, False)}
            changed += bool(moved or retyped)
    assert changed == counts[kind] > 0


def test_the_rate_and_equal_shares_are_met():
    examples = random_examples(2000)
    total = sum(len(example["entities"]) for example in examples)
    noisy, counts = corrupt_labels(examples, 0.2, 5, TYPES)
    assert total > 3000
    # standard error of the share 0.006, of each kind's third 0.017; four of each
    assert sum(counts.values()) / total == pytest.approx(0.2, abs=0.025)
    for kind in ("type", "boundary", "missing"):
        assert counts[kind] / sum(counts.values()) == pytest.approx(1 / 3, abs=0.07)
    retyped = [
        new["type"]
        for clean, example in zip(examples, corrupt_labels(examples, 1, 5, TYPES, ["type"])[0], strict=True)
        for old, new in zip(clean["entities"], example["entities"], strict=True)
        if old["type"] == "PER"
    ]
    assert retyped.count("LOC") / len(retyped) == pytest.approx(0.5, abs=0.06)


def test_the_seed_decides_and_a_higher_rate_spoils_the_same_and_more():
    examples = random_examples()
    assert corrupt_labels(examples, 0.3, 7, TYPES) == corrupt_labels(examples, 0.3, 7, TYPES)
    assert corrupt_labels(examples, 0.3, 7, TYPES) != corrupt_labels(examples, 0.3, 8, TYPES)

    def spoilt(rate):
        noisy, _ = corrupt_labels(examples, rate, 7, TYPES, ["missing"])
        return {
            (clean["id"], span)
            for clean, example in zip(examples, noisy, strict=True)
            for span in set(spans_of(clean)) - set(spans_of(example))
        }

    assert spoilt(0.1) < spoilt(0.2) < spoilt(1)


def test_an_entity_that_cannot_move_stays_or_is_spoilt_otherwise():
    full = {"id": "a", "tokens": ["Bob"], "entities": [{"start": 0, "end": 1, "type": "PER", "boxes": []}]}
    noisy, counts = corrupt_labels([full] * 50, 1, 0, TYPES, ["boundary"])
    assert (noisy, counts) == ([full] * 50, {"boundary": 0})
    assert "ner_tags" not in noisy[0], "none were given"
    noisy, counts = corrupt_labels([full] * 50, 1, 0, TYPES, ["boundary", "missing"])
    assert counts == {"boundary": 0, "missing": 50}


def test_tags_as_published_stay_where_nothing_is_spoilt():
    stray = {"id": "a", "tokens": ["in", "Rome"], "ner_tags": [0, LABELS.index("I-LOC")]}
    stray["entities"] = [{"start": 1, "end": 2, "type": "LOC", "boxes": []}]
    assert corrupt_labels([stray], 0, 0, TYPES)[0] == [stray]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 1.5}, r"`rate` must be in \[0, 1\], got 1.5"),
        ({"kinds": ["typo"]}, "`kinds` is .*typo.*; expected one or more of type, boundary, missing"),
        ({"kinds": []}, "expected one or more"),
        ({"kinds": "type"}, "`kinds` is 'type'"),
        ({"kinds": ["type", "type"]}, "each once"),
        ({"types": ["PER"]}, "no entity can get another type"),
        ({"types": ["LOC", "ORG"]}, "Example 'a' has entities of the type 'PER'; `types` has LOC, ORG"),
        ({"types": ["LOC", "PER"]}, "Example 'a' has `ner_tags` that do not spell its `entities`"),
    ],
)
def test_bad_settings_are_named(settings, message):
    example = {"id": "a", "tokens": ["Bob"], "ner_tags": [1], "entities": [{"start": 0, "end": 1, "type": "PER"}]}
    with pytest.raises(ValueError, match=message):
        corrupt_labels([example], **{"rate": 0.1, "seed": 0, "types": TYPES, **settings})


def test_overlapping_entities_are_named():
    entities = [{"start": 0, "end": 2, "type": "PER"}, {"start": 1, "end": 2, "type": "LOC"}]
    with pytest.raises(ValueError, match="Example 'a': Span .* overlaps"):
        corrupt_labels([{"id": "a", "tokens": ["a", "b"], "entities": entities}], 0.1, 0, TYPES)


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017", "twitter_gmner"])
def test_published_sets_can_be_spoilt(load_published, name):
    from hf_mner.training.run import entity_types, examples_of

    train = load_published(name)["train"]
    examples, types = examples_of(train), entity_types(train)
    noisy, counts = corrupt_labels(examples, 0.1, 0, types)
    total = sum(len(example["entities"]) for example in examples)
    assert sum(counts.values()) / total == pytest.approx(0.1, abs=0.02)
    labels = bio_labels(types)
    for example in noisy:
        assert decode_bio([labels[tag] for tag in example["ner_tags"]]) == sorted(spans_of(example))
