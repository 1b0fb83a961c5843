"""HamLearning's processor: words, an image and the objects in it to rows, tags to entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature

from hf_mner.data.alignment import WordWindow, special_token_frame
from hf_mner.data.boxes import check_box
from hf_mner.data.images import image_key, load_rgb_image
from hf_mner.data.pixels import normalized_pixels
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.detections import best_objects
from hf_mner.models.base.backbones import IMAGENET_MEAN, IMAGENET_STD, image_statistics, resolve_backbone
from hf_mner.models.base.processing_base import (
    Row,
    check_lengths,
    check_tokenizer,
    distinct,
)
from hf_mner.models.base.tagging import TaggingProcessor

from .configuration_ham_learning import (
    FIRST_LABEL,
    UNKNOWN,
    WHOLE_IMAGE,
    HamLearningConfig,
    check_image_side,
    check_object_labels,
)

DERIVED = ("frame", "label_numbers")  # what follows from the other arguments


class HamLearningProcessor(TaggingProcessor):
    """Tokenises words, scales images, and puts numbers to objects for HamLearning; decodes its tags.

    One row for each text, more for a text longer than `max_length` (windows of whole words that overlap). Objects are
    those of `example["knowledge"]["objects"]`; an image without any has one, itself.

    Args:
        tokenizer: a fast tokenizer with a mask token.
        object_labels: classes of the detector, the model's; objects of other classes are of one unknown class.
        object_feature_size: width of the detector's features, the model's; 0 = they are pooled from the image. Else
            every object has its `feature` (see `VinvlObjects`).
        max_objects: objects of an image that are read, those with the best score (paper: 15).
        image_size: side in pixels of the squares that images are scaled to, the model's.
        image_mean: of each channel, from 0 to 1.
        image_std: of each channel.
        max_length: tokens of a text, special tokens included.

    Raises:
        ValueError: if the tokenizer has no mask token, is not a fast one or glues words together, or a number makes no
            sense.

    Source: HamLearning, sections 3.1 and A.2.2.
    """

    def __init__(
        self,
        tokenizer,
        object_labels: Sequence[str] = (),
        object_feature_size: int = 0,
        max_objects: int = 15,
        image_size: int = 224,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        max_length: int = 128,
        **kwargs,
    ):
        check_tokenizer(tokenizer)
        check_lengths(tokenizer, max_length=max_length)
        check_image_side(image_size)
        check_object_labels(object_labels)
        if max_objects < 1:
            raise ValueError(f"`max_objects` must be 1 or more (the paper: 15), got {max_objects}.")
        self.object_labels = list(object_labels)
        self.object_feature_size = object_feature_size
        self.max_objects = max_objects
        self.image_size = image_size
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.max_length = max_length
        super().__init__(tokenizer, **kwargs)
        self.frame = special_token_frame(tokenizer)
        self.label_numbers = {label: number for number, label in enumerate(self.object_labels, FIRST_LABEL)}

    @classmethod
    def from_backbones(cls, text: str, vision: str | None = None, **kwargs: Any) -> HamLearningProcessor:
        """Build a processor with the tokenizer of a pretrained encoder.

        Args:
            text: Hub name or folder of the text encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vision: Hub name or folder of the image encoder, see `image_statistics`.
            kwargs: of the constructor.
        """
        from transformers import AutoTokenizer

        if vision is not None and "image_mean" not in kwargs:
            kwargs |= image_statistics(vision)
        return cls(AutoTokenizer.from_pretrained(resolve_backbone(text), add_prefix_space=True), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return what `save_pretrained` writes; what follows from other arguments is left out."""
        return {name: value for name, value in super().to_dict().items() if name not in DERIVED}

    def check_model(self, config: HamLearningConfig) -> None:
        """Refuse a model that reads images or objects in another way.

        Raises:
            ValueError: naming what differs.
        """
        for name in ("image_size", "object_feature_size", "object_labels"):
            own, other = getattr(self, name), getattr(config, name)
            if own != other:
                raise ValueError(f"The processor has `{name}={own}` and the model {other}; give both the same.")

    def knowledge_parts(self) -> set[str]:
        """Name the parts of `example["knowledge"]` that are read."""
        return {"objects"}

    def parts_shown(self, shown: Mapping[str, Any]) -> set[str]:
        """Name the parts that are read: the objects, whatever their similarity."""
        return set(shown)

    def pad_values(self) -> dict[str, int | float]:
        """Name the fields of texts and their padding; `pad` adds those of images."""
        return {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "word_index": -1, "labels": -100}

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
            Rows with the model's text fields, unpadded, `image` (not yet decoded), `image_size` in pixels,
            `object_boxes` (pixels), `object_labels` and `object_features`, `origin`, and `shown`: the objects.

        Raises:
            ValueError: for an example without words, entities that overlap or do not fit, an unknown type, a box that
                leaves its image, or an object without a feature where one is needed.
        """
        self.check_stage(stage)
        windows = list(self.windows(examples, label2id))
        seen = [self.image_fields(example) for example in examples]
        return [{**self.word_fields(window), **seen[position], **fields} for position, window, fields in windows]

    def word_fields(self, window: WordWindow) -> Row:
        """Return a window's tokens and the word that each belongs to."""
        _, after = self.frame
        first = [*window.first_subword_index, len(window.input_ids) - len(after)]
        word_index = [-1] * first[0]
        for word, (start, end) in enumerate(zip(first, first[1:], strict=False)):
            word_index += [word] * (end - start)
        return {
            "input_ids": window.input_ids,
            "attention_mask": [1] * len(window.input_ids),
            "word_index": word_index + [-1] * len(after),
        }

    def image_fields(self, example: MnerExample) -> Row:
        """Return an example's image, not yet decoded, with its objects; None and nothing without an image."""
        image = example.get("image")
        if image is None:
            return {"image": None, "shown": {}}
        size = list(example.get("image_size") or load_rgb_image(image).size)
        objects = best_objects((example.get("knowledge") or {}).get("objects"), self.max_objects)
        boxes = [
            check_box(item["box"], size, f"Example {example.get('id')!r}, object {item['label']!r}")
            for item in objects
        ]
        shown = {"objects": [{key: value for key, value in item.items() if key != "feature"} for item in objects]}
        return {
            "image": image,
            "image_size": size,
            "object_boxes": boxes or [[0.0, 0.0, *map(float, size)]],
            "object_labels": [self.label_numbers.get(item["label"], UNKNOWN) for item in objects] or [WHOLE_IMAGE],
            "object_features": self.given_features(example, objects),
            "shown": shown if objects else {},
        }

    def given_features(self, example: MnerExample, objects: Sequence[Mapping[str, Any]]) -> torch.Tensor | None:
        """Return the detector's features, `m f` (zeros for the whole image); None where they are pooled."""
        size = self.object_feature_size
        if not size:
            return None
        features = []
        for item in objects:
            feature = np.asarray(() if item.get("feature") is None else item["feature"], dtype=np.float32)
            if feature.shape != (size,):
                raise ValueError(
                    f"Object {item['label']!r} of example {example.get('id')!r} has a `feature` of {feature.size}"
                    f" numbers, expected {size}; use the detector that the model was trained with (such as the source"
                    " `vinvl_objects` with `features: true`)."
                )
            features.append(feature)
        return torch.from_numpy(np.stack(features)) if features else torch.zeros(1, size)

    # ------------------------------------------------------------------------------------------------ batches

    def pad(self, rows: Sequence[Row]) -> BatchFeature:
        """Stack rows to tensors; each distinct image stands in the batch once.

        Returns:
            The fields of `pad_values`, and, where a row has an image, `image_index` (`b`, -1 = none) and the fields of
            `pad_images`.
        """
        batch = super().pad(rows)
        chosen, index = distinct([self.image_key(row) for row in rows])
        if chosen:
            batch["image_index"] = index
            batch.update(self.pad_images([rows[position] for position in chosen]))
        return batch

    def pad_images(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Stack images and their objects.

        Returns:
            `image_sizes` (`k 2`), `object_boxes` (`k m 4`), `object_labels` (`k m`), `object_mask` (`k m`), and either
            `pixel_values` (`k 3 h w`) or what `encode_shared` put into the rows, `image_features` (`k c`). With the
            latter, or from a detector, `object_features` (`k m f`).
        """
        boxes = [torch.tensor(row["object_boxes"]) for row in rows]
        labels = [torch.tensor(row["object_labels"]) for row in rows]
        batch = {
            "image_sizes": torch.tensor([row["image_size"] for row in rows], dtype=torch.float32),
            "object_boxes": pad_sequence(boxes, batch_first=True),
            "object_labels": pad_sequence(labels, batch_first=True),
            "object_mask": pad_sequence([torch.ones_like(numbers) for numbers in labels], batch_first=True),
        }
        if rows[0].get("object_features") is not None:
            batch["object_features"] = pad_sequence([row["object_features"] for row in rows], batch_first=True)
        if "image_features" in rows[0]:
            batch["image_features"] = torch.stack([row["image_features"] for row in rows])
        else:
            batch["pixel_values"] = torch.stack([self.pixel_values(row) for row in rows])
        return batch

    def pixel_values(self, row: Row) -> torch.Tensor:
        """Decode a row's image and scale it to a square: `3 h w`, normalised."""
        image = load_rgb_image(row["image"])
        if list(image.size) != row["image_size"]:
            raise ValueError(
                f"An image of {image.width} x {image.height} pixels came with `image_size={row['image_size']}`; the"
                " boxes of its objects count the latter. Correct it, or leave it out."
            )
        square = image.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
        return normalized_pixels(square, self.image_mean, self.image_std)

    def image_key(self, row: Row) -> Any:
        """Return what tells a row's image and objects from others, `None` without an image."""
        key = image_key(row["image"])
        if key is None:
            return None
        given = row["object_features"]
        features = None if given is None else hash(given.float().numpy().tobytes())
        return key, tuple(map(tuple, row["object_boxes"])), tuple(row["object_labels"]), features


__all__ = ["HamLearningProcessor"]
