"""SCANNER's processor: words to rows of stage 1, candidates to prompts of stage 2, scores to entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np

from hf_mner.data.alignment import (
    Subwords,
    fit_words,
    flat,
    read_windows,
    special_token_frame,
    subwords_of_words,
    tokenize_once,
    window_words,
)
from hf_mner.data.labels import decode_bio
from hf_mner.data.schema import EncyclopediaEntry, EntityAnnotation, MnerExample, ObjectKnowledge
from hf_mner.metrics import box_iou
from hf_mner.models.base.processing_base import (
    MnerProcessor,
    Row,
    check_knowledge_parts,
    check_lengths,
    check_tokenizer,
    check_tokens,
    example_tags,
    known_class,
)

from .configuration_scanner import NON_ENTITY, SPAN_LABELS

KnowledgePart = Literal["encyclopedia", "auxiliary", "caption", "objects"]
KNOWLEDGE_PARTS: tuple[str, ...] = get_args(KnowledgePart)
OBJECT_TOKEN = "[obj]"
PROMPT_HEAD = ("The entity is", "for", "in this sentence.")  # `<mask>` follows the first part, the entity the second


class Prompt(NamedTuple):
    """A tokenised prompt of stage 2: ids, the positions that are read, and the knowledge that fitted in."""

    input_ids: list[int]
    mask_token_index: int
    object_token_index: list[int]
    shown: dict[str, Any]


class ScannerProcessor(MnerProcessor):
    """Tokenises for both stages of SCANNER and decodes their scores.

    Stage `"detection"` gives one row for each text (more for a text longer than `detection_max_length`); stage
    `"recognition"` one prompt for each of an example's `entities` (section 3.2.1):

        The entity is <mask> for {entity} in this sentence. {sentence} {encyclopedia} {caption} [obj] {object 1} ...

    A prompt that is too long loses the end of its encyclopedia text, then of its caption, then its least similar
    objects, one whole object at a time; never the first sentence or the tweet. Only a tweet that leaves no room even
    alone is cut, to the words around the candidate.

    Args:
        tokenizer: a fast tokenizer with a mask token; `[obj]` is added to it.
        max_length: tokens in a prompt, special tokens included; at most what the encoder takes.
        detection_max_length: tokens in a row of stage 1.
        max_objects: objects in a prompt; the paper uses 15 for MNER and 18 for GMNER.
        knowledge: the parts of `example["knowledge"]` that go into the prompt, of `encyclopedia`, `auxiliary` (the
            LLM text of Table 12, in the encyclopedia's place), `caption`, `objects`.
        sort_objects: order objects by similarity with the entity (Table 14's ablation keeps the detector's order).
        grounding_threshold: overlap score that the best object needs to become the entity's box (0.5 is IoU > 0.5 of
            the metric); `None` = propose no boxes, for models that were not trained to ground.

    Raises:
        ValueError: if the tokenizer has no mask token, is not a fast one, or glues words together; if a length or a
            number of objects makes no sense.

    Source: SCANNER, section 3.2.1, Figure 4, Tables 10 and 12.
    Departure: the paper orders objects by CLIP similarity with the entity. That order is used where a source wrote
        `entity["object_similarities"]`; else the objects' own `similarity` with the text stands in for it.
    """

    stages: ClassVar[tuple[str, ...]] = ("detection", "recognition")

    def __init__(
        self,
        tokenizer,
        max_length: int = 256,
        detection_max_length: int = 256,
        max_objects: int = 15,
        knowledge: Sequence[KnowledgePart] = ("encyclopedia", "caption", "objects"),
        sort_objects: bool = True,
        grounding_threshold: float | None = None,
        **kwargs,
    ):
        check_tokenizer(tokenizer)
        check_lengths(tokenizer, max_length=max_length, detection_max_length=detection_max_length)
        check_limits(max_objects, grounding_threshold)
        check_knowledge_parts(knowledge, KNOWLEDGE_PARTS)
        self.max_length = max_length
        self.detection_max_length = detection_max_length
        self.max_objects = max_objects
        self.knowledge = list(knowledge)
        self.sort_objects = sort_objects
        self.grounding_threshold = grounding_threshold
        tokenizer.add_special_tokens({"additional_special_tokens": [OBJECT_TOKEN]})
        super().__init__(tokenizer, **kwargs)
        self.frame = special_token_frame(tokenizer)
        self.object_token_id = tokenizer.convert_tokens_to_ids(OBJECT_TOKEN)

    def to_dict(self) -> dict[str, Any]:
        """Return what `save_pretrained` writes; what follows from the tokenizer is left out."""
        saved = super().to_dict()
        return {name: value for name, value in saved.items() if name not in ("frame", "object_token_id")}

    def knowledge_parts(self) -> set[str]:
        """Name the parts of `example["knowledge"]` that go into the prompt."""
        return set(self.knowledge)

    def pad_values(self) -> dict[str, int | float]:
        """Name the fields of both stages and their padding."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "first_subword_index": -1,
            "mask_token_index": 0,
            "object_token_index": -1,
            "labels": -100,
            "overlaps": -100.0,
        }

    def rows(
        self, examples: Sequence[MnerExample], stage: str, label2id: Mapping[str, int] | None = None
    ) -> list[Row]:
        """Tokenise examples for one stage.

        Args:
            examples: examples with `tokens`; `entities` (word indices) are the candidates of stage `recognition` and
                the source of labels.
            stage: `"detection"` or `"recognition"`.
            label2id: given, rows hold `labels` (O, B, I of each word, or the candidate's class; a type that is not in
                `label2id` is an error) and, where the example has objects, `overlaps`.

        Returns:
            Rows with the model's fields, unpadded, and `origin`: the example's position, then the word range or the
            entity's position.

        Raises:
            ValueError: for an example without words, a span outside its text, or an unknown type.
        """
        check_tokens(examples)
        subwords = subwords_of_words(self.tokenizer, [example["tokens"] for example in examples])
        if self.check_stage(stage) == "detection":
            return self.detection_rows(examples, subwords, has_labels=label2id is not None)
        return self.recognition_rows(examples, subwords, label2id)

    # ------------------------------------------------------------------------------------------------ stage 1

    def detection_rows(
        self, examples: Sequence[MnerExample], subwords: Sequence[Subwords], has_labels: bool
    ) -> list[Row]:
        """Cut every text into windows of whole words and label their words O, B, I."""
        rows = []
        for position, (example, pieces) in enumerate(zip(examples, subwords, strict=True)):
            labels = span_labels(example) if has_labels else []
            for window in window_words(pieces, self.frame, self.detection_max_length):
                row = {
                    "input_ids": window.input_ids,
                    "attention_mask": [1] * len(window.input_ids),
                    "first_subword_index": window.first_subword_index,
                    "origin": (position, window.first_word, window.end_word),
                }
                if has_labels:
                    row["labels"] = labels[window.first_word : window.end_word]
                rows.append(row)
        return rows

    def candidates(
        self, outputs: Sequence[Mapping[str, Any]], rows: Sequence[Row], examples: Sequence[MnerExample]
    ) -> list[list[Any]]:
        """Decode stage 1: each example's spans with `start`, `end` and `score`, the mean probability of its words."""
        scores = [np.zeros((len(example["tokens"]), len(SPAN_LABELS))) for example in examples]
        windows = read_windows((row["origin"] for row in rows), [len(words) for words in scores])
        for output, (example, first, counts) in zip(outputs, windows, strict=True):
            scores[example][first : first + len(counts)][counts] = output["logits"][: len(counts)][counts]
        return [decode_candidates(words) for words in scores]

    # ------------------------------------------------------------------------------------------------ stage 2

    def recognition_rows(
        self, examples: Sequence[MnerExample], subwords: Sequence[Subwords], label2id: Mapping[str, int] | None
    ) -> list[Row]:
        """Build the prompt of every candidate."""
        wanted = [self.prompt_texts(example) for example in examples]
        cache = tokenize_once(self.tokenizer, (text for texts in wanted for text in texts))
        rows = []
        for position, (example, pieces) in enumerate(zip(examples, subwords, strict=True)):
            for number, entity in enumerate(example.get("entities") or ()):
                check_span(entity, example)
                objects = self.ranked_objects(example, entity)
                prompt = self.build_prompt(example, entity, objects, pieces, cache)
                row = {
                    "input_ids": prompt.input_ids,
                    "attention_mask": [1] * len(prompt.input_ids),
                    "mask_token_index": prompt.mask_token_index,
                    "object_token_index": prompt.object_token_index,
                    "origin": (position, number),
                    "shown": prompt.shown,
                }
                if label2id is not None:
                    kept = objects[: len(prompt.object_token_index)]
                    row["labels"] = known_class(entity["type"], example, label2id)
                    row["overlaps"] = object_overlaps(kept, entity.get("boxes") or [])
                rows.append(row)
        return rows

    def prompt_texts(self, example: MnerExample) -> list[str]:
        """List every text besides the tweet that this example's prompts hold."""
        parts = self.knowledge_of(example)
        texts = [mention(example, entity) for entity in example.get("entities") or ()]
        texts += [entry["text"] for entry in parts["encyclopedia"]] + [object_text(item) for item in parts["objects"]]
        return [*texts, parts["auxiliary"], parts["caption"], "", *PROMPT_HEAD]

    def knowledge_of(self, example: MnerExample) -> dict[str, Any]:
        """Return the parts of an example's knowledge that this processor shows, empty where there is nothing."""
        given = example.get("knowledge") or {}
        parts: dict[str, Any] = {"encyclopedia": [], "auxiliary": "", "caption": "", "objects": []}
        return {name: (given.get(name) if name in self.knowledge else None) or empty for name, empty in parts.items()}

    def ranked_objects(self, example: MnerExample, entity: Mapping[str, Any]) -> list[ObjectKnowledge]:
        """Return the example's objects, most similar to the entity first, at most `max_objects`.

        The similarity is the entity's own (`entity["object_similarities"]`, aligned with the objects) where a source
        computed one, else the object's, else 0; ties keep the detector's order.
        """
        objects = list(self.knowledge_of(example)["objects"])
        if self.sort_objects:
            own = entity.get("object_similarities") or [item.get("similarity") or 0.0 for item in objects]
            if len(own) != len(objects):
                raise ValueError(
                    f"Entity ({entity['start']}, {entity['end']}) of example {example.get('id')!r} has {len(own)}"
                    f" `object_similarities` for {len(objects)} objects; give one for each, in their order."
                )
            order = sorted(range(len(objects)), key=lambda index: -own[index])
            objects = [objects[index] for index in order]
        return objects[: self.max_objects]

    def build_prompt(
        self,
        example: MnerExample,
        entity: Mapping[str, Any],
        objects: Sequence[ObjectKnowledge],
        sentence: Subwords,
        cache: Mapping[str, tuple[list[str], Subwords]],
    ) -> Prompt:
        """Put a candidate's prompt together, shortening what may be shortened (see the class)."""
        parts = self.knowledge_of(example)
        entry = encyclopedia_entry(parts["encyclopedia"], mention(example, entity))
        before, after = self.frame
        room = self.max_length - len(before) - len(after)
        head, mask = self.prompt_head(mention(example, entity), cache, room)
        tweet = words_around(sentence, entity["start"], entity["end"], room - len(head))
        is_cut = len(tweet) < len(flat(sentence))
        room = 0 if is_cut else room - len(head) - len(tweet)
        pieces = [[self.object_token_id, *flat(cache[text][1])] for text in map(object_text, objects)]
        objects_length = sum(map(len, pieces))
        caption = fit_words(cache[parts["caption"]], room - objects_length)
        facts = parts["auxiliary"] or (entry["text"] if entry else "")
        is_cut = len(caption[1]) < len(cache[parts["caption"]][1])
        text = fit_words(cache[facts], 0 if is_cut else room - objects_length - len(flat(caption[1])))
        room -= len(flat(text[1])) + len(flat(caption[1]))
        ids = [*before, *head, *tweet, *flat(text[1]), *flat(caption[1])]
        object_index = []
        for piece in pieces:
            if len(piece) > room:
                break
            object_index.append(len(ids))
            ids.extend(piece)
            room -= len(piece)
        shown = {"objects": list(objects[: len(object_index)]), "caption": " ".join(caption[0])}
        shown["auxiliary" if parts["auxiliary"] else "encyclopedia"] = " ".join(text[0])
        shown = {name: value for name, value in shown.items() if value}
        return Prompt([*ids, *after], len(before) + mask, object_index, shown)

    def prompt_head(
        self, name: str, cache: Mapping[str, tuple[list[str], Subwords]], room: int
    ) -> tuple[list[int], int]:
        """Return the ids of the prompt's first sentence and the position of `<mask>` in them."""
        opening, before_name, closing = (flat(cache[text][1]) for text in PROMPT_HEAD)
        room -= len(opening) + 1 + len(before_name) + len(closing)
        if room < 2:
            raise ValueError(
                f"`max_length={self.max_length}` has no room for the prompt's first sentence and a candidate;"
                " the paper's encoders take 512."
            )
        entity = flat(cache[name][1])[: room // 2]  # only a candidate of half the encoder's length is ever cut
        return [*opening, self.tokenizer.mask_token_id, *before_name, *entity, *closing], len(opening)

    # ------------------------------------------------------------------------------------------------ decoding

    def post_process_entities(
        self,
        outputs: Sequence[Mapping[str, Any]],
        rows: Sequence[Row],
        examples: Sequence[MnerExample],
        stage: str,
        id2label: Mapping[int, str],
        threshold: float = 0.0,
    ) -> list[MnerExample]:
        """Return copies of the examples whose `entities` are the candidates (stage 1) or the entities (stage 2).

        Args:
            outputs: for each row `logits` (`n 3` or `c`) and, where it has objects, `overlap_logits` (`r`).
            rows: the rows that were scored.
            examples: the examples that the rows were made of.
            stage: `"detection"` or `"recognition"`.
            id2label: the classes of stage 2.
            threshold: entities whose class probability is lower are left out.
        """
        if self.check_stage(stage) == "detection":
            found = self.candidates(outputs, rows, examples)
        else:
            found = [[] for _ in examples]
            for output, row in zip(outputs, rows, strict=True):
                position, number = row["origin"]
                candidate = examples[position]["entities"][number]
                entity = self.typed_entity(output, row, candidate, id2label)
                if entity["type"] != NON_ENTITY and entity["score"] >= threshold:
                    found[position].append(entity)
        return [{**example, "entities": entities} for example, entities in zip(examples, found, strict=True)]

    def typed_entity(
        self, output: Mapping[str, Any], row: Row, candidate: Mapping[str, Any], id2label: Mapping[int, str]
    ) -> dict[str, Any]:
        """Read one prompt's scores: the best class, its probability, and the box of the best object."""
        probabilities = softmax(output["logits"])
        best = int(probabilities.argmax())
        return {
            "start": candidate["start"],
            "end": candidate["end"],
            "type": id2label[best],
            "score": float(probabilities[best]),
            "boxes": self.grounded_boxes(output.get("overlap_logits"), row),
            "shown": row["shown"],
        }

    def grounded_boxes(self, overlap_logits: np.ndarray | None, row: Row) -> list[dict[str, Any]]:
        """Return the box of the best-scored object if its score reaches the threshold, else no box (section 4.2)."""
        count = len(row["object_token_index"])
        if self.grounding_threshold is None or overlap_logits is None or not count:
            return []
        scores = 1 / (1 + np.exp(-overlap_logits[:count]))
        best = int(scores.argmax())
        if scores[best] < self.grounding_threshold:
            return []
        return [{"box": [float(edge) for edge in row["shown"]["objects"][best]["box"]], "score": float(scores[best])}]


def check_limits(max_objects: int, grounding_threshold: float | None) -> None:
    """Refuse numbers that mean nothing."""
    if max_objects < 0:
        raise ValueError(f"`max_objects` must be 0 or more (the paper: 15 or 18), got {max_objects}.")
    if grounding_threshold is not None and not 0 <= grounding_threshold <= 1:
        raise ValueError(f"`grounding_threshold` must be None or between 0 and 1, got {grounding_threshold}.")


def span_labels(example: MnerExample) -> list[int]:
    """Return the index of O, B or I for each word from the example's entities, which must not overlap."""
    return [SPAN_LABELS.index(tag[0]) for tag in example_tags(example)]


def decode_candidates(scores: np.ndarray) -> list[dict[str, Any]]:
    """Read the spans of one text from its word scores (`n 3`, raw)."""
    labels = scores.argmax(-1)
    if not labels.any():
        return []
    best = softmax(scores).max(-1)
    tags = ["O" if label == 0 else f"{SPAN_LABELS[label]}-span" for label in labels]
    return [
        {"start": span.start, "end": span.end, "score": float(best[span.start : span.end].mean())}
        for span in decode_bio(tags)
    ]


def check_span(entity: EntityAnnotation, example: MnerExample) -> None:
    """Refuse a candidate that does not fit its text."""
    if not 0 <= entity["start"] < entity["end"] <= len(example["tokens"]):
        raise ValueError(
            f"Entity ({entity['start']}, {entity['end']}) of example {example.get('id')!r} does not fit its"
            f" {len(example['tokens'])} words; `start` and `end` are word indices with `end` exclusive."
        )


def mention(example: MnerExample, entity: Mapping[str, Any]) -> str:
    """Return the words of a candidate, joined by spaces."""
    return " ".join(example["tokens"][entity["start"] : entity["end"]])


def encyclopedia_entry(entries: Sequence[EncyclopediaEntry], name: str) -> EncyclopediaEntry | None:
    """Return the entry that was looked up for this mention, if any."""
    return next((entry for entry in entries if entry["mention"] == name), None)


def object_text(item: ObjectKnowledge) -> str:
    """Return an object's text: class name and region caption."""
    return f"{item['label']} {item.get('caption') or ''}".strip()


def object_overlaps(objects: Sequence[ObjectKnowledge], boxes: Sequence[Sequence[float]]) -> list[float]:
    """Return Eq. 2's target for each object: its largest IoU with the entity's gold boxes, 0 without any."""
    return [max((box_iou(item["box"], box) for box in boxes), default=0.0) for item in objects]


def words_around(sentence: Subwords, start: int, end: int, room: int) -> list[int]:
    """Return the ids of a text, or of the words around a candidate where the whole does not fit `room` tokens."""
    if sum(map(len, sentence)) <= room:
        return flat(sentence)
    left, right, used = start, start, 0
    grow_right = True
    while left > 0 or right < len(sentence):
        grow_right = right < len(sentence) and (right < end or grow_right or left == 0)
        word = sentence[right if grow_right else left - 1]
        if used + len(word) > room:
            break
        used += len(word)
        left, right = (left, right + 1) if grow_right else (left - 1, right)
        grow_right = not grow_right
    return flat(sentence[left:right])


def softmax(scores: np.ndarray) -> np.ndarray:
    """Turn raw scores into probabilities over the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


__all__ = ["KNOWLEDGE_PARTS", "OBJECT_TOKEN", "ScannerProcessor"]
