"""The prompt of stage 2 (section 3.2.1): its words, what is shortened when it is too long, and its targets."""

from __future__ import annotations

import random
import re

import pytest
from tiny import CLASSES, KINDS, detected, tiny_examples, tiny_processor, tiny_tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertTokenizer, RobertaTokenizer

from hf_mner.data.alignment import subwords_of_words
from hf_mner.models.scanner.processing_scanner import ScannerProcessor

LABEL2ID = {name: index for index, name in enumerate(CLASSES)}


def prompt_rows(processor: ScannerProcessor, example: dict, labelled: bool = False) -> list[dict]:
    return processor.rows([example], "recognition", LABEL2ID if labelled else None)


def prompt_words(processor: ScannerProcessor, row: dict) -> str:
    """The prompt as text, without the tokenizer's frame; special tokens stand alone, BERT's small letters stay."""
    text = processor.tokenizer.decode(row["input_ids"], clean_up_tokenization_spaces=False)
    text = text.replace(processor.tokenizer.mask_token, "<mask>")
    text = re.sub(r"\s*(<mask>|\[obj\])\s*", r" \1 ", text)
    return re.sub(r"^(\[CLS\]|<s>)\s*|\s*(\[SEP\]|</s>)$", "", text)


def ids_of(processor: ScannerProcessor, text: str | list[str]) -> list[int]:
    words = text.split() if isinstance(text, str) else text
    return [token for ids in subwords_of_words(processor.tokenizer, [words])[0] for token in ids] if words else []


def text_of_object(item: dict) -> str:
    return f"{item['label']} {item['caption'] or ''}".strip()


FIGURE_4 = (
    "The entity is <mask> for Steve Kerr in this sentence. Steve Kerr coaches the Warriors in Oakland ."
    " Steve Kerr is a coach from Beirut a man with a ball on a court"
    " [obj] person a man in a suit [obj] cup [obj] ball an orange ball"
)


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_is_that_of_figure_4(kind):
    processor = tiny_processor(kind)
    text = prompt_words(processor, prompt_rows(processor, tiny_examples()[0])[0])
    expected = FIGURE_4
    if kind == "bert":  # its decoder writes small letters, and no space before a mark
        expected = FIGURE_4.lower().replace(" .", ".")
    assert text == expected


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_is_tokenised_as_its_text_would_be(kind):
    processor = tiny_processor(kind)
    text = FIGURE_4.replace("<mask>", processor.tokenizer.mask_token)
    if kind == "roberta":  # a lone space before a special token would be a token of its own
        text = text.replace(" [obj]", "[obj]").replace(" <mask>", "<mask>")
    assert prompt_rows(processor, tiny_examples()[0])[0]["input_ids"] == processor.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_positions_point_at_the_special_tokens(kind):
    processor = tiny_processor(kind)
    for row in processor.rows(tiny_examples(), "recognition"):
        ids = row["input_ids"]
        assert [i for i, token in enumerate(ids) if token == processor.tokenizer.mask_token_id] == [
            row["mask_token_index"]
        ]
        assert [i for i, token in enumerate(ids) if token == processor.object_token_id] == row["object_token_index"]
        assert row["attention_mask"] == [1] * len(ids)


def test_every_candidate_has_its_prompt():
    processor = tiny_processor()
    rows = processor.rows(tiny_examples(), "recognition")
    expected = [(p, n) for p, example in enumerate(tiny_examples()) for n in range(len(example["entities"]))]
    assert [row["origin"] for row in rows] == expected


def test_object_token_is_one_special_token_and_stays_one():
    tokenizer = tiny_tokenizer("bert")
    before = len(tokenizer)
    processor = ScannerProcessor(tokenizer)
    assert len(tokenizer) == before + 1
    assert processor.object_token_id == before
    assert len(ScannerProcessor(tokenizer).tokenizer) == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_look_alikes_in_tweet_and_knowledge_are_text(kind):
    processor = tiny_processor(kind)
    mask = processor.tokenizer.mask_token
    example = {
        "tokens": [mask, "[obj]", "Kerr"],
        "entities": [{"start": 0, "end": 3, "type": "PER", "boxes": []}],
        "knowledge": {"caption": f"{mask} [obj]", "objects": [detected("[obj]", [0, 0, 1, 1], None, mask)]},
    }
    (row,) = prompt_rows(processor, example)
    assert row["input_ids"].count(processor.tokenizer.mask_token_id) == 1
    assert row["input_ids"].count(processor.object_token_id) == len(row["object_token_index"]) == 1


