"""MNER-QG's processor: one query for each entity type, before every text; spans and boxes back to entities."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature

from hf_mner.data.alignment import (
    fit_words,
    flat,
    read_windows,
    special_token_frame,
    special_token_joint,
    subwords_of_words,
    tokenize_once,
    window_words,
)
from hf_mner.data.boxes import Box, check_box
from hf_mner.data.collator import pad_rows
from hf_mner.data.distortion import Distortion
from hf_mner.data.images import image_key, load_rgb_image
from hf_mner.data.labels import bio_labels, decode_bio
from hf_mner.data.letterbox import from_letterbox, letterbox, to_letterbox
from hf_mner.data.pixels import normalized_pixels
from hf_mner.data.schema import MnerExample
from hf_mner.models.base.backbones import IMAGENET_MEAN, IMAGENET_STD, image_statistics, resolve_backbone
from hf_mner.models.base.processing_base import (
    MIN_LENGTH,
    MnerProcessor,
    Row,
    check_lengths,
    check_tokenizer,
    check_tokens,
    distinct,
    example_tags,
    known_class,
)

from .configuration_mner_qg import check_image_size
from .queries import QueryStyle, build_queries

logger = logging.getLogger(__name__)

NO_BOX = (-1.0, -1.0, -1.0, -1.0)
PHRASE = "phrase"  # the type of what `MnerQgForVisualGrounding` grounds in a text without entities
DERIVED = ("frame", "joint", "has_segments", "query_ids")  # what follows from the tokenizer


class MnerQgProcessor(MnerProcessor):
    """Puts a query for each entity type before a text, and reads the answers.

    Stage `recognition` (`MnerQgForMultimodalNer`): one row for each text, more for a text that is too long beside the
    longest query; `pad` makes the inputs `[CLS] query [SEP] sentence [SEP]` of all types of it, which share its image.
    Stage `grounding` (`MnerQgForVisualGrounding`): one row for each entity of an example with an image; its words are
    the phrase that is looked for. An example without `entities` is one phrase.

    Args:
        tokenizer: a fast tokenizer with a mask token.
        queries: what is asked for each entity type (a mapping or pairs), in the order of the model's types; see
            `build_queries`.
        image_size: side in pixels of the square that images are letterboxed to; the model's.
        image_mean: of each channel, from 0 to 1.
        image_std: of each channel.
        max_length: tokens of a query and a sentence together, special tokens included.
        query_max_length: tokens of a query or phrase; its end is cut, at a word.
        grounding_threshold: a box with a lower confidence is not shown. 0 = always one box for each query, as in the
            paper.

    Raises:
        ValueError: if the tokenizer has no mask token, is not a fast one or glues words together, there is no query,
            or a length makes no sense.

    Source: MNER-QG, "Query Construction" and "Input Representation"; FA-VG for the letterbox.
    """

    stages = ("grounding", "recognition")
    stages_of_given = ("grounding",)

    def __init__(
        self,
        tokenizer,
        queries: Mapping[str, str] | Sequence[tuple[str, str]],
        image_size: int = 256,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        max_length: int = 128,
        query_max_length: int = 48,
        grounding_threshold: float = 0.0,
        **kwargs,
    ):
        check_tokenizer(tokenizer)
        check_lengths(tokenizer, max_length=max_length)
        check_image_size(image_size)
        self.queries = check_queries(queries)
        if not 0 <= grounding_threshold <= 1:
            raise ValueError(f"`grounding_threshold` must be in [0, 1], got {grounding_threshold}.")
        if not 1 <= query_max_length <= max_length - MIN_LENGTH:
            raise ValueError(
                f"`query_max_length={query_max_length}` must be at least 1 and leave {MIN_LENGTH} of `max_length="
                f"{max_length}` to the sentence."
            )
        self.image_size = image_size
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.max_length = max_length
        self.query_max_length = query_max_length
        self.grounding_threshold = grounding_threshold
        super().__init__(tokenizer, **kwargs)
        self.frame = special_token_frame(tokenizer)
        self.joint = special_token_joint(tokenizer)
        self.has_segments = "token_type_ids" in tokenizer.model_input_names
        self.query_ids = [self.phrase_ids(query) for query in self.queries.values()]
        self.warn_of_cut_queries()

    @classmethod
    def from_backbones(
        cls,
        text: str,
        vision: str | None = None,
        *,
        types: Sequence[str] = (),
        query_style: QueryStyle = "annotation",
        queries: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> MnerQgProcessor:
        """Build a processor with the tokenizer of a pretrained encoder.

        Args:
            text: Hub name or folder of the text encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vision: Hub name or folder of the image encoder, see `image_statistics`.
            types: the entity types, in the order of the model's.
            query_style: see `build_queries`.
            queries: queries of some or all types, in the place of built ones.
            kwargs: of the constructor.
        """
        from transformers import AutoTokenizer

        if vision is not None and "image_mean" not in kwargs:
            kwargs |= image_statistics(vision)
        tokenizer = AutoTokenizer.from_pretrained(resolve_backbone(text), add_prefix_space=True)
        return cls(tokenizer, build_queries(types, query_style, queries), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return what `save_pretrained` writes; what follows from the tokenizer is left out.

        Queries are written as pairs: JSON is written with sorted keys, and their order is that of the model's types.
        """
        saved = {name: value for name, value in super().to_dict().items() if name not in DERIVED}
        return {**saved, "queries": [list(pair) for pair in self.queries.items()]}

    def knowledge_parts(self) -> set[str]:
        """Name the parts of `example["knowledge"]` that are read: none, MNER-QG sees the image itself."""
        return set()

    def pad_values(self) -> dict[str, int | float]:
        """Name the model's fields and their padding."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": 0,
            "query_token_mask": 0,
            "first_subword_index": -1,
            "labels": -100,
        }

    def phrase_ids(self, phrase: str) -> list[int]:
        """Tokenise a query or phrase, cut to `query_max_length` at a word."""
        text = tokenize_once(self.tokenizer, [phrase])[phrase]
        kept, subwords = fit_words(text, self.query_max_length)
        return flat(subwords) if kept else flat(text[1])[: self.query_max_length]

    def warn_of_cut_queries(self) -> None:
        """Say which types' queries are longer than `query_max_length`."""
        whole = tokenize_once(self.tokenizer, self.queries.values())
        cut = [
            name
            for (name, query), ids in zip(self.queries.items(), self.query_ids, strict=True)
            if len(flat(whole[query][1])) > len(ids)
        ]
        if cut:
            logger.warning(
                "`query_max_length=%d` cuts the queries of %s; raise it to ask the whole query.",
                self.query_max_length,
                ", ".join(cut),
            )

    # -------------------------------------------------------------------------------------------------- rows

    def rows(
        self,
        examples: Sequence[MnerExample],
        stage: str = "recognition",
        label2id: Mapping[str, int] | None = None,
    ) -> list[Row]:
        """Tokenise examples.

        Args:
            examples: examples with `tokens`; `entities` are the source of labels, or of phrases.
            stage: one of `stages`.
            label2id: the entity types; given, rows hold `labels`, and only phrases with a box make rows.

        Returns:
            Rows with `input_ids` (sub-words of the sentence or the phrase alone; `pad` adds queries and special
            tokens), `image` (not yet decoded) and `image_size`, `origin` and, with `label2id`, the labels.

        Raises:
            ValueError: for an example without words, entities that overlap or do not fit, an unknown type, or
                queries that are not those of `label2id`.
        """
        check_tokens(examples)
        if self.check_stage(stage) == "grounding":
            return self.phrase_rows(examples, is_labelled=label2id is not None)
        if label2id is not None:
            check_same_types(self.queries, label2id)
        words = subwords_of_words(self.tokenizer, [example["tokens"] for example in examples])
        longest = max(map(len, self.query_ids)) + len(self.joint)
        tags = {tag: index for index, tag in enumerate(bio_labels(self.queries))}
        rows: list[Row] = []
        for position, (example, subwords) in enumerate(zip(examples, words, strict=True)):
            seen = self.image_fields(example)
            labels: list[int] = []
            if label2id is not None:
                labels = [known_class(tag, example, tags) for tag in example_tags(example)]
                seen["box_labels"] = self.box_labels(example, seen["image_size"])
            for window in window_words(subwords, self.frame, self.max_length - longest):
                row = {**seen, **self.sentence_fields(window.input_ids, window.first_subword_index)}
                row["origin"] = (position, window.first_word, window.end_word)
                if label2id is not None:
                    row["labels"] = labels[window.first_word : window.end_word]
                rows.append(row)
        return rows

    def sentence_fields(self, input_ids: Sequence[int], first_subword_index: Sequence[int]) -> Row:
        """Take the special tokens off a window; positions count from its first sub-word."""
        before, after = self.frame
        return {
            "input_ids": list(input_ids[len(before) : len(input_ids) - len(after)]),
            "first_subword_index": [index - len(before) for index in first_subword_index],
        }

    def image_fields(self, example: MnerExample) -> Row:
        """Return an example's image, not yet decoded, and its size in pixels; None without one."""
        image = example.get("image")
        if image is None:
            return {"image": None, "image_size": None}
        size = example.get("image_size") or load_rgb_image(image).size
        return {"image": image, "image_size": list(size)}

    def box_labels(self, example: MnerExample, image_size: Sequence[int] | None) -> list[Box]:
        """Return the gold box of each type's query, corners as fractions of the square; `NO_BOX` without one.

        The paper's data have one box for each query. Where the entities of a type have several, the largest is taken.
        """
        found = []
        for name in self.queries:
            boxes = [
                box for entity in example.get("entities") or () if entity["type"] == name for box in entity["boxes"]
            ]
            found.append(self.gold_box(boxes, image_size, example))
        return found

    def gold_box(self, boxes: Sequence[Box], image_size: Sequence[int] | None, example: MnerExample) -> Box:
        """Return the largest of some boxes in pixels as corners in the square, `NO_BOX` without any.

        Raises:
            ValueError: for a box without an area, or one that leaves the image.
        """
        if not boxes or image_size is None:
            return list(NO_BOX)
        checked = [check_box(box, image_size, f"Example {example.get('id')!r}") for box in boxes]
        largest = max(checked, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        return to_letterbox(largest, image_size)

    def phrase_rows(self, examples: Sequence[MnerExample], is_labelled: bool) -> list[Row]:
        """Make one row for each entity whose example has an image.

        Of several gold boxes the largest is learned; `evaluate_model` accepts any of them. (FA-VG's data have one box
        for each phrase, the union of several.)
        """
        rows: list[Row] = []
        for position, example in enumerate(examples):
            seen = self.image_fields(example)
            entities = phrases_of(example) if seen["image"] is not None else []
            for number, entity in enumerate(entities):
                if is_labelled and not entity["boxes"]:
                    continue
                phrase = " ".join(example["tokens"][entity["start"] : entity["end"]])
                row = {**seen, "input_ids": self.phrase_ids(phrase), "origin": (position, number)}
                if is_labelled:
                    row["labels"] = [self.gold_box(entity["boxes"], seen["image_size"], example)]
                rows.append(row)
        return rows

    def row_length(self, row: Row) -> int:
        """Return the number of tokens that the model reads for a row, without its queries."""
        return len(row["input_ids"])

    # ------------------------------------------------------------------------------------------------ batches

    def pad(self, rows: Sequence[Row]) -> BatchFeature:
        """Stack rows to tensors; usable as a `data_collator`. Rows of one image share it (`image_index`).

        Rows with `is_distorted` (of trainings) get a random distortion of their image and its boxes, a new one in each
        batch, see `Distortion`.
        """
        rows = self.draw_distortions(rows)
        batch: dict[str, Any] = {}
        pad_values = self.pad_values()
        if "first_subword_index" in rows[0]:
            inputs = [self.query_input(query, row) for row in rows for query in self.query_ids]
            if "labels" in rows[0]:
                batch.update(pad_rows(rows, {"labels": pad_values["labels"]}))
                batch["box_labels"] = torch.stack([moved_boxes(row, "box_labels") for row in rows])
        else:
            inputs = [self.query_input(row["input_ids"]) for row in rows]
            if "labels" in rows[0]:
                batch["labels"] = torch.stack([moved_boxes(row, "labels") for row in rows])
        batch.update(pad_rows(inputs, pad_values))
        return BatchFeature({**batch, **self.pad_images(rows)})

    def draw_distortions(self, rows: Sequence[Row]) -> list[Row]:
        """Give rows with `is_distorted` a `distortion`, those of one image the same."""
        drawn: dict[Any, Distortion] = {}
        return [
            {**row, "distortion": drawn.setdefault(self.image_key(row), Distortion.draw())}
            if row.get("is_distorted")
            else row
            for row in rows
        ]

    def query_input(self, query: Sequence[int], row: Row | None = None) -> Row:
        """Frame a query, with the sentence of a row behind it: one input of the text encoder."""
        before, after = self.frame
        ids = [*before, *query]
        asked = [0] * len(before) + [1] * len(query)
        fields: Row = {}
        segments = [0] * len(ids)
        if row is not None:
            ids += [*self.joint]
            segments += [0] * (len(ids) - len(segments))
            fields["first_subword_index"] = [len(ids) + index for index in row["first_subword_index"]]
            ids += row["input_ids"]
        kind = 0 if row is None else 1
        ids += after
        segments += [kind] * (len(ids) - len(segments))
        fields |= {"input_ids": ids, "attention_mask": [1] * len(ids)}
        fields["query_token_mask"] = asked + [0] * (len(ids) - len(asked))
        if self.has_segments:
            fields["token_type_ids"] = segments
        return fields

    def pad_images(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Stack the distinct images of some rows, or their maps."""
        chosen, index = distinct([self.image_key(row) for row in rows])
        if not chosen:
            return {}
        if "feature_maps" in rows[chosen[0]]:
            maps = zip(*(rows[position]["feature_maps"] for position in chosen), strict=True)
            names = ("feature_map_8", "feature_map_16", "feature_map_32")
            return {"image_index": index, **{n: torch.stack(m) for n, m in zip(names, maps, strict=True)}}
        pixels = torch.stack([self.pixel_values(rows[position]) for position in chosen])
        return {"image_index": index, "pixel_values": pixels}

    def pixel_values(self, row: Row) -> torch.Tensor:
        """Decode a row's image, letterbox it, and distort it if the row says so: `3 h w`, normalised."""
        red, green, blue = (round(255 * value) for value in self.image_mean)
        square = letterbox(load_rgb_image(row["image"]), self.image_size, (red, green, blue))
        if "distortion" in row:
            square = row["distortion"].image(square, (red, green, blue))
        return normalized_pixels(square, self.image_mean, self.image_std)

    def image_key(self, row: Row) -> Any:
        """Return what tells a row's image from others, `None` without one."""
        return image_key(row["image"])

    # ----------------------------------------------------------------------------------------------- decoding

    def post_process_entities(
        self,
        outputs: Sequence[Mapping[str, Any]],
        rows: Sequence[Row],
        examples: Sequence[MnerExample],
        stage: str,
        id2label: Mapping[int, str],
        threshold: float = 0.0,
    ) -> list[MnerExample]:
        """Return copies of the examples with the entities that were found, or with the boxes of the given ones.

        Each entity has the box of its type's query. Where a long text was read in several windows, whose boxes may
        differ, it has that of the window that decided on its first word.

        Args:
            outputs: for each row its slice of the model's output.
            rows: the rows that were scored.
            examples: the examples that the rows were made of.
            stage: one of `stages`.
            id2label: the entity types.
            threshold: entities with a lower score (the product of the probabilities of start, end and match) are left
                out.

        Returns:
            Copies with `entities`, and, of a model that grounds, with `query_boxes`: for each type's query
            (`{"type", "box", "score"}`), or for each phrase (`{"start", "end", "box", "score"}`), its best box,
            whatever the `grounding_threshold`.
        """
        if self.check_stage(stage) == "grounding":
            return self.read_phrases(outputs, rows, examples)
        check_same_types(self.queries, {name: index for index, name in id2label.items()})
        names = bio_labels(self.queries)
        tags = [np.zeros(len(example["tokens"]), dtype=int) for example in examples]
        scores = [np.zeros(len(example["tokens"])) for example in examples]
        sources = [np.zeros(len(example["tokens"]), dtype=int) for example in examples]  # the row of each word
        of_example: list[list[int]] = [[] for _ in examples]
        windows = read_windows((row["origin"] for row in rows), [len(words) for words in tags])
        for number, (output, (text, first, counts)) in enumerate(zip(outputs, windows, strict=True)):
            place = slice(first, first + len(counts))
            tags[text][place][counts] = output["tags"][: len(counts)][counts]
            scores[text][place][counts] = output["tag_scores"][: len(counts)][counts]
            sources[text][place][counts] = number
            of_example[text].append(number)
        found: list[Any] = []
        for position, example in enumerate(examples):
            entities = []
            for span in decode_bio([names[int(index)] for index in tags[position]]):
                score = float(scores[position][span.start : span.end].mean())
                if score >= threshold:
                    row = sources[position][span.start]
                    boxes = self.shown_boxes(self.query_box(outputs[row], rows[row], span.type))
                    entities.append({**span._asdict(), "score": score, "boxes": boxes, "shown": {}})
            copy = {**example, "entities": entities}
            if any("boxes" in outputs[row] for row in of_example[position]):
                copy["query_boxes"] = self.best_boxes([(outputs[row], rows[row]) for row in of_example[position]])
            found.append(copy)
        return found

    def query_box(self, output: Mapping[str, Any], row: Row, name: str | None = None) -> dict[str, Any] | None:
        """Return the box of a type's query in pixels, or of a row's phrase, and its confidence; None without one."""
        if "boxes" not in output or row["image"] is None:
            return None
        query = 0 if name is None else list(self.queries).index(name)
        box = from_letterbox(output["boxes"][query], row["image_size"])
        return None if box is None else {"box": box, "score": float(output["box_scores"][query])}

    def shown_boxes(self, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return a box in a list if it is confident enough."""
        return [dict(found)] if found is not None and found["score"] >= self.grounding_threshold else []

    def best_boxes(self, windows: Sequence[tuple[Mapping[str, Any], Row]]) -> list[dict[str, Any]]:
        """Return the most confident box of each type's query over the windows of a text."""
        best = []
        for name in self.queries:
            found = [box for output, row in windows if (box := self.query_box(output, row, name)) is not None]
            if found:
                best.append({"type": name, **max(found, key=lambda box: box["score"])})
        return best

    def read_phrases(
        self, outputs: Sequence[Mapping[str, Any]], rows: Sequence[Row], examples: Sequence[MnerExample]
    ) -> list[MnerExample]:
        """Give the entities of the examples the boxes of their phrases."""
        answers = {row["origin"]: self.query_box(output, row) for output, row in zip(outputs, rows, strict=True)}
        found: list[Any] = []
        for position, example in enumerate(examples):
            entities, boxes = [], []
            for number, entity in enumerate(phrases_of(example)):
                answer = answers.get((position, number))
                score = answer["score"] if answer else 0.0
                entities.append({"score": score, "shown": {}, **entity, "boxes": self.shown_boxes(answer)})
                if answer is not None:
                    boxes.append({"start": entity["start"], "end": entity["end"], **answer})
            found.append({**example, "entities": entities, "query_boxes": boxes})
        return found


def moved_boxes(row: Row, name: str) -> torch.Tensor:
    """Return the gold boxes of a row (`q 4`) where its distortion moved them."""
    boxes = torch.tensor(row[name])
    return row["distortion"].boxes(boxes) if "distortion" in row else boxes


def phrases_of(example: MnerExample) -> list[Any]:
    """Return the entities whose words are looked for; a text without `entities` is one phrase."""
    if example.get("entities") is not None:
        return list(example["entities"])
    return [{"start": 0, "end": len(example["tokens"]), "type": PHRASE, "boxes": []}]


def check_queries(queries: Any) -> dict[str, str]:
    """Return queries by type, in their order; what asks nothing is an error."""
    try:
        by_type = dict(queries)
    except (TypeError, ValueError):
        by_type = {}
    if not by_type:
        raise ValueError(
            f"`queries={queries!r}`: expected a query for each entity type, such as"
            " `build_queries(['PER', 'LOC', 'ORG'])`."
        )
    for name, query in by_type.items():
        if not isinstance(query, str) or not query.strip():
            raise ValueError(f"The query of type {name!r} is {query!r}; expected a text.")
    return by_type


def check_same_types(queries: Mapping[str, str], label2id: Mapping[str, int]) -> None:
    """Refuse a model with other types than the queries, or in another order."""
    names = sorted(label2id, key=lambda name: label2id[name])
    if names != list(queries):
        raise ValueError(
            f"The processor asks for {', '.join(queries)} and the model's types are {', '.join(names)}; build the"
            " processor with the types of the model, in their order."
        )


__all__ = ["PHRASE", "MnerQgProcessor"]
