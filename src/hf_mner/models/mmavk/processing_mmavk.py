"""MMAVK's processor: words and auxiliary knowledge to rows, tags to entities."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from PIL import Image
from transformers import BatchFeature
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from hf_mner.data.alignment import (
    WordWindow,
    fit_words,
    flat,
    special_token_frame,
    special_token_joint,
    tokenize_once,
)
from hf_mner.data.images import image_key, load_rgb_image
from hf_mner.data.schema import MnerExample
from hf_mner.models.base.processing_base import (
    Row,
    check_knowledge_parts,
    check_lengths,
    check_tokenizer,
    distinct,
)
from hf_mner.models.base.tagging import TaggingProcessor

from .configuration_mmavk import FUSIONS, TEXT_FUSIONS, Fusion

KnowledgePart = Literal["auxiliary", "caption", "ocr"]
KNOWLEDGE_PARTS: tuple[str, ...] = get_args(KnowledgePart)
UNKNOWN_SIMILARITY = 1.0  # as if image and text were alike: what is not known filters nothing


MAX_FITTED = 4096
DERIVED = ("frame", "joint", "has_segments", "fitted")  # what follows from the tokenizer, or is kept for speed


class FittedText(NamedTuple):
    """An auxiliary text, cut to what the encoder reads: its sub-words and its words, joined by spaces."""

    ids: tuple[int, ...]
    words: str


class MmavkProcessor(TaggingProcessor):
    """Tokenises words and auxiliary text for MMAVK and decodes its tags.

    One row for each text, more for a text longer than `max_length` (windows of whole words that overlap; a word that
    several windows see is read where it stands farthest from an edge). What stands beside the words depends on
    `fusion`, which must be the model's:

    - `word_level`: the auxiliary text as an input of its own (Eq. 6), `[CLS] z_1 ... z_m [SEP]`. Rows of a batch that
      have the same text share one (`knowledge_index`).
    - `concat`: the auxiliary text after the words, `[CLS] x_1 ... x_n [SEP] z_1 ... z_m [SEP]`.
    - `prefix`: the image and, where the example has `knowledge["objects"]`, crops of them.
    - `none`: nothing.

    Args:
        tokenizer: a fast tokenizer with a mask token.
        image_processor: of the vision encoder; `None` = 224 pixels, ImageNet's mean and deviation. `prefix` alone uses
            it.
        fusion: one of `FUSIONS`.
        max_length: tokens of the words, special tokens included.
        knowledge_max_length: tokens of the auxiliary text, special tokens included; its end is cut, at a word.
        knowledge: the parts of `example["knowledge"]` that make up the auxiliary text, in this order, of `auxiliary`,
            `caption` and `ocr`.
        max_regions: with `prefix`, crops of detected objects beside the whole image: the most similar ones (else the
            best-scored); HVPNeT uses 3.

    Raises:
        ValueError: if the tokenizer has no mask token, is not a fast one or glues words together, a length makes no
            sense, or a choice is unknown.

    Source: MMAVK, sections 3.1 and 3.2.
    """

    def __init__(
        self,
        tokenizer,
        image_processor=None,
        fusion: Fusion = "word_level",
        max_length: int = 128,
        knowledge_max_length: int = 192,
        knowledge: Sequence[KnowledgePart] = ("auxiliary",),
        max_regions: int = 3,
        **kwargs,
    ):
        check_tokenizer(tokenizer)
        check_lengths(tokenizer, max_length=max_length, knowledge_max_length=knowledge_max_length)
        if fusion == "concat":
            check_lengths(tokenizer, **{"max_length + knowledge_max_length": max_length + knowledge_max_length})
        check_choices(fusion, knowledge, max_regions)
        self.fusion = fusion
        self.max_length = max_length
        self.knowledge_max_length = knowledge_max_length
        self.knowledge = list(knowledge)
        self.max_regions = max_regions
        super().__init__(tokenizer, image_processor or default_image_processor(), **kwargs)
        self.frame = special_token_frame(tokenizer)
        self.joint = special_token_joint(tokenizer)
        self.has_segments = "token_type_ids" in tokenizer.model_input_names
        self.fitted: OrderedDict[tuple[str, int], FittedText] = OrderedDict()  # see `fit_knowledge`

    def to_dict(self) -> dict[str, Any]:
        """Return what `save_pretrained` writes; what follows from the tokenizer is left out."""
        saved = super().to_dict()
        return {name: value for name, value in saved.items() if name not in DERIVED}

    def knowledge_parts(self) -> set[str]:
        """Name the parts of `example["knowledge"]` that the fusion reads."""
        if self.fusion == "none":
            return set()
        return {"similarity", *(["objects"] if self.fusion == "prefix" else self.knowledge)}

    def parts_shown(self, shown: Mapping[str, Any]) -> set[str]:
        """Name the parts that are read: all texts are shown as one, and the similarity weighs it."""
        return self.knowledge_parts() if shown else set()

    def pad_values(self) -> dict[str, int | float]:
        """Name the model's fields and their padding."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": 0,
            "first_subword_index": -1,
            "knowledge_token_mask": 0,
            "knowledge_input_ids": self.tokenizer.pad_token_id,
            "knowledge_attention_mask": 0,
            "similarity": UNKNOWN_SIMILARITY,
            "labels": -100,
        }

    # -------------------------------------------------------------------------------------------------- rows

    def rows(
        self,
        examples: Sequence[MnerExample],
        stage: str = "recognition",
        label2id: Mapping[str, int] | None = None,
    ) -> list[Row]:
        """Tokenise examples.

        Args:
            examples: examples with `tokens`; `entities` (word indices) are the source of labels.
            stage: `"recognition"`.
            label2id: the tags; given, rows hold `labels`, the tag of each word.

        Returns:
            Rows with the model's fields, unpadded, and
            - `knowledge_ids`: the auxiliary text's tokens (`word_level`), `()` = none,
            - `image` and `crops`: what `prefix` looks at, not yet decoded,
            - `origin`: the example's position, first word and word after the last; `shown`: the knowledge.

        Raises:
            ValueError: for an example without words, entities that overlap or do not fit, or an unknown type.
        """
        self.check_stage(stage)
        windows = list(self.windows(examples, label2id))
        texts = [self.knowledge_text(example) for example in examples]
        fitted = self.fit_knowledge(texts)
        beside = [self.beside(example, fitted[text]) for example, text in zip(examples, texts, strict=True)]
        return [
            {**self.word_fields(window, beside[position]), **beside[position], **fields}
            for position, window, fields in windows
        ]

    def knowledge_text(self, example: MnerExample) -> str:
        """Return an example's auxiliary text, empty where it has none or the fusion reads none."""
        if self.fusion not in TEXT_FUSIONS:
            return ""
        given = example.get("knowledge") or {}
        return " ".join(text for part in self.knowledge if (text := (given.get(part) or "").strip()))

    def fit_knowledge(self, texts: Sequence[str]) -> dict[str, FittedText]:
        """Tokenise auxiliary texts and cut them to `knowledge_max_length`, at a word.

        The last `MAX_FITTED` are kept: an auxiliary text is longer than its post, and the same for all of its posts.
        """
        before, after = self.frame
        room = self.knowledge_max_length - len(before) - len(after)
        fitted = {text: self.fitted[text, room] for text in dict.fromkeys(texts) if (text, room) in self.fitted}
        missing = (text for text in texts if text not in fitted)
        for text, (words, subwords) in tokenize_once(self.tokenizer, missing).items():
            kept, ids = fit_words((words, subwords), room)
            if not kept and words:  # a script without spaces is one word: its leading sub-words stay
                kept, ids = words[:1], [subwords[0][:room]]
            fitted[text] = self.fitted[text, room] = FittedText(tuple(flat(ids)), " ".join(kept))
        while len(self.fitted) > MAX_FITTED:
            self.fitted.popitem(last=False)
        return fitted

    def beside(self, example: MnerExample, text: FittedText) -> Row:
        """Return what the rows of an example hold beside its words."""
        similarity = (example.get("knowledge") or {}).get("similarity")
        row: Row = {
            "knowledge_ids": text.ids,
            "similarity": UNKNOWN_SIMILARITY if similarity is None else float(similarity),
            "shown": {"auxiliary": text.words} if text.words else {},
        }
        if self.fusion == "prefix":
            row["image"] = example.get("image")
            row["crops"] = self.crops(example)
        return row

    def crops(self, example: MnerExample) -> list[tuple[float, ...]]:
        """Return the boxes (pixels) of the objects that are looked at beside the whole image."""
        objects = (example.get("knowledge") or {}).get("objects") or []
        ranked = sorted(objects, key=rank)
        return [tuple(item["box"]) for item in ranked[: self.max_regions]]

    def word_fields(self, window: WordWindow, beside: Row) -> Row:
        """Return a window's input, with the auxiliary text behind it for `concat`."""
        ids, segments = window.input_ids, [0] * len(window.input_ids)
        if self.fusion == "concat":
            (_, after), knowledge = self.frame, beside["knowledge_ids"]
            if knowledge:
                ids = [*ids[: len(ids) - len(after)], *self.joint, *knowledge, *after]
                # `</s></s>` begins with the end of the text alone; what follows it belongs to the knowledge.
                segments += [1] * (len(ids) - len(segments))
        row = {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "first_subword_index": window.first_subword_index,
        }
        if self.fusion == "concat":
            row["knowledge_token_mask"] = segments
            if self.has_segments:
                row["token_type_ids"] = segments
        return row

    def row_length(self, row: Row) -> int:
        """Return the number of tokens that the model reads for a row, its auxiliary text included."""
        return len(row["input_ids"]) + (len(row["knowledge_ids"]) if self.fusion == "word_level" else 0)

    # ------------------------------------------------------------------------------------------------ batches

    def pad(self, rows: Sequence[Row]) -> BatchFeature:
        """Stack rows to tensors; each distinct auxiliary text, and each image, stands in the batch once.

        Returns:
            The fields of `pad_values`, and, where a row has knowledge, `knowledge_index` (`b`, row of the knowledge
            inputs, -1 = none) with `knowledge_input_ids` and `knowledge_attention_mask` (`k s`), `pixel_values`
            (`k m 3 h w`) and `image_mask` (`k m`), or the encodings that `encode_shared` put into the rows
            (`knowledge_states`: `k d`; `visual_features`: `k m p f` with `image_mask`).
        """
        batch = super().pad(rows)
        if self.fusion == "word_level":
            batch.update(self.pad_knowledge(rows))
        elif self.fusion == "prefix":
            batch.update(self.pad_images(rows))
        return batch

    def pad_knowledge(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Stack the distinct auxiliary texts of some rows, or their encodings."""
        keys = [row["knowledge_ids"] for row in rows]
        chosen, index = distinct(keys)
        if not chosen:
            return {}
        if "knowledge_state" in rows[chosen[0]]:
            states = torch.stack([rows[position]["knowledge_state"] for position in chosen])
            return {"knowledge_index": index, "knowledge_states": states}
        return {"knowledge_index": index, **self.knowledge_inputs([keys[position] for position in chosen])}

    def knowledge_inputs(self, texts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Frame and pad auxiliary texts (Eq. 6): `knowledge_input_ids` and `knowledge_attention_mask`, `k s`."""
        before, after = self.frame
        framed = [[*before, *ids, *after] for ids in texts]
        padded = super().pad(
            [{"knowledge_input_ids": ids, "knowledge_attention_mask": [1] * len(ids)} for ids in framed]
        )
        return dict(padded)

    def pad_images(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Stack the distinct images of some rows, or their encodings."""
        chosen, index = distinct([self.image_key(row) for row in rows])
        if not chosen:
            return {}
        if "visual_features" in rows[chosen[0]]:
            features, mask = pad_first([rows[position]["visual_features"] for position in chosen])
            return {"knowledge_index": index, "visual_features": features, "image_mask": mask}
        pixels, mask = pad_first([self.pixel_values(rows[position]) for position in chosen])
        return {"knowledge_index": index, "pixel_values": pixels, "image_mask": mask}

    def pixel_values(self, row: Row) -> torch.Tensor:
        """Decode a row's image and its crops: `m 3 h w`, the whole image first."""
        image = load_rgb_image(row["image"])
        crops = [image.crop(inside) for box in row["crops"] if (inside := box_inside(box, image))]
        return self.image_processor([image, *crops], return_tensors="pt")["pixel_values"]

    def image_key(self, row: Row) -> Any:
        """Return what tells a row's image and crops from others, `None` without an image."""
        key = image_key(row["image"])
        return None if key is None else (key, tuple(row["crops"]))

    # ----------------------------------------------------------------------------------------------- decoding

    def knowledge_shown(self, output: Mapping[str, Any], row: Row) -> dict[str, Any]:
        """Return the auxiliary text, unless the similarity made it count for nothing."""
        return row["shown"] if output["knowledge_weight"][0] else {}


def check_choices(fusion: str, knowledge: Sequence[str], max_regions: int) -> None:
    """Refuse choices that nothing implements."""
    if fusion not in FUSIONS:
        raise ValueError(
            f"`fusion={fusion!r}` is not known; choose one of {', '.join(FUSIONS)}."
            " For the paper's main model use `fusion='word_level'`."
        )
    check_knowledge_parts(knowledge, KNOWLEDGE_PARTS)
    if max_regions < 0:
        raise ValueError(f"`max_regions` must be 0 or more (HVPNeT: 3), got {max_regions}.")


def default_image_processor() -> ConvNextImageProcessorPil:
    """Return what ResNet's checkpoints use: 224 pixels after a centre crop, ImageNet's mean and deviation."""
    return ConvNextImageProcessorPil(size={"shortest_edge": 224})


def rank(item: Mapping[str, Any]) -> tuple[bool, float]:
    """Order objects by similarity; those without come last, by the detector's score. Ties keep the given order."""
    similarity = item.get("similarity")
    return similarity is None, -float((item.get("score") or 0.0) if similarity is None else similarity)


def box_inside(box: Sequence[float], image: Image.Image) -> tuple[int, int, int, int] | None:
    """Return a box in whole pixels inside its image, `None` if nothing of it is."""
    left, top, right, bottom = (round(edge) for edge in box)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def pad_first(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack tensors that differ in their first dimension: `k m ...`, zeros as padding, and a mask `k m`, 1 = real."""
    stacked = torch.nn.utils.rnn.pad_sequence(list(tensors), batch_first=True)
    lengths = torch.tensor([len(tensor) for tensor in tensors])
    return stacked, (torch.arange(stacked.shape[1]) < lengths.unsqueeze(1)).long()


__all__ = ["KNOWLEDGE_PARTS", "MmavkProcessor"]