# ------------------------------------------------------------------------------------------------------ truncation


def random_words(generator: random.Random, most: int) -> list[str]:
    words = ["Kerr", "Oakland", "a", "the", "ball", "unheard", "zyx", "NBA", "O'Brien", "x"]
    return generator.choices(words, k=generator.randint(1, most))


def random_example(generator: random.Random) -> dict:
    tokens = random_words(generator, 30)
    start = generator.randrange(len(tokens))
    end = min(len(tokens), start + generator.randint(1, 3))
    objects = [
        detected(
            generator.choice(("cup", "man", "tree")),
            [0.0, 0.0, 1.0 + number, 1.0],
            generator.choice((0.1, 0.5, 0.9, None)),
            generator.choice((None, " ".join(random_words(generator, 5)))),
        )
        for number in range(generator.randint(0, 6))
    ]
    return {
        "tokens": tokens,
        "entities": [{"start": start, "end": end, "type": "PER", "boxes": []}],
        "knowledge": {
            "caption": generator.choice((None, " ".join(random_words(generator, 12)))),
            "objects": objects,
            "encyclopedia": [
                {
                    "mention": " ".join(tokens[start:end]),
                    "title": "",
                    "text": " ".join(random_words(generator, 40)),
                }
            ],
        },
    }


def random_prompts(kind: str, count: int = 250):
    """Yield processor, example, row, ids of the first sentence, and sub-words of the tweet for random lengths."""
    generator = random.Random(KINDS.index(kind))
    processor = tiny_processor(kind)
    frame = len(processor.frame[0]) + len(processor.frame[1])
    fixed = len(ids_of(processor, "The entity is")) + len(ids_of(processor, "for")) + 1
    fixed += len(ids_of(processor, "in this sentence."))
    for _ in range(count):
        example = random_example(generator)
        entity = example["entities"][0]
        name = ids_of(processor, example["tokens"][entity["start"] : entity["end"]])
        processor.max_length = frame + fixed + 2 * len(name) + generator.randint(0, 150)
        head = [*ids_of(processor, "The entity is"), processor.tokenizer.mask_token_id, *ids_of(processor, "for")]
        head += [*name, *ids_of(processor, "in this sentence.")]
        (row,) = prompt_rows(processor, example)
        yield processor, example, row, head, subwords_of_words(processor.tokenizer, [example["tokens"]])[0]


def parts_after_tweet(processor: ScannerProcessor, row: dict) -> list[int]:
    shown = row["shown"]
    ids = ids_of(processor, shown.get("encyclopedia", "")) + ids_of(processor, shown.get("caption", ""))
    for item in shown.get("objects", []):
        ids += [processor.object_token_id, *ids_of(processor, text_of_object(item))]
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_every_length(kind):
    """The tweet is whole where it fits, `shown` is what is in the prompt, and no token is wasted."""
    seen = {"whole": 0, "cut tweet": 0, "dropped objects": 0, "cut caption": 0, "cut encyclopedia": 0}
    for processor, example, row, head, tweet in random_prompts(kind):
        ids, (before, after) = row["input_ids"], processor.frame
        assert len(ids) <= processor.max_length
        inner = ids[len(before) : len(ids) - len(after)]
        assert ids == [*before, *inner, *after]
        assert inner[: len(head)] == head
        rest, room = inner[len(head) :], processor.max_length - len(before) - len(after) - len(head)
        sentence = [token for word in tweet for token in word]
        if len(sentence) > room:
            seen["cut tweet"] += 1
            check_cut_tweet(rest[: len(rest) - len(parts_after_tweet(processor, row))], tweet, example, room)
            continue
        assert rest[: len(sentence)] == sentence
        assert rest[len(sentence) :] == parts_after_tweet(processor, row)
        check_what_was_shortened(processor, example, row, seen)
    assert all(seen.values()), seen


