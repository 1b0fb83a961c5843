"""The one example type that every loader, processor and recipe shares, and the entity type that leaves the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from hf_mner.data.labels import bio_labels

if TYPE_CHECKING:
    from datasets import Features

Box = list[float]  # [xmin, ymin, xmax, ymax] in pixels of the image, origin in the upper left corner


class EntityAnnotation(TypedDict):
    """A gold entity: word indices (`end` exclusive), type, and its boxes in pixels (`[]` = not in the image)."""

    start: int
    end: int
    type: str
    boxes: list[Box]


class ObjectKnowledge(TypedDict):
    """A detected object: detector label and score, box in pixels, caption of the region, similarity to the text."""

    label: str
    score: float | None
    box: Box
    caption: str | None
    similarity: float | None


class EncyclopediaEntry(TypedDict):
    """What an encyclopedia says of one mention: the mention as written, the article's title, and its text."""

    mention: str
    title: str
    text: str


class Knowledge(TypedDict, total=False):
    """What is known besides the words; every part is optional (`None` or absent = not available)."""

    caption: str | None
    auxiliary: str | None
    objects: list[ObjectKnowledge] | None
    encyclopedia: list[EncyclopediaEntry] | None
    similarity: float | None


class MnerExample(TypedDict, total=False):
    """One post: words, tags, image, gold entities and knowledge. Only `tokens` is needed for prediction."""

    id: str
    tokens: list[str]
    ner_tags: list[int]
    image: Any
    image_size: list[int] | None
    entities: list[EntityAnnotation]
    knowledge: Knowledge | None


class PredictedBox(TypedDict):
    """One box of a predicted entity: `{"xmin", "ymin", "xmax", "ymax"}` in pixels, and its score in [0, 1]."""

    box: dict[str, float]
    score: float


class Entity(TypedDict, total=False):
    """One predicted entity, in the schema of the token-classification pipeline plus `boxes` and `knowledge`.

    `start` and `end` are character offsets of the input text, `end` exclusive; `boxes` is `[]` when the entity is not
    in the image; `knowledge` (on request) is what the model was shown for it.
    """

    entity_group: str
    score: float
    word: str
    start: int
    end: int
    boxes: list[PredictedBox]
    knowledge: dict[str, Any]


def mner_features(types: Sequence[str]) -> Features:
    """Return the `datasets.Features` of an `MnerExample` whose `ner_tags` are BIO labels over `types`."""
    from datasets import ClassLabel, Features, Image, List, Value

    box = List(Value("float32"), length=4)
    return Features(
        {
            "id": Value("string"),
            "tokens": List(Value("string")),
            "ner_tags": List(ClassLabel(names=bio_labels(types))),
            "image": Image(),
            "image_size": List(Value("int32")),  # [width, height]; None without an image or a known size
            "entities": List(
                {"start": Value("int32"), "end": Value("int32"), "type": Value("string"), "boxes": List(box)}
            ),
            "knowledge": {
                "caption": Value("string"),
                "auxiliary": Value("string"),
                "objects": List(
                    {
                        "label": Value("string"),
                        "score": Value("float32"),
                        "box": box,
                        "caption": Value("string"),
                        "similarity": Value("float32"),
                    }
                ),
                "encyclopedia": List({"mention": Value("string"), "title": Value("string"), "text": Value("string")}),
                "similarity": Value("float32"),
            },
        }
    )
