"""HamLearning's processor: words and their sub-words, windows, objects to numbers, tags to entities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    KINDS,
    OBJECT_LABELS,
    TYPES,
    detected,
    noisy_image,
    tiny_encoder_folder,
    tiny_ham_learning_config,
    tiny_ham_learning_processor,
    tiny_image,
    tiny_tokenizer,
)
from transformers import AutoProcessor

from hf_mner import HamLearningProcessor
from hf_mner.data.alignment import subwords_of_words
from hf_mner.data.labels import bio_labels

WORDS = ["Steve", "Kerr", "lands", "unhappily", "in", "O'Brien"]
ID2LABEL = dict(enumerate(bio_labels(TYPES)))
LABEL2ID = {tag: index for index, tag in ID2LABEL.items()}


def post(objects: list[dict[str, Any]] | None = None, size: tuple[int, int] = (8, 8), **fields: Any) -> dict[str, Any]:
    knowledge = None if objects is None else {"objects": objects}
    return {"id": "kerr", "tokens": WORDS, "image": noisy_image(0, size), "knowledge": knowledge, **fields}


def scored(label: str, score: float | None, box: tuple[float, ...] = (1, 2, 5, 8)) -> dict[str, Any]:
    return {**detected(label, list(box), None), "score": score}


# -------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("kind", KINDS)
def test_every_sub_word_has_the_number_of_its_word(kind):
    processor = tiny_ham_learning_processor(kind)
    (row,) = processor.rows([{"tokens": WORDS}])
    tokenizer = processor.tokenizer
    encoded = tokenizer(WORDS, is_split_into_words=True)
    assert row["input_ids"] == encoded["input_ids"]
    assert row["word_index"] == [-1 if word is None else word for word in encoded.word_ids()]
    assert row["attention_mask"] == [1] * len(row["input_ids"])
    assert max(row["word_index"].count(word) for word in range(len(WORDS))) > 1, "a word of several sub-words"
    assert row["word_index"][0] == row["word_index"][-1] == -1


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_no_word(kind):
    processor = tiny_ham_learning_processor(kind)
    batch = processor([{"tokens": WORDS}, {"tokens": ["Kerr"]}], label2id=LABEL2ID)
    short = batch["attention_mask"][1] == 0
    assert short.any()
    assert (batch["input_ids"][1][short] == processor.tokenizer.pad_token_id).all()
    assert (batch["word_index"][1][short] == -1).all()
    assert batch["labels"].shape == (2, len(WORDS))
    assert (batch["labels"][1, 1:] == -100).all()
    assert "image_index" not in batch


@pytest.mark.parametrize("kind", KINDS)
def test_windows_of_a_long_text_cover_its_words(kind):
    processor = tiny_ham_learning_processor(kind, max_length=48)
    words = [f"{WORDS[number % 6]}{number}" for number in range(60)]
    entities = [{"start": start, "end": start + 2, "type": "PER", "boxes": []} for start in range(0, 60, 7)]
    example = post(tokens=words, entities=entities)
    rows = processor.rows([example], label2id=LABEL2ID)
    (whole,) = tiny_ham_learning_processor(kind, max_length=4096).rows([example], label2id=LABEL2ID)
    assert len(rows) > 1
    assert {word for row in rows for word in range(*row["origin"][1:])} == set(range(60))
    pieces = subwords_of_words(processor.tokenizer, [words])[0]
    for row in rows:
        text, first, end = row["origin"]
        assert text == 0
        assert len(row["input_ids"]) == len(row["word_index"]) <= 48
        assert row["labels"] == whole["labels"][first:end]
        for word in range(end - first):
            ids = [i for i, number in zip(row["input_ids"], row["word_index"], strict=True) if number == word]
            assert ids == pieces[first + word]
        assert row["object_boxes"] == whole["object_boxes"]
    assert processor.pad(rows)["image_index"].tolist() == [0] * len(rows)


def test_a_word_longer_than_a_window_is_cut():
    processor = tiny_ham_learning_processor(max_length=16)
    (row,) = processor.rows([{"tokens": ["x" * 50]}])
    assert len(row["input_ids"]) == 16
    assert row["word_index"] == [-1, *[0] * 14, -1]


def test_labels_are_the_tags_of_words():
    entities = [{"start": 0, "end": 2, "type": "PER", "boxes": []}, {"start": 5, "end": 6, "type": "ORG", "boxes": []}]
    (row,) = tiny_ham_learning_processor().rows([{"tokens": WORDS, "entities": entities}], label2id=LABEL2ID)
    assert [ID2LABEL[label] for label in row["labels"]] == ["B-PER", "I-PER", "O", "O", "O", "B-ORG"]


# ------------------------------------------------------------------------------------------------ image and objects


def test_boxes_are_pixels_of_the_image_as_it_is():
    (row,) = tiny_ham_learning_processor().rows([post([scored("cup", 0.9, (3, 1, 9, 6))], size=(12, 8))])
    assert row["object_boxes"] == [[3, 1, 9, 6]]
    assert row["image_size"] == [12, 8]
    batch = tiny_ham_learning_processor().pad([row])
    assert batch["image_sizes"].tolist() == [[12, 8]]
    assert batch["pixel_values"].shape == (1, 3, 64, 64)


def test_the_objects_with_the_best_scores_are_read():
    found = [
        scored("cup", 0.2),
        scored("ball", None),
        scored("person", 0.9),
        scored("tower", 0.2),
        scored("ball", 0.5),
    ]
    for count, expected in ((1, [2]), (3, [2, 4, 0]), (4, [2, 4, 0, 3]), (9, [2, 4, 0, 3, 1])):
        (row,) = tiny_ham_learning_processor(max_objects=count).rows([post(found)])
        assert row["shown"]["objects"] == [found[number] for number in expected], "of equal scores the first"
        assert len(row["object_boxes"]) == len(row["object_labels"]) == len(expected)


def test_classes_have_numbers_and_unknown_ones_share_one():
    names = ["unicorn", *OBJECT_LABELS, "Person", ""]
    (row,) = tiny_ham_learning_processor().rows([post([scored(name, 1 - 0.1 * i) for i, name in enumerate(names)])])
    assert row["object_labels"] == [0, 2, 3, 4, 5, 0, 0]


@pytest.mark.parametrize("knowledge", [None, {}, {"objects": None}, {"objects": []}])
def test_an_image_without_objects_is_one(knowledge):
    (row,) = tiny_ham_learning_processor().rows([post(knowledge=knowledge)])
    assert (row["object_boxes"], row["object_labels"]) == ([[0, 0, *row["image_size"]]], [1])
    assert row["shown"] == {}, "no object was shown"


def test_objects_without_an_image_are_not_read():
    (row,) = tiny_ham_learning_processor().rows([post([scored("cup", 0.9)], image=None)])
    assert row["image"] is None
    assert row["shown"] == {}
    assert not {"object_boxes", "object_labels", "image_size"} & set(row)


def test_images_are_shared_and_texts_without_one_say_so():
    one, other = noisy_image(1), noisy_image(2)
    cup, ball = [scored("cup", 0.9)], [scored("ball", 0.9)]
    posts = [
        post(cup, image=one),
        post(cup, image=None),
        post(cup, image=other),
        post(cup, image=one.copy()),
        post(ball, image=one),
        post(None, image=one),
    ]
    batch = tiny_ham_learning_processor()(posts)
    assert batch["image_index"].tolist() == [0, -1, 1, 0, 2, 3], "an image with other objects is another"
    assert batch["object_labels"].tolist() == [[4], [4], [3], [1]]
    assert len(batch["pixel_values"]) == 4


def test_objects_are_padded():
    posts = [post([scored("cup", 0.9)] * count, image=noisy_image(count)) for count in (1, 3, 2)]
    batch = tiny_ham_learning_processor()(posts)
    assert batch["object_mask"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert batch["object_boxes"].shape == (3, 3, 4)
    assert not batch["object_boxes"][batch["object_mask"] == 0].any()
    assert not batch["object_labels"][batch["object_mask"] == 0].any()


def test_pixels_are_normalised_and_fill_the_square():
    processor = tiny_ham_learning_processor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    (pixels,) = processor([{"tokens": ["a"], "image": tiny_image((255, 0, 255), (8, 4))}])["pixel_values"]
    assert torch.equal(pixels, torch.tensor([2.0, -2.0, 2.0]).view(3, 1, 1).expand(3, 64, 64))


def test_a_given_size_is_believed_until_the_image_is_decoded(tmp_path):
    (tmp_path / "later.png").write_bytes(b"not read here")
    (row,) = tiny_ham_learning_processor().rows([post(None, image=str(tmp_path / "later.png"), image_size=[12, 8])])
    assert row["image_size"] == [12, 8]


# ---------------------------------------------------------------------------------------------------------- detector


def test_features_of_a_detector_are_read_and_not_shown():
    processor = tiny_ham_learning_processor(object_feature_size=3, max_objects=2)
    told = [{**scored(name, score), "feature": [score] * 3} for name, score in (("cup", 0.25), ("ball", 0.5))]
    posts = [post(told), post(None, image=noisy_image(1)), {"tokens": ["a"]}]
    rows = processor.rows(posts)
    assert rows[0]["object_features"].tolist() == [[0.5] * 3, [0.25] * 3], "in the order of the objects"
    assert rows[1]["object_features"].tolist() == [[0, 0, 0]], "the whole image has none"
    assert all("feature" not in item for item in rows[0]["shown"]["objects"])
    assert all("feature" in item for item in told), "the example keeps them"
    assert processor.pad(rows)["object_features"].tolist() == [[[0.5] * 3, [0.25] * 3], [[0] * 3] * 2]


def test_features_that_nothing_reads_are_left_out():
    (row,) = tiny_ham_learning_processor().rows([post([{**scored("cup", 0.9), "feature": [1.0] * 3}])])
    assert row["object_features"] is None
    assert "object_features" not in tiny_ham_learning_processor().pad([row])


@pytest.mark.parametrize(("feature", "found"), [(None, 0), ([], 0), ([1.0] * 4, 4)])
def test_an_object_without_its_feature_is_refused(feature, found):
    objects = [{**scored("cup", 0.9), "feature": feature}]
    message = f"Object 'cup' of example 'kerr' has a `feature` of {found} numbers, expected 3; use the detector"
    with pytest.raises(ValueError, match=message):
        tiny_ham_learning_processor(object_feature_size=3).rows([post(objects)])


# ------------------------------------------------------------------------------------------------- tags to entities


def test_tags_are_entities():
    processor = tiny_ham_learning_processor()
    examples = [post([scored("cup", 0.9)]), {"tokens": ["Rome"]}]
    rows = processor.rows(examples)
    tags = [[LABEL2ID[tag] for tag in ("B-PER", "I-PER", "O", "O", "O", "B-ORG")], [LABEL2ID["B-LOC"], -1, -1]]
    scores = [[0.9, 0.5, 1.0, 1.0, 1.0, 0.4], [0.8, 0.0, 0.0]]
    outputs = [
        {"tags": np.array(row), "tag_probabilities": np.array(each)} for row, each in zip(tags, scores, strict=True)
    ]
    found = processor.post_process_entities(outputs, rows, examples, "recognition", ID2LABEL)
    spans = [[(e["start"], e["end"], e["type"], e["score"]) for e in each["entities"]] for each in found]
    assert spans == [[(0, 2, "PER", pytest.approx(0.7)), (5, 6, "ORG", 0.4)], [(0, 1, "LOC", 0.8)]]
    assert [e["shown"] for e in found[0]["entities"]] == [{"objects": [scored("cup", 0.9)]}] * 2
    assert found[1]["entities"][0]["shown"] == {}
    found = processor.post_process_entities(outputs, rows, examples, "recognition", ID2LABEL, threshold=0.5)
    assert [len(each["entities"]) for each in found] == [1, 1]


def test_parts_of_knowledge_that_are_read_are_named():
    processor = tiny_ham_learning_processor()
    assert processor.knowledge_parts() == {"objects"}
    assert processor.parts_shown({"objects": []}) == {"objects"}
    assert processor.parts_shown({}) == set()


# ---------------------------------------------------------------------------------------------------- saving, errors


def test_saving_keeps_what_a_processor_reads(tmp_path):
    options = {"object_feature_size": 3, "max_objects": 2, "image_size": 96, "image_mean": [0.1, 0.2, 0.3]}
    processor = tiny_ham_learning_processor(**options)
    tiny_ham_learning_config().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is HamLearningProcessor
    for name, value in options.items():
        assert getattr(loaded, name) == value
    assert loaded.label_numbers == processor.label_numbers == {"person": 2, "ball": 3, "cup": 4, "tower": 5}
    assert not {"frame", "label_numbers"} & set(loaded.to_dict()), "what follows from the rest is not written"


def test_a_processor_is_built_of_backbones(tmp_path):
    tiny_encoder_folder(tmp_path)
    processor = HamLearningProcessor.from_backbones(str(tmp_path), object_labels=("cup",))
    assert (processor.image_size, processor.max_objects, processor.object_labels) == (224, 15, ["cup"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_objects": 0}, r"`max_objects` must be 1 or more \(the paper: 15\), got 0"),
        ({"image_size": 100}, "`image_size=100` must be a multiple of 32"),
        ({"max_length": 8}, "`max_length=8` is not possible; choose at least 16"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_ham_learning_processor(**options)


def test_a_tokenizer_that_glues_words_together_is_refused():
    with pytest.raises(ValueError, match="glues words together; load it with"):
        HamLearningProcessor(tiny_tokenizer("roberta", add_prefix_space=False))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((3, 3, 3, 6), "has no area"),
        ((1, 1, 9, 8), "leaves its image of width 8 and height 8"),
        ((1, 2), "is not a box"),
    ],
)
def test_a_box_that_is_none_is_refused(box, message):
    with pytest.raises(ValueError, match=f"Example 'kerr', object 'cup': .*{message}"):
        tiny_ham_learning_processor().rows([post([scored("cup", 0.9, box)])])


def test_an_image_of_another_size_is_refused():
    example = post([scored("cup", 0.9, (10, 10, 20, 20))], size=(8, 8), image_size=[30, 20])
    with pytest.raises(ValueError, match=r"An image of 8 x 8 pixels came with `image_size=\[30, 20\]`; the boxes"):
        tiny_ham_learning_processor()([example])


def test_a_type_that_the_model_does_not_know_is_refused():
    example = {"id": "kerr", "tokens": ["a"], "entities": [{"start": 0, "end": 1, "type": "CITY", "boxes": []}]}
    with pytest.raises(ValueError, match="Type 'B-CITY' of example 'kerr' is not one of the model's classes"):
        tiny_ham_learning_processor().rows([example], label2id=LABEL2ID)