def check_cut_tweet(rest: list[int], tweet: list[list[int]], example: dict, room: int) -> None:
    """The tweet is cut to a run of whole words with the candidate in it, and a neighbour does not fit."""
    entity = example["entities"][0]
    slices = [
        (left, right)
        for left in range(entity["start"] + 1)
        for right in range(entity["end"], len(tweet) + 1)
        if [token for word in tweet[left:right] for token in word] == rest
    ]
    candidate = sum(len(word) for word in tweet[entity["start"] : entity["end"]])
    if candidate > room:
        assert len(rest) <= room
        return
    assert slices
    left, right = slices[0]
    neighbours = [*tweet[max(left - 1, 0) : left], *tweet[right : right + 1]]
    assert len(rest) + max(map(len, neighbours)) > room


def check_what_was_shortened(processor: ScannerProcessor, example: dict, row: dict, seen: dict[str, int]) -> None:
    knowledge, shown = example["knowledge"], row["shown"]
    similar = sorted(knowledge["objects"], key=lambda item: -(item["similarity"] or 0.0))
    kept = shown.get("objects", [])
    facts, caption = knowledge["encyclopedia"][0]["text"], knowledge["caption"] or ""
    left_over = processor.max_length - len(row["input_ids"])
    assert kept == similar[: len(kept)], "the most similar ones, in their order"
    assert len(kept) == len(row["object_token_index"])
    for name, whole in (("encyclopedia", facts), ("caption", caption)):
        words = shown.get(name, "").split()
        assert words == whole.split()[: len(words)]
    if len(kept) < len(similar):
        seen["dropped objects"] += 1
        assert 1 + len(ids_of(processor, text_of_object(similar[len(kept)]))) > left_over
        assert "caption" not in shown
        assert "encyclopedia" not in shown
    elif shown.get("caption", "") != caption:
        seen["cut caption"] += 1
        following = caption.split()[len(shown.get("caption", "").split())]
        used = len(ids_of(processor, shown.get("encyclopedia", "")))
        assert len(ids_of(processor, following)) > left_over + used
    elif shown.get("encyclopedia", "") != facts:
        seen["cut encyclopedia"] += 1
        following = facts.split()[len(shown.get("encyclopedia", "").split())]
        assert len(ids_of(processor, following)) > left_over
    else:
        seen["whole"] += 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_fills_the_room_of_a_more_important_part(kind):
    for processor, example, row, head, tweet in random_prompts(kind):
        caption, shown = example["knowledge"]["caption"] or "", row["shown"]
        if shown.get("caption", "") != caption:
            assert "encyclopedia" not in shown
        if len(head) + sum(map(len, tweet)) > processor.max_length - 2:
            assert shown == {}


@pytest.mark.parametrize(("field", "value"), [("max_length", 15), ("detection_max_length", 3), ("max_length", 513)])
def test_length_that_the_encoder_cannot_take_is_refused(field, value):
    tokenizer = tiny_tokenizer("bert")
    tokenizer.model_max_length = 512
    with pytest.raises(
        ValueError, match=rf"`{field}={value}` is not possible; choose at least 16 and at most 512, which"
    ):
        ScannerProcessor(tokenizer, **{field: value})


