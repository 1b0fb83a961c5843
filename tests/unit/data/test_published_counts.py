"""Every published set, counted to the digit, against what is known of the public copies."""

from __future__ import annotations

import pytest

from hf_mner.data import count_dataset, find_leaks, label_file_hash, load_mner_dataset, refuse_leakage
from hf_mner.data.leakage import LEAKED_TWEETS
from hf_mner.data.readers import SPLITS, get_source

FOUR_TYPES = ("PER", "LOC", "ORG", "MISC")
GROUNDED = {
    "sentences": (7000, 1500, 1500),
    "entities": (11779, 2450, 2543),
    "strict_entities": (11779, 2450, 2543),
    "groundable": (4733, 991, 1046),
    "boxes": (5723, 1171, 1254),
    "captions": (6999, 1500, 1500),  # the caption of 71406 is empty
    "auxiliary": (6999, 1499, 1499),  # each split's last tweet has no description
}
COUNTS = {
    "twitter2015": {
        "sentences": (4000, 1000, 3257),
        "entities": (6352, 1594, 5207),
        "strict_entities": (6166, 1541, 5072),
        "captions": (3999, 999, 3257),  # the captions of 71406 and 770560 are empty
        "auxiliary": (3999, 999, 3256),  # each split's last tweet has none
        "boxes": (0, 0, 0),
    },
    "twitter2017": {
        "sentences": (3373, 723, 723),
        "entities": (6049, 1324, 1351),
        "strict_entities": (6049, 1324, 1351),
        "captions": (3373, 723, 723),
        "auxiliary": (3373, 723, 723),
    },
    "twitter_gmner": GROUNDED,
    "twitter_fmnerg": GROUNDED,
    "conll2003": {"sentences": (14041, 3250, 3453), "entities": (23499, 5942, 5648), "captions": (0, 0, 0)},
    "wnut17": {"sentences": (3394, 1009, 1287), "entities": (1975, 836, 1079)},
    "cp_mner": {"sentences": (950, 119, 119), "images": (946, 119, 119), "strict_entities": (25938, 3187, 3324)},
}
TYPES = {
    "twitter2017": {"train": (2943, 731, 1674, 701), "validation": (626, 173, 375, 150), "test": (621, 178, 395, 157)},
    "twitter_gmner": {
        "train": (5019, 1918, 3035, 1807),
        "validation": (1072, 407, 595, 376),
        "test": (1104, 404, 638, 397),
    },
    "conll2003": {
        "train": (6600, 7140, 6321, 3438),
        "validation": (1842, 1837, 1341, 922),
        "test": (1617, 1668, 1661, 702),
    },
}
STRICT_2015 = {"train": (2217, 2091, 927, 931), "validation": (552, 522, 247, 220), "test": (1816, 1697, 839, 720)}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(count_published, name):
    counts = count_published(name)
    assert tuple(counts) == SPLITS
    for key, expected in COUNTS[name].items():
        assert tuple(split[key] for split in counts.values()) == expected, key


@pytest.mark.parametrize("name", TYPES)
def test_counts_per_type(count_published, name):
    counts = count_published(name)
    assert {split: tuple(part["types"].values()) for split, part in counts.items()} == TYPES[name]
    assert tuple(counts["train"]["types"]) == FOUR_TYPES


def test_twitter2015_counts_per_type_start_with_b(load_published):
    for split, rows in load_published("twitter2015").items():
        names = rows.features["ner_tags"].feature.names
        tags = [names[tag] for row in rows["ner_tags"] for tag in row]
        assert tuple(tags.count(f"B-{name}") for name in FOUR_TYPES) == STRICT_2015[split]


@pytest.mark.parametrize(
    ("name", "granularity", "number"),
    [
        ("twitter_fmnerg", "coarse", 8),
        ("twitter_fmnerg", "fine", 51),
        ("wnut17", "coarse", 6),
        ("cp_mner", "coarse", 16),
    ],
)
def test_every_type_of_the_list_occurs(count_published, name, granularity, number):
    types = count_published(name, granularity)["train"]["types"]
    assert len(types) == number
    assert all(types.values())


