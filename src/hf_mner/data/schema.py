"""The one example type that every loader, processor and recipe shares, and the entity type that leaves the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from hf_mner.data.boxes import Box, check_box
from hf_mner.data.labels import bio_labels

if TYPE_CHECKING:
    from datasets import Features


TEXT_PARTS = ("caption", "auxiliary", "ocr")  # the parts of knowledge that are one text about the image or the post
IN_MEMORY = ("feature",)  # what objects hold and no data set does


class EntityAnnotation(TypedDict):
    """A gold entity: word indices (`end` exclusive), type, and its boxes in pixels (`[]` = not in the image).

    `object_similarities` (optional, not a data set column) is the entity's similarity with each of the example's
    `knowledge["objects"]`, in their order.
    """

    start: int
    end: int
    type: str
    boxes: list[Box]
    object_similarities: NotRequired[list[float]]


class ObjectKnowledge(TypedDict):
    """A detected object: detector label and score, box in pixels, caption of the region, similarity to the text.

    `feature` (optional) is the detector's vector of the region, an array or list of numbers. It lives in memory only:
    it is no column of `mner_features`, and `complete_knowledge` drops it.
    """

    label: str
    score: float | None
    box: Box
    caption: str | None
    similarity: float | None
    feature: NotRequired[Any]


class EncyclopediaEntry(TypedDict):
    """What an encyclopedia says of one mention: the mention as written, the article's title, and its text.

    `rule` names how the mention led to the article, and `source` where the article is from (both optional).
    """

    mention: str
    title: str
    text: str
    rule: NotRequired[str | None]
    source: NotRequired[str | None]


class Provenance(TypedDict):
    """Which source made a part of the knowledge, with what model, which revision of it, and which prompt."""

    part: str
    source: str
    model: str
    revision: str
    prompt: str


class Knowledge(TypedDict, total=False):
    """What is known besides the words; every part is optional (`None` or absent = not available).

    `ocr` is the writing in the image. `sources` says where the other parts come from.
    """

    caption: str | None
    auxiliary: str | None
    ocr: str | None
    objects: list[ObjectKnowledge] | None
    encyclopedia: list[EncyclopediaEntry] | None
    similarity: float | None
    sources: list[Provenance] | None


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


def check_knowledge(knowledge: Mapping[str, Any], image_size: Sequence[int] | None = None) -> None:
    """Refuse knowledge that a processor could not show.

    Args:
        knowledge: see `Knowledge`.
        image_size: `[width, height]`; given, the boxes of objects must lie inside.

    Raises:
        ValueError: naming the part, what it holds, and what was expected.
    """
    if not isinstance(knowledge, Mapping):
        raise ValueError(
            f"`knowledge` is a {type(knowledge).__name__}; expected a mapping such as {{'caption': 'a man'}}."
        )
    known = Knowledge.__annotations__
    if unknown := sorted(set(knowledge) - set(known)):
        raise ValueError(f"`knowledge` has parts that nothing reads: {unknown}; known parts: {', '.join(known)}.")
    for name in TEXT_PARTS:
        if not isinstance(knowledge.get(name), str | None):
            raise ValueError(f"`knowledge['{name}']` is {knowledge[name]!r}; expected a text or None.")
    check_similarity(knowledge.get("similarity"))
    for name in ("objects", "encyclopedia", "sources"):
        value = knowledge.get(name)
        if value is not None and (not isinstance(value, Sequence) or isinstance(value, str | bytes)):
            raise ValueError(f"`knowledge['{name}']` is {value!r}; expected a list, or None.")
    for note in knowledge.get("sources") or ():
        if not isinstance(note, Mapping) or not all(isinstance(note.get(key), str) for key in ("part", "source")):
            raise ValueError(
                f"`knowledge['sources']` holds {note!r}; expected notes with `part` and `source`, as sources write"
                " them. Leave it out."
            )
    for entry in knowledge.get("encyclopedia") or ():
        has_texts = isinstance(entry, Mapping) and all(isinstance(entry.get(key), str) for key in ("mention", "text"))
        if not has_texts or not isinstance(entry.get("title"), str | None):
            raise ValueError(f"`knowledge['encyclopedia']` holds {entry!r}; expected `mention`, `title` and `text`.")
    for item in knowledge.get("objects") or ():
        if not isinstance(item, Mapping) or not isinstance(item.get("label"), str):
            raise ValueError(f"`knowledge['objects']` holds {item!r}; expected a `label` (a text) and a `box`.")
        check_box(item.get("box"), image_size, f"Object {item['label']!r}")
        _check_object_details(item)


def _check_object_details(item: Mapping[str, Any]) -> None:
    for name in ("score", "similarity"):
        value = item.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ValueError(f"Object {item['label']!r}: `{name}` is {value!r}; expected a number or None.")
    if not isinstance(item.get("caption"), str | None):
        raise ValueError(f"Object {item['label']!r}: `caption` is {item['caption']!r}; expected a text or None.")
    feature = item.get("feature")
    if feature is not None and (not hasattr(feature, "__len__") or isinstance(feature, str | bytes | Mapping)):
        kind = type(feature).__name__
        raise ValueError(f"Object {item['label']!r}: `feature` is a {kind}; expected an array of numbers, or nothing.")


def check_similarity(similarity: Any) -> None:
    """Refuse a similarity that is neither None nor a number in [-1, 1].

    Raises:
        ValueError: naming the value, and what was expected.
    """
    if similarity is None:
        return
    if isinstance(similarity, bool) or not isinstance(similarity, Real) or not -1 <= float(similarity) <= 1:
        raise ValueError(
            f"`knowledge['similarity']` is {similarity!r}; expected a number in [-1, 1] (the cosine of text and"
            " image), or None."
        )


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
                "ocr": Value("string"),
                "objects": List(
                    {
                        "label": Value("string"),
                        "score": Value("float32"),
                        "box": box,
                        "caption": Value("string"),
                        "similarity": Value("float32"),
                    }
                ),
                "encyclopedia": List({name: Value("string") for name in EncyclopediaEntry.__annotations__}),
                "similarity": Value("float32"),
                "sources": List({name: Value("string") for name in Provenance.__annotations__}),
            },
        }
    )
