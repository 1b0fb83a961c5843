"""MNER-QG's processor: queries before sentences, images shared, spans and boxes back to entities."""

import random

import numpy as np
import pytest
import torch
from tiny import TYPES, noisy_image, tiny_examples, tiny_image, tiny_mner_qg_processor, with_images

from hf_mner.data.letterbox import to_letterbox

LABEL2ID = {name: index for index, name in enumerate(TYPES)}


def texts(processor, batch):
    return [
        processor.tokenizer.decode([t for t in row if t != processor.tokenizer.pad_token_id])
        for row in batch["input_ids"].tolist()
    ]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_an_input_is_what_the_tokenizer_makes_of_query_and_sentence(kind):
    processor = tiny_mner_qg_processor(kind, style="template", query_max_length=60)
    (example,) = [e for e in tiny_examples() if e["id"] == "berlin"]
    batch = processor([example], "recognition")
    assert len(batch["input_ids"]) == len(TYPES)
    for query, row, asked in zip(
        processor.queries.values(), batch["input_ids"], batch["query_token_mask"], strict=True
    ):
        both = processor.tokenizer(query.split(), example["tokens"], is_split_into_words=True)
        assert [t for t in row.tolist() if t != processor.tokenizer.pad_token_id] == both["input_ids"]
        alone = processor.tokenizer(query.split(), is_split_into_words=True, add_special_tokens=False)["input_ids"]
        assert row[asked.bool()].tolist() == alone


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_words_stand_where_their_first_subword_is(kind):
    processor = tiny_mner_qg_processor(kind)
    example = tiny_examples()[0]
    batch = processor([example], "recognition")
    for row, index in zip(batch["input_ids"], batch["first_subword_index"], strict=True):
        for word, position in zip(example["tokens"], index.tolist(), strict=True):
            first = processor.tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"][0]
            assert row[position] == first


def test_segments_tell_query_and_sentence_apart():
    processor = tiny_mner_qg_processor("bert")
    batch = processor(tiny_examples()[:1], "recognition")
    first = batch["first_subword_index"][:, 0]
    for segments, position in zip(batch["token_type_ids"], first, strict=True):
        assert not segments[:position].any()
        assert segments[position] == 1


def test_labels_are_tags_and_the_boxes_of_the_types():
    processor = tiny_mner_qg_processor()
    example = with_images(tiny_examples())[0]
    (row,) = processor.rows([example], "recognition", LABEL2ID)
    assert row["labels"] == [1, 2, 0, 0, 5, 0, 3, 0]
    person = example["entities"][0]["boxes"][0]
    assert row["box_labels"][0] == to_letterbox(person, [8, 8])
    assert row["box_labels"][1:] == [[-1, -1, -1, -1]] * 3


def test_of_several_boxes_the_largest_is_asked_for():
    processor = tiny_mner_qg_processor()
    example = with_images(tiny_examples())[1]
    (row,) = processor.rows([example], "recognition", LABEL2ID)
    assert row["box_labels"][1] == to_letterbox(
        max(example["entities"][0]["boxes"], key=lambda b: b[2] - b[0]), [8, 8]
    )


def test_a_box_without_an_image_is_not_asked_for():
    (row,) = tiny_mner_qg_processor().rows(tiny_examples()[:1], "recognition", LABEL2ID)
    assert row["box_labels"] == [[-1, -1, -1, -1]] * 4
    assert row["image"] is None


def test_images_are_shared_and_texts_without_one_say_so():
    processor = tiny_mner_qg_processor()
    one, other = noisy_image(1), noisy_image(2)
    pictures = [one, None, other, one.copy(), other]
    batch = processor([{"tokens": ["a"], "image": image} for image in pictures], "recognition")
    assert batch["image_index"].tolist() == [0, -1, 1, 0, 1]
    assert batch["pixel_values"].shape == (2, 3, 64, 64)
    assert "pixel_values" not in processor([{"tokens": ["a"]}], "recognition")


def test_pixels_are_normalised():
    processor = tiny_mner_qg_processor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    batch = processor([{"tokens": ["a"], "image": tiny_image((255, 0, 255), (8, 4))}], "recognition")
    pixels = batch["pixel_values"][0]
    assert pixels[:, 32, 32].tolist() == [2, -2, 2]
    assert pixels[:, 0, 0].abs().max() < 0.01, "beside the image lies the mean"


