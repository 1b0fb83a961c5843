"""MMAVK's processor: the layout of rows, windows, images, and tags to entities."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import KINDS, TYPES, tiny_image, tiny_mmavk, tiny_mmavk_config, tiny_mmavk_processor, tiny_tokenizer
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from hf_mner import MmavkProcessor, recognize_entities
from hf_mner.data.alignment import subwords_of_words
from hf_mner.data.labels import bio_labels

WORDS, TEXT = ["Steve", "Kerr", "coaches"], "The image shows a coach"
ID2LABEL = dict(enumerate(bio_labels(TYPES)))
LABEL2ID = {tag: index for index, tag in ID2LABEL.items()}


def example(auxiliary: str | None = TEXT, **kwargs: Any) -> dict:
    return {"id": "kerr", "tokens": WORDS, "knowledge": {"auxiliary": auxiliary}, **kwargs}


def pieces(processor: MmavkProcessor, words: list[str]) -> list[int]:
    return [token for ids in subwords_of_words(processor.tokenizer, [words])[0] for token in ids]


def image_processor() -> ConvNextImageProcessorPil:
    return ConvNextImageProcessorPil(size={"shortest_edge": 32})


# ------------------------------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize("kind", KINDS)
def test_word_level_frames_the_text_as_an_input_of_its_own(kind):
    """Eq. 6: `[CLS] z_1 ... z_m [SEP]`."""
    processor = tiny_mmavk_processor(kind)
    tokenizer = processor.tokenizer
    batch = processor([example()])
    words, text = pieces(processor, WORDS), pieces(processor, TEXT.split())
    assert batch["input_ids"].tolist() == [[tokenizer.cls_token_id, *words, tokenizer.sep_token_id]]
    assert batch["knowledge_input_ids"].tolist() == [[tokenizer.cls_token_id, *text, tokenizer.sep_token_id]]
    assert batch["knowledge_attention_mask"].all()
    assert batch["knowledge_index"].tolist() == [0]
    assert "token_type_ids" not in batch


@pytest.mark.parametrize("kind", KINDS)
def test_concat_is_what_the_tokenizer_makes_of_two_texts(kind):
    processor = tiny_mmavk_processor(kind, "concat")
    tokenizer = processor.tokenizer
    (row,) = processor.rows([example()])
    words, text = pieces(processor, WORDS), pieces(processor, TEXT.split())
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    joint = [end] if kind == "bert" else [end, end]
    assert row["input_ids"] == [start, *words, *joint, *text, end]
    assert row["input_ids"] == tokenizer(" ".join(WORDS), TEXT)["input_ids"]
    assert row["knowledge_token_mask"] == [0] * (len(words) + 2) + [1] * (len(joint) + len(text))
    assert row["attention_mask"] == [1] * len(row["input_ids"])
    if kind == "bert":
        assert row["token_type_ids"] == tokenizer(" ".join(WORDS), TEXT)["token_type_ids"]
    else:
        assert "token_type_ids" not in row
    first = [0, *np.cumsum([len(ids) for ids in subwords_of_words(tokenizer, [WORDS])[0]])[:-1]]
    assert row["first_subword_index"] == [1 + place for place in first]


@pytest.mark.parametrize("kind", KINDS)
def test_concat_without_knowledge_is_the_text_alone(kind):
    processor, alone = tiny_mmavk_processor(kind, "concat"), tiny_mmavk_processor(kind, "none")
    for empty in (example(None), example("  "), example(knowledge=None), {"tokens": WORDS}):
        (row,), (expected,) = processor.rows([empty]), alone.rows([empty])
        assert row["input_ids"] == expected["input_ids"]
        assert not any(row["knowledge_token_mask"])
        assert row["shown"] == {}


def test_rows_of_one_text_share_it():
    processor = tiny_mmavk_processor()
    batch = processor([example(), example(None), example("a"), example(), example("a")])
    assert batch["knowledge_index"].tolist() == [0, -1, 1, 0, 1]
    assert len(batch["knowledge_input_ids"]) == 2
    assert batch["knowledge_attention_mask"].sum(1).tolist() == [
        2 + len(pieces(processor, t.split())) for t in (TEXT, "a")
    ]
    assert "knowledge_index" not in processor([example(None)])


def test_parts_of_knowledge_stand_in_the_order_asked_for():
    given = example(knowledge={"auxiliary": " one ", "caption": "two", "encyclopedia": []})
    for parts, text in (
        (["auxiliary"], "one"),
        (["caption", "auxiliary"], "two one"),
        (["auxiliary", "caption"], "one two"),
        ([], ""),
    ):
        (row,) = tiny_mmavk_processor(knowledge=parts).rows([given])
        assert row["shown"] == ({"auxiliary": text} if text else {})


@pytest.mark.parametrize("fusion", ["none", "prefix"])
def test_fusions_without_text_read_none(fusion):
    (row,) = tiny_mmavk_processor(fusion=fusion).rows([example()])
    assert row["knowledge_ids"] == ()
    assert row["shown"] == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", ["word_level", "concat"])
def test_knowledge_is_cut_at_a_word(kind, fusion):
    processor = tiny_mmavk_processor(kind, fusion, knowledge_max_length=16)
    words = ["Warriors", "today", "Oakland", "zzzz"] * 5
    (row,) = processor.rows([example(" ".join(words))])
    assert len(row["knowledge_ids"]) <= 14
    kept = row["shown"]["auxiliary"].split()
    assert kept == words[: len(kept)]
    assert row["knowledge_ids"] == tuple(pieces(processor, kept))
    assert len(pieces(processor, words[: len(kept) + 1])) > 14, "one more word does not fit"
    if fusion == "concat":
        assert len(row["input_ids"]) <= processor.max_length + 16


def test_row_length_is_all_that_the_model_reads():
    for fusion in ("word_level", "concat", "none"):
        processor = tiny_mmavk_processor(fusion=fusion)
        (row,) = processor.rows([example()])
        words, text = len(pieces(processor, WORDS)) + 2, len(pieces(processor, TEXT.split()))
        assert processor.row_length(row) == words + {"word_level": text, "concat": text + 1, "none": 0}[fusion]


def test_similarity_stands_in_every_row():
    processor = tiny_mmavk_processor()
    examples = [example(knowledge={"similarity": value, "auxiliary": "a"}) for value in (0.25, None, 0, -1)]
    batch = processor([*examples, {"tokens": WORDS}])
    assert batch["similarity"].tolist() == [0.25, 1.0, 0.0, -1.0, 1.0], "what is not known filters nothing"


# ------------------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fusion": "gate"}, "`fusion='gate'` is not known; choose one of word_level, concat, none, prefix.*paper's"),
        ({"knowledge": ["captions"]}, r"`knowledge` has unknown parts \['captions'\]; choose from auxiliary, caption"),
        ({"max_regions": -1}, r"`max_regions` must be 0 or more \(HVPNeT: 3\), got -1"),
        ({"max_length": 8}, "`max_length=8` is not possible; choose at least 16"),
        (
            {"knowledge_max_length": 600},
            "`knowledge_max_length=600` is not possible; .*at most 512, which the encoder",
        ),
        (
            {"fusion": "concat", "max_length": 400, "knowledge_max_length": 200},
            r"`max_length \+ knowledge_max_length=600` is not possible; .*at most 512",
        ),
    ],
)
def test_processor_refuses(kwargs, message):
    tokenizer = tiny_tokenizer("bert")
    tokenizer.model_max_length = 512
    with pytest.raises(ValueError, match=message):
        MmavkProcessor(tokenizer, **kwargs)


def test_lengths_are_added_up_for_concat_alone():
    tokenizer = tiny_tokenizer("bert")
    tokenizer.model_max_length = 512
    assert MmavkProcessor(tokenizer, max_length=400, knowledge_max_length=200).max_length == 400


@pytest.mark.parametrize("fusion", ["concat", "none", "prefix"])
def test_processor_round_trip(fusion, tmp_path):
    processor = tiny_mmavk_processor("roberta", fusion, max_regions=1, knowledge=["caption"])
    processor.save_pretrained(tmp_path)
    loaded = MmavkProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert (loaded.fusion, loaded.max_regions, loaded.knowledge) == (fusion, 1, ["caption"])


# -------------------------------------------------------------------------------------------------------------- labels


def test_labels_are_the_tags_of_the_words():
    entities = [{"start": 0, "end": 2, "type": "PER"}]
    batch = tiny_mmavk_processor()([example(entities=entities), {"tokens": ["a"]}], label2id=LABEL2ID)
    tags = [[LABEL2ID["B-PER"], LABEL2ID["I-PER"], LABEL2ID["O"]], [LABEL2ID["O"], -100, -100]]
    assert batch["labels"].tolist() == tags


def test_entities_that_cannot_be_labels_are_refused():
    processor, person = tiny_mmavk_processor(), {"start": 0, "end": 2, "type": "PER"}
    with pytest.raises(
        ValueError, match=r"(?s)Example 'kerr': Span \(1, 3, 'LOC'\) overlaps.*flat entities; keep one"
    ):
        processor.rows([example(entities=[person, {"start": 1, "end": 3, "type": "LOC"}])], label2id=LABEL2ID)
    with pytest.raises(ValueError, match=r"Example 'kerr': Span \(0, 4\) does not fit a sentence of 3 words"):
        processor.rows([example(entities=[{**person, "end": 4}])], label2id=LABEL2ID)
    with pytest.raises(ValueError, match=r"'B-ALIEN' of example 'kerr' is not one of the model's classes \(O, B-PER"):
        processor.rows([example(entities=[{**person, "type": "ALIEN"}])], label2id=LABEL2ID)


# ------------------------------------------------------------------------------------------------------------- windows

LONG = (WORDS + ["meets", "Anna", "in", "Oakland", "today"]) * 12  # 96 words


@pytest.mark.parametrize("fusion", ["word_level", "concat"])
def test_windows_of_a_long_text_share_its_knowledge(fusion):
    processor = tiny_mmavk_processor(fusion=fusion, max_length=48)
    rows = processor.rows([example(tokens=LONG), example()], label2id=LABEL2ID)
    assert [row["origin"] for row in rows[:2]] == [(0, 0, 46), (0, 30, 76)]
    assert rows[-1]["origin"] == (1, 0, 3)
    for row in rows:
        _, first, end = row["origin"]
        assert len(row["labels"]) == len(row["first_subword_index"]) == end - first
        assert row["knowledge_ids"] == rows[-1]["knowledge_ids"]
        assert row["shown"] == {"auxiliary": TEXT}
    if fusion == "word_level":
        batch = processor.pad(rows)
        assert len(batch["knowledge_input_ids"]) == 1
        assert batch["knowledge_index"].tolist() == [0] * len(rows)


def scored(processor, model, examples: list[dict], **kwargs: Any) -> list[dict]:
    return recognize_entities(model, processor, examples, **kwargs)


def test_windows_give_the_entities_of_the_whole_text_where_context_does_not_matter():
    """An encoder without attention or positions reads a word alike in every window."""
    model = tiny_mmavk(fusion="none")
    for layer in model.text_model.encoder.layer:
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
    torch.nn.init.zeros_(model.text_model.embeddings.position_embeddings.weight)
    given = [{"tokens": LONG}]
    whole = scored(tiny_mmavk_processor(fusion="none", max_length=256), model, given)[0]["entities"]
    for length in (32, 48):
        windowed = scored(tiny_mmavk_processor(fusion="none", max_length=length), model, given)[0]["entities"]
        keys = ("start", "end", "type")
        assert [[e[k] for k in keys] for e in windowed] == [[e[k] for k in keys] for e in whole]
        # What the CRF says of a word depends on its neighbours, the less the farther they are.
        assert [e["score"] for e in windowed] == pytest.approx([e["score"] for e in whole], abs=0.05)
    assert len(whole) > 12
    assert max(entity["end"] for entity in whole) > 90


# ------------------------------------------------------------------------------------------------------------ decoding


def decode(tags: list[str], probabilities: list[float], **kwargs: Any) -> list[dict]:
    processor = tiny_mmavk_processor()
    given = [{**example(), "tokens": [*WORDS, "today"]}]
    output = {"tags": np.array([LABEL2ID[tag] for tag in tags]), "tag_probabilities": np.array(probabilities)}
    output["knowledge_weight"] = np.ones(1)
    rows = processor.rows(given)
    return processor.post_process_entities([output], rows, given, "recognition", ID2LABEL, **kwargs)[0]["entities"]


def test_score_is_the_mean_probability_of_the_words():
    found = decode(["B-PER", "I-PER", "O", "B-LOC"], [0.9, 0.5, 0.1, 0.6])
    assert [(e["start"], e["end"], e["type"]) for e in found] == [(0, 2, "PER"), (3, 4, "LOC")]
    assert [e["score"] for e in found] == pytest.approx([0.7, 0.6])
    assert all(e["boxes"] == [] and e["shown"] == {"auxiliary": TEXT} for e in found)


def test_threshold_leaves_out_what_scores_less():
    tags, probabilities = ["B-PER", "I-PER", "O", "B-LOC"], [0.75, 0.75, 0.1, 0.5]
    assert [e["type"] for e in decode(tags, probabilities, threshold=0.75)] == ["PER"]
    assert decode(tags, probabilities, threshold=0.76) == []
    with pytest.raises(ValueError, match="stage='typing'.*choose one of recognition"):
        tiny_mmavk_processor().post_process_entities([], [], [], "typing", ID2LABEL)


def test_scores_are_the_marginals_of_the_model():
    model, processor = tiny_mmavk(), tiny_mmavk_processor()
    (found,) = recognize_entities(model, processor, [example()])
    with torch.no_grad():
        batch = processor([example()])
        output = model(**batch)
        marginals = model.crf.marginals(output.logits, batch["first_subword_index"] >= 0)[0]
    assert found["entities"]
    for entity in found["entities"]:
        words = range(entity["start"], entity["end"])
        best = [float(marginals[word, output.tags[0, word]]) for word in words]
        assert entity["score"] == pytest.approx(sum(best) / len(best), abs=1e-4)


# -------------------------------------------------------------------------------------------------------------- images


def detected(box: list[float], similarity: float | None = None, score: float | None = None) -> dict:
    return {"label": "x", "score": score, "box": box, "caption": None, "similarity": similarity}


def prefix_processor(**kwargs: Any) -> MmavkProcessor:
    return tiny_mmavk_processor(fusion="prefix", image_processor=image_processor(), **kwargs)


def images(folder: Path) -> dict[str, Any]:
    picture, content = tiny_image(), io.BytesIO()
    picture.save(folder / "picture.png")
    picture.save(content, format="PNG")
    return {
        "path": str(folder / "picture.png"),
        "Path": folder / "picture.png",
        "dictionary of a path": {"path": str(folder / "picture.png"), "bytes": None},
        "dictionary of bytes": {"path": None, "bytes": content.getvalue()},
        "bytes": content.getvalue(),
        "bytearray": bytearray(content.getvalue()),
        "PIL": picture,
        "array": np.asarray(picture),
    }


def test_every_kind_of_image_gives_the_same_pixels(tmp_path):
    processor, given = prefix_processor(), images(tmp_path)
    batch = processor([example(image=image) for image in given.values()])
    first = batch["pixel_values"][0]
    assert first.shape == (1, 3, 32, 32)
    assert all(torch.equal(pixels, first) for pixels in batch["pixel_values"])
    for name, image in given.items():
        again = processor([example(image=image), example(image=image), {"tokens": WORDS}])
        assert again["knowledge_index"].tolist() == [0, 0, -1], f"{name}: an image stands in a batch once"
        assert len(again["pixel_values"]) == 1


def test_a_batch_without_images_has_none():
    batch = prefix_processor()([example(image=None)])
    assert set(batch) == {"input_ids", "attention_mask", "first_subword_index", "similarity"}


def test_crops_are_the_most_similar_objects_then_the_best_scored():
    boxes = {name: [float(number), 0.0, 8.0, 8.0] for number, name in enumerate("abcde")}
    objects = [
        detected(boxes["a"], None, 0.99),
        detected(boxes["b"], 0.0, 0.9),
        detected(boxes["c"], 0.3, 0.1),
        detected(boxes["d"], -0.2, 0.9),
        detected(boxes["e"], None, None),
    ]
    given = example(knowledge={"objects": objects}, image=tiny_image())
    (row,) = prefix_processor(max_regions=5).rows([given])
    assert row["crops"] == [tuple(boxes[name]) for name in "cbdae"]
    (row,) = prefix_processor().rows([given])
    assert row["crops"] == [tuple(boxes[name]) for name in "cbd"], "three, as HVPNeT"


def test_crops_show_their_part_of_the_image():
    image = tiny_image((250, 0, 0))
    image.paste((0, 0, 250), (4, 0, 8, 8))
    objects = [detected([4.0, 0.0, 8.0, 8.0], 0.5), detected([0.0, 0.0, 4.0, 8.0], 0.4)]
    processor = prefix_processor()
    pixels = processor([example(image=image, knowledge={"objects": objects})])["pixel_values"][0]
    plain = processor([example(image=tiny_image(color)) for color in ((0, 0, 250), (250, 0, 0))])["pixel_values"][:, 0]
    assert torch.allclose(pixels[1:], plain, atol=1e-5)


def test_a_crop_outside_its_image_is_skipped():
    objects = [detected(box) for box in ([9.0, 0.0, 12.0, 8.0], [-4.0, 2.0, 4.0, 20.0], [2.0, 2.0, 2.2, 8.0])]
    batch = prefix_processor()([example(image=tiny_image(), knowledge={"objects": objects})])
    assert batch["pixel_values"].shape[1] == 2, "the image, and what lies inside of the second box"
    assert batch["image_mask"].tolist() == [[1, 1]]


def test_images_with_fewer_crops_are_padded():
    objects = [detected([0.0, 0.0, 4.0, 4.0]), detected([4.0, 4.0, 8.0, 8.0])]
    with_crops = example(image=tiny_image(), knowledge={"objects": objects})
    batch = prefix_processor()([example(image=tiny_image((1, 2, 3))), with_crops])
    assert batch["image_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert not batch["pixel_values"][0, 1:].any()


@pytest.mark.parametrize("broken", ["file", "bytes", "missing"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, broken):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = {
        "file": str(tmp_path / "broken.png"),
        "bytes": {"bytes": b"no image", "path": "broken.png"},
        "missing": str(tmp_path / "absent.png"),
    }[broken]
    model, processor = tiny_mmavk(fusion="prefix"), prefix_processor()
    with pytest.raises((ValueError, FileNotFoundError), match="broken.png cannot be decoded|absent.png"):
        recognize_entities(model, processor, [example(image=image)])


def test_default_image_processor_is_that_of_resnets():
    processor = tiny_mmavk_processor(fusion="prefix")
    assert processor([example(image=tiny_image())])["pixel_values"].shape == (1, 1, 3, 224, 224)


def test_tags_of_the_tests_are_those_of_the_tiny_model():
    assert tiny_mmavk_config().id2label == ID2LABEL


def test_a_text_without_spaces_keeps_its_beginning():
    processor = tiny_mmavk_processor(knowledge_max_length=16)
    long = {**example(), "knowledge": {"auxiliary": "a" * 100}}
    (row,) = processor.rows([long])
    assert len(row["knowledge_ids"]) == 14, "16 without [CLS] and [SEP]"


def test_filtered_knowledge_is_not_shown():
    model, processor = tiny_mmavk(similarity_threshold=0.3), tiny_mmavk_processor()
    for similarity, is_shown in ((0.31, True), (0.29, False), (None, True)):
        post = {**example(), "knowledge": {"auxiliary": "The image shows a coach", "similarity": similarity}}
        (found,) = recognize_entities(model, processor, [post])
        assert found["entities"]
        assert all(bool(entity["shown"]) == is_shown for entity in found["entities"])


def test_kept_tokens_change_nothing_and_are_bounded(monkeypatch):
    monkeypatch.setattr("hf_mner.models.mmavk.processing_mmavk.MAX_FITTED", 2)
    processor = tiny_mmavk_processor()
    posts = [{**example(), "knowledge": {"auxiliary": text}} for text in ("a coach", "a tower", "a logo", "a coach")]
    first = processor.rows(posts)
    assert len(processor.fitted) == 2
    assert (
        processor.rows(posts)
        == first
        == [
            tiny_mmavk_processor().rows([post])[0] | {"origin": row["origin"]}
            for post, row in zip(posts, first, strict=True)
        ]
    )
    processor.knowledge_max_length = 16
    long = {**example(), "knowledge": {"auxiliary": "a coach " * 20}}
    assert len(processor.rows([long])[0]["knowledge_ids"]) <= 14
    processor.knowledge_max_length = 32
    assert len(processor.rows([long])[0]["knowledge_ids"]) > 14, "another length is another text"