def test_length_without_room_for_the_first_sentence_is_refused():
    """With a token for each byte, the first sentence alone needs more than 20 tokens."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = RobertaTokenizer(vocab=vocab, merges=[], add_prefix_space=True)
    with pytest.raises(
        ValueError, match="`max_length=20` has no room for the prompt's first sentence and a candidate"
    ):
        ScannerProcessor(tokenizer, max_length=20).rows(tiny_examples(), "recognition")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_objects", -1, "`max_objects` must be 0 or more .*got -1"),
        ("grounding_threshold", 1.5, "`grounding_threshold` must be None or between 0 and 1, got 1.5"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor(**{field: value})


def test_candidate_of_half_the_encoder_is_cut_in_the_first_sentence_only():
    processor = tiny_processor("bert", max_length=64)
    example = {"tokens": ["zyx"] * 60, "entities": [{"start": 0, "end": 60, "type": "PER", "boxes": []}]}
    (row,) = prompt_rows(processor, example)
    assert len(row["input_ids"]) <= 64
    assert prompt_words(processor, row).startswith("the entity is <mask> for z")


# ---------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("knowledge", "absent"),
    [
        ([], {"encyclopedia", "caption", "objects", "auxiliary"}),
        (["caption"], {"encyclopedia", "objects", "auxiliary"}),
        (["encyclopedia"], {"caption", "objects", "auxiliary"}),
        (["objects"], {"encyclopedia", "caption", "auxiliary"}),
        (["encyclopedia", "caption", "objects"], {"auxiliary"}),
    ],
)
def test_only_the_chosen_parts_are_shown(knowledge, absent):
    processor = tiny_processor(knowledge=knowledge)
    row = prompt_rows(processor, tiny_examples()[0])[0]
    assert set(row["shown"]) == {"encyclopedia", "caption", "objects", "auxiliary"} - absent
    assert len(row["object_token_index"]) == (3 if "objects" in knowledge else 0)


def test_auxiliary_text_takes_the_place_of_the_encyclopedia():
    processor = tiny_processor(knowledge=["auxiliary", "encyclopedia", "caption"])
    row = prompt_rows(processor, tiny_examples()[0])[0]
    assert row["shown"]["auxiliary"] == "The image shows a coach"
    assert "encyclopedia" not in row["shown"]
    assert "oakland. the image shows a coach a man with a ball" in prompt_words(processor, row)


def test_encyclopedia_of_another_mention_is_not_shown():
    processor = tiny_processor()
    rows = prompt_rows(processor, tiny_examples()[0])
    shown = [row["shown"].get("encyclopedia") for row in rows]
    assert shown == ["Steve Kerr is a coach from Beirut", "The Warriors are a team", None]


def shown_labels(row: dict) -> list[str]:
    return [item["label"] for item in row["shown"]["objects"]]


def test_objects_keep_the_order_of_the_detector_when_not_sorted():
    rows = prompt_rows(tiny_processor(sort_objects=False), tiny_examples()[0])
    assert shown_labels(rows[0]) == ["ball", "person", "cup"]


def test_at_most_max_objects_are_shown():
    rows = prompt_rows(tiny_processor(max_objects=2), tiny_examples()[0], labelled=True)
    assert shown_labels(rows[0]) == ["person", "cup"]
    assert len(rows[0]["overlaps"]) == len(rows[0]["object_token_index"]) == 2


def test_similarities_of_the_entity_go_before_those_of_the_objects():
    example = tiny_examples()[0]
    example["entities"][1]["object_similarities"] = [0.9, 0.1, 0.5]
    rows = prompt_rows(tiny_processor(), example)
    assert [shown_labels(row) for row in rows[:2]] == [["person", "cup", "ball"], ["ball", "cup", "person"]]


def test_equal_similarities_keep_the_order_of_the_detector():
    example = tiny_examples()[0]
    for item in example["knowledge"]["objects"]:
        item["similarity"] = None
    assert shown_labels(prompt_rows(tiny_processor(), example)[0]) == ["ball", "person", "cup"]


# --------------------------------------------------------------------------------------------------------- targets


def test_overlaps_are_the_largest_iou_with_a_gold_box():
    rows = prompt_rows(tiny_processor(), tiny_examples()[1], labelled=True)
    # objects by similarity: tree = the gold cup's very box; tower [4,4,8,8] holds the gold ball [5,5,7,7]: 4 / 16
    assert shown_labels(rows[0]) == ["tree", "tower"]
    assert rows[0]["overlaps"] == pytest.approx([1.0, 0.25])


def test_overlaps_without_a_gold_box_are_zero():
    rows = prompt_rows(tiny_processor(), tiny_examples()[0], labelled=True)
    assert rows[1]["overlaps"] == [0.0, 0.0, 0.0]
    # person [0,0,4,7] of the gold [0,0,4,8]; the cup [1,1,3,3] lies inside it; the ball beside it
    assert rows[0]["overlaps"] == pytest.approx([28 / 32, 4 / 32, 0.0])


def test_labels_are_the_classes():
    processor = tiny_processor()
    rows = processor.rows(tiny_examples(), "recognition", LABEL2ID)
    types = [entity["type"] for example in tiny_examples() for entity in example["entities"]]
    assert [CLASSES[row["labels"]] for row in rows] == types
    assert "labels" not in processor.rows(tiny_examples(), "recognition")[0]


def test_span_labels_are_b_then_i():
    (row,) = tiny_processor().rows(tiny_examples()[:1], "detection", LABEL2ID)
    assert row["labels"] == [1, 2, 0, 0, 1, 0, 1, 0]


# ---------------------------------------------------------------------------------------------------------- errors


def test_unknown_type_is_refused():
    example = tiny_examples()[0]
    example["entities"][0]["type"] = "ANIMAL"
    with pytest.raises(ValueError, match=r"'ANIMAL' of example 'kerr' is not one of the model's classes \(PER, LOC"):
        prompt_rows(tiny_processor(), example, labelled=True)


@pytest.mark.parametrize("span", [(7, 9), (-1, 1), (2, 2), (3, 1)])
def test_span_outside_the_text_is_refused(span):
    example = tiny_examples()[0]
    example["entities"] = [{"start": span[0], "end": span[1], "type": "PER", "boxes": []}]
    with pytest.raises(
        ValueError, match=rf"Entity \({span[0]}, {span[1]}\) of example 'kerr' does not fit its 8 words"
    ):
        prompt_rows(tiny_processor(), example)


def test_entities_that_overlap_are_refused():
    example = tiny_examples()[0]
    example["entities"][1]["start"] = 1
    with pytest.raises(ValueError, match="(?s)Example 'kerr': .*The systems read flat entities; keep one"):
        tiny_processor().rows([example], "detection", LABEL2ID)


@pytest.mark.parametrize("tokens", [[], ["", " ", "\u00a0"]])
def test_text_without_words_is_refused(tokens):
    with pytest.raises(ValueError, match="Example empty has no words"):
        tiny_processor().rows([{"id": "empty", "tokens": tokens}], "detection")


@pytest.mark.parametrize("blank", ["", " ", "\u00a0"])
def test_blank_word_can_be_a_candidate(blank):
    """Stage 1 scores every word, so it can propose one that is blank."""
    example = {"tokens": ["Kerr", blank], "entities": [{"start": 1, "end": 2, "type": "PER", "boxes": []}]}
    assert len(prompt_rows(tiny_processor(), example)) == 1


def test_object_without_a_name_can_be_shown():
    example = tiny_examples()[0]
    example["knowledge"]["objects"] = [detected("", [0, 0, 1, 1], None)]
    assert len(prompt_rows(tiny_processor(), example)[0]["object_token_index"]) == 1


def test_examples_without_candidates_have_no_prompts():
    processor = tiny_processor()
    assert processor.rows([tiny_examples()[2]], "recognition") == []
    with pytest.raises(ValueError, match="'recognition' has no input in these 1 examples.*needs examples with `entit"):
        processor([tiny_examples()[2]], "recognition")


def test_unknown_knowledge_part_is_refused():
    with pytest.raises(ValueError, match=r"unknown parts \['captions'\]; choose from encyclopedia, auxiliary"):
        tiny_processor(knowledge=["captions", "objects"])


def test_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="stage='typing'.*detection, recognition"):
        tiny_processor().rows(tiny_examples(), "typing")


def test_tokenizer_without_a_mask_is_refused():
    tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, mask_token=None)
    with pytest.raises(ValueError, match="`BertTokenizer` has no mask token; choose the tokenizer of a masked"):
        ScannerProcessor(tokenizer)


def test_byte_level_tokenizer_without_prefix_space_is_refused():
    with pytest.raises(ValueError, match="`RobertaTokenizer` glues words together.*add_prefix_space=True"):
        ScannerProcessor(tiny_tokenizer("roberta", add_prefix_space=False))