def test_a_long_text_is_read_in_windows_that_cover_it():
    processor = tiny_mner_qg_processor(max_length=48, query_max_length=8)
    words = [f"w{number}" for number in range(60)]
    rows = processor.rows([{"tokens": words}], "recognition")
    assert len(rows) > 1
    assert {word for row in rows for word in range(*row["origin"][1:])} == set(range(60))
    assert processor.pad(rows)["input_ids"].shape[1] <= 48


def test_a_long_query_is_cut_at_a_word():
    processor = tiny_mner_qg_processor(query_max_length=3)
    assert all(1 <= len(ids) <= 3 for ids in processor.query_ids)


def outputs_for(rows, tags, boxes=None, scores=None):
    made = []
    for _row, row_tags in zip(rows, tags, strict=True):
        output = {"tags": np.array(row_tags), "tag_scores": np.where(np.array(row_tags) > 0, 0.9, 0.0)}
        if boxes is not None:
            output["boxes"], output["box_scores"] = np.array(boxes), np.array(scores)
        made.append(output)
    return made


def test_entities_have_the_box_of_their_types_query():
    processor = tiny_mner_qg_processor()
    example = {"tokens": ["Anna", "and", "Bob", "in", "Rome"], "image": tiny_image(size=(100, 50))}
    rows = processor.rows([example], "recognition")
    boxes = [[0, 0.25, 0.5, 0.75], [0.5, 0.25, 1, 0.5], [0, 0, 1, 0.1], [0, 0, 0, 0]]
    outputs = outputs_for(rows, [[1, 0, 1, 0, 3]], boxes, [0.9, 0.4, 0.8, 0.0])
    (found,) = processor.post_process_entities(outputs, rows, [example], "recognition", dict(enumerate(TYPES)))
    anna, bob, rome = found["entities"]
    assert (anna["type"], anna["start"], anna["end"]) == ("PER", 0, 1)
    assert anna["boxes"] == bob["boxes"] == [{"box": [0, 0, 50, 50], "score": pytest.approx(0.9)}]
    assert rome["boxes"] == [{"box": [50, 0, 100, 25], "score": pytest.approx(0.4)}]
    assert [item["type"] for item in found["query_boxes"]] == ["PER", "LOC"], "the others lie beside the image"
    processor.grounding_threshold = 0.5
    (found,) = processor.post_process_entities(outputs, rows, [example], "recognition", dict(enumerate(TYPES)))
    assert [len(entity["boxes"]) for entity in found["entities"]] == [1, 1, 0]
    assert len(found["query_boxes"]) == 2, "whatever the threshold"


def test_an_entity_has_the_box_of_the_window_that_found_it():
    processor = tiny_mner_qg_processor(max_length=40, query_max_length=8)
    words = ["a"] * 60
    example = {"tokens": words, "image": tiny_image(size=(64, 64))}
    rows = processor.rows([example], "recognition")
    outputs = []
    for number, row in enumerate(rows):
        _, first, end = row["origin"]
        box = [[0, 0, (number + 1) / len(rows), 1]] * 4
        outputs += outputs_for([row], [[1] * (end - first)], box, [0.1 * (number + 1)] * 4)
    (found,) = processor.post_process_entities(outputs, rows, [example], "recognition", dict(enumerate(TYPES)))
    widths = [round(entity["boxes"][0]["box"][2] * len(rows) / 64) for entity in found["entities"]]
    assert widths == sorted(widths)
    assert set(widths) == set(range(1, len(rows) + 1)), "every window decided on some words"
    assert found["query_boxes"][0]["score"] == pytest.approx(0.1 * len(rows)), "the most confident one"


def test_phrases_are_the_entities_words_and_a_bare_text_is_one():
    processor = tiny_mner_qg_processor()
    example = with_images(tiny_examples())[0]
    rows = processor.rows([example], "grounding")
    assert [processor.tokenizer.decode(row["input_ids"]) for row in rows] == ["steve kerr", "warriors", "oakland"]
    bare = {"tokens": ["a", "tower"], "image": tiny_image()}
    (row,) = processor.rows([bare], "grounding")
    output = {"boxes": np.array([[0.0, 0.0, 0.5, 1.0]]), "box_scores": np.array([0.7])}
    (found,) = processor.post_process_entities([output], [row], [bare], "grounding", {})
    assert found["entities"] == [
        {
            "start": 0,
            "end": 2,
            "type": "phrase",
            "score": 0.7,
            "shown": {},
            "boxes": [{"box": [0, 0, 4, 8], "score": 0.7}],
        }
    ]