def test_fine_types_keep_boxes_and_spans(load_published):
    coarse, fine = load_published("twitter_fmnerg")["test"], load_published("twitter_fmnerg", "fine")["test"]
    for row, fine_row in zip(coarse["entities"], fine["entities"], strict=True):
        assert [entity | {"type": ""} for entity in row] == [entity | {"type": ""} for entity in fine_row]


def test_published_spelling_can_be_kept(load_published):
    names = load_published("twitter2015", unify_types=False)["train"].features["ner_tags"].feature.names
    assert names[-2:] == ["B-OTHER", "I-OTHER"]


def test_lone_no_break_space_is_a_token(load_published):
    tokens = [token for row in load_published("twitter2015")["validation"]["tokens"] for token in row]
    assert tokens.count("\u00a0") == 1


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017", "twitter_gmner", "cp_mner"])
def test_images_open_and_have_the_stated_size(load_published, name):
    rows = load_published(name)["test"]
    with_image = [row for row in rows.select(range(len(rows))) if row["image"] is not None]
    assert with_image
    assert all(list(row["image"].size) == row["image_size"] for row in with_image)


def test_image_size_of_a_missing_image_comes_from_its_box_file(load_published):
    rows = load_published("twitter_gmner")["train"].select_columns(["id", "image_size"])
    assert {row["id"]: row["image_size"] for row in rows}["1000046"] == [500, 706]


def test_knowledge_of_known_tweets(load_published, published_dir):
    rows = {row["id"]: row["knowledge"] for row in load_published("twitter2015")["train"].remove_columns("image")}
    assert rows["1015799"]["auxiliary"].startswith("Named entities:1. JayKenMinaj (person/handle)2.")
    assert rows["33008"]["auxiliary"] is None
    train = load_published("twitter_gmner")["train"].remove_columns("image")
    assert train[0]["knowledge"]["auxiliary"].startswith("The picture shows a mailbox")
    assert "\n" in train[0]["knowledge"]["auxiliary"]  # a description may span lines
    assert train[-1]["knowledge"]["auxiliary"] is None
    chatgpt = load_mner_dataset("twitter_gmner", published_dir, knowledge=["chatgpt"])
    counts = count_dataset(chatgpt)
    assert [(split["auxiliary"], split["captions"]) for split in counts.values()] == [(7000, 0), (1500, 0), (1500, 0)]


def test_leaked_tweets_are_as_many_as_stated(load_published):
    names = ("twitter2015", "twitter2017", "twitter_gmner", "twitter_fmnerg")
    for train_name in names:
        train_ids = set(load_published(train_name)["train"]["id"])
        for test_name in names:
            shared = train_ids & set(load_published(test_name)["test"]["id"])
            assert len(shared) == LEAKED_TWEETS.get((train_name, test_name), 0), (train_name, test_name)


def test_leaks_are_found_by_text_where_ids_differ(load_published):
    train, test = load_published("twitter_gmner")["train"], load_published("twitter2015")["test"]
    assert len(find_leaks(train, [test])) == 1568  # 1,563 by id, 5 more by text
    renamed = test.remove_columns("id").add_column("id", [f"x{number}" for number in range(len(test))])
    assert len(find_leaks(train, [renamed])) == 1458
    refuse_leakage("twitter_gmner", "twitter_fmnerg")  # same splits: nothing to refuse


def test_hashes_tell_sets_apart(published_dir):
    hashes = {label_file_hash(name, published_dir) for name in COUNTS}
    assert len(hashes) == len(COUNTS)
    assert label_file_hash("twitter2017", published_dir) == "c0d127129201"


def test_only_fmnerg_has_fine_types():
    assert len(get_source("twitter_fmnerg", "fine").types) == 51
    with pytest.raises(ValueError, match="'twitter_fmnerg' only"):
        get_source("twitter_gmner", "fine")