def test_only_phrases_with_a_box_and_an_image_are_trained_on():
    processor = tiny_mner_qg_processor()
    rows = processor.rows(with_images(tiny_examples()), "grounding", {"any": 0})
    assert [row["origin"] for row in rows] == [(0, 0), (1, 0)]
    assert processor.pad(rows)["labels"].shape == (2, 1, 4)
    assert processor.rows(tiny_examples(), "grounding") == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`queries={}`: expected a query for each entity type"):
        tiny_mner_qg_processor(types=[])
    with pytest.raises(ValueError, match="`image_size=100` must be a multiple of 32"):
        tiny_mner_qg_processor(image_size=100)
    with pytest.raises(ValueError, match="`grounding_threshold` must be in"):
        tiny_mner_qg_processor(grounding_threshold=2)
    with pytest.raises(ValueError, match="`query_max_length=120` must be at least 1 and leave 16"):
        tiny_mner_qg_processor(query_max_length=120)
    processor = tiny_mner_qg_processor()
    with pytest.raises(ValueError, match="asks for PER, LOC, ORG, MISC and the model's types are LOC, PER"):
        processor.rows(tiny_examples(), "recognition", {"LOC": 0, "PER": 1})
    with pytest.raises(ValueError, match="build the processor with the types of the model, in their order"):
        processor.post_process_entities([], [], [], "recognition", {0: "PER"})
    with pytest.raises(ValueError, match="Type 'B-CITY' of example None is not one of the model's classes"):
        processor.rows(
            [{"tokens": ["a"], "entities": [{"start": 0, "end": 1, "type": "CITY", "boxes": []}]}],
            "recognition",
            LABEL2ID,
        )


@pytest.mark.parametrize(
    ("box", "message"),
    [([3, 3, 3, 6], "has no area"), ([6, 6, 2, 2], "has no area"), ([1, 1, 300, 8], "leaves its image")],
)
@pytest.mark.parametrize("stage", ["grounding", "recognition"])
def test_a_gold_box_that_is_none_is_refused(stage, box, message):
    example = with_images(tiny_examples())[0]
    example["entities"][0]["boxes"] = [box]
    with pytest.raises(ValueError, match=f"Example 'kerr': box .* {message}"):
        tiny_mner_qg_processor().rows([example], stage, LABEL2ID)


def test_a_query_that_is_cut_is_named(caplog):
    tiny_mner_qg_processor(query_max_length=60)
    assert not caplog.records
    tiny_mner_qg_processor(query_max_length=8)
    assert "`query_max_length=8` cuts the queries of" in caplog.text


def test_queries_keep_the_order_of_the_types(tmp_path):
    processor = tiny_mner_qg_processor(types=["ZOO", "PER", "ART"])
    processor.save_pretrained(tmp_path)
    from hf_mner import MnerQgProcessor

    assert list(MnerQgProcessor.from_pretrained(tmp_path).queries) == ["ZOO", "PER", "ART"]


def test_padding_of_queries_is_not_read_as_a_query():
    batch = tiny_mner_qg_processor(style="annotation")(tiny_examples(), "recognition")
    assert not (batch["query_token_mask"] & (1 - batch["attention_mask"])).any()
    assert batch["query_token_mask"].any(1).all()
    assert torch.equal(
        (batch["first_subword_index"] >= 0).sum(1)[::4], (batch["first_subword_index"] >= 0).sum(1)[1::4]
    )


def test_distorted_rows_move_pixels_and_boxes_together():
    processor = tiny_mner_qg_processor()
    examples = [example for example in with_images(tiny_examples()) if example.get("image")]
    rows = processor.rows(examples, label2id=LABEL2ID)
    plain = processor.pad(rows)
    random.seed(0)
    one, other = (processor.pad([{**row, "is_distorted": True} for row in rows]) for _ in range(2))
    assert not torch.equal(one["pixel_values"], plain["pixel_values"])
    assert not torch.equal(one["pixel_values"], other["pixel_values"]), "drawn anew for every batch"
    has_box = plain["box_labels"][..., 2] > 0
    assert has_box.any()
    assert not torch.allclose(one["box_labels"][has_box], plain["box_labels"][has_box], atol=1e-3)
    assert (one["box_labels"][~has_box] == -1).all()
    assert torch.equal(one["labels"], plain["labels"])


def test_rows_of_one_image_are_distorted_alike():
    processor = tiny_mner_qg_processor()
    example = with_images(tiny_examples())[0]
    rows = [{**row, "is_distorted": True} for row in processor.rows([example, example], label2id=LABEL2ID)]
    batch = processor.pad(rows)
    assert len(batch["pixel_values"]) == 1
    assert torch.equal(batch["box_labels"][0], batch["box_labels"][1])
