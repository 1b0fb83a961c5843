"""The planted-signal set: generated posts whose entity types and boxes can only be known from the picture."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from .knowledge_columns import complete_knowledge
from .labels import bio_labels, encode_bio
from .readers import GENERATED, SPLITS, PlantedKind
from .schema import Knowledge, MnerExample, mner_features
from .synthetic_images import DrawnShape, Place, draw_picture, place_freely
from .synthetic_random import StableRandom
from .synthetic_relations import CIRCLE, SECTOR_COUNTS, SQUARE, list_sectors, place_related
from .synthetic_shapes import DISTRACTORS, KEY_SHAPES
from .synthetic_texts import write_post
from .synthetic_topics import add_topic, pick_topic
from .type_lists import CONLL_TYPES

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

STREAMS = "planted_signal"  # part of the key of every random stream, whatever the signal: the texts are the same
FORMAT_VERSION = 2  # to be raised when the same settings give other examples
DEFAULT_SIZES = {"train": 2000, "validation": 300, "test": 500}
DISTRACTORS_PER_PICTURE = {"symbol": (2, 5), "relation": (1, 3)}
HASH_LENGTH = 12


@dataclass(frozen=True)
class PlantedSignal:
    """What decides every example of a planted-signal set.

    A post is a short text with no, one or two made-up names. Its picture shows one key symbol among shapes that mean
    nothing. The symbol decides the type of the post's names, and its pixels are their box. Words, type and picture
    come from random streams of their own, so the text says where the names are and nothing on what they are. The
    picture of a post without names shows a key symbol, too: that there is a name, only the text says.

    With `signal="relation"` there are no key symbols. The picture shows a square and a circle among other shapes. The
    direction in which the circle lies seen from the square decides the type, and the circle's pixels are the box. What
    shapes there are, and what they look like, then says nothing on the type; where the circle lies says little.

    Example `index` of a split depends on these settings, the split and the index alone, whatever was generated before.

    Args:
        types: up to eight; the first belongs to the first of `synthetic_shapes.KEY_SHAPES`, and so on. With
            `signal="relation"` two, four or eight; each belongs to an equal part of the full turn.
        seed: sets of different seeds share no example. Names and texts of one split are never in another split, of
            any seed.
        uninformative_share: share of examples whose picture lacks the key symbol or the circle: nothing tells the
            type, and the boxes are `[]`.
        with_knowledge: add `knowledge.objects`, what a perfect detector would say of every shape, and
            `knowledge.auxiliary`, a sentence that lists them. So systems that read pictures through words can be
            judged on the same examples. Neither says a type or which shape is the key symbol.
        signal: what tells the type, a key `"symbol"` or the `"relation"` of two shapes.
        misleading_share: share of examples whose picture is irrelevant: it tells a type drawn uniformly from `types`,
            whatever that of the post, and the boxes are `[]`. With a share above 0 every post ends with a topic, a
            kind of distractor (`# hexagon`). A relevant picture shows one, an irrelevant one shows none. Topics and
            shapes are distributed alike in both, so that neither text nor picture alone says which is which.

    Raises:
        ValueError: if a value is not as described.
    """

    types: tuple[str, ...] = CONLL_TYPES
    seed: int = 0
    uninformative_share: float = 0.0
    with_knowledge: bool = False
    signal: PlantedKind = "symbol"
    misleading_share: float = 0.0

    def __post_init__(self):
        if self.signal not in get_args(PlantedKind):
            raise ValueError(f"`signal` is {self.signal!r}; choose one of {', '.join(get_args(PlantedKind))}.")
        object.__setattr__(self, "types", _check_types(self.types))
        if self.signal == "relation" and len(self.types) not in SECTOR_COUNTS:
            raise ValueError(
                f"`types` is {self.types!r}; expected 2, 4 or 8 names with `signal='relation'`, which cuts the full"
                " turn into as many equal parts. Leave some out, or add some."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"`seed` is {self.seed!r}; expected a whole number.")
        for name in ("uninformative_share", "misleading_share"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"`{name}` is {share!r}; expected a share in [0, 1].")
        if not isinstance(self.with_knowledge, bool):
            raise ValueError(f"`with_knowledge` is {self.with_knowledge!r}; expected True or False.")

    @property
    def symbols(self) -> dict[str, str]:
        """The key symbol of each type; with `signal="relation"`, where the circle lies, in words."""
        if self.signal == "relation":
            sectors = list_sectors(len(self.types))
            words = [f"{CIRCLE} at {low:g} to {high:g} degrees from the {SQUARE}" for low, high in sectors]
            return dict(zip(self.types, words, strict=True))
        return dict(zip(self.types, KEY_SHAPES, strict=False))

    def example(self, split: str, index: int) -> MnerExample:
        """Return one example; `image` is a PIL image.

        Raises:
            ValueError: if there is no such split, or the index is no whole number from 0 on.
        """
        _check_split(split)
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValueError(f"`index` is {index!r}; expected a whole number from 0 on.")
        stream = partial(StableRandom, STREAMS, FORMAT_VERSION, self.seed, split, index)
        post = write_post(stream("text"), split)
        entity_type = stream("type").pick(self.types)
        is_told = stream("key").share() >= self.uninformative_share
        relevance = stream("relevance")
        is_relevant = relevance.share() >= self.misleading_share
        shown_type = entity_type if is_relevant else relevance.pick(self.types)
        names, boxed, place = self._plan_picture(stream("shapes"), shown_type, is_told)
        if self.misleading_share:
            post = add_topic(post, pick_topic(stream("topic"), self._distractors, names, is_relevant))
        image, shapes = draw_picture(stream("picture"), names, place)
        boxes = [[float(side) for side in shape.box] for shape in shapes if shape.name == boxed and is_relevant]
        label_ids = {label: number for number, label in enumerate(bio_labels(self.types))}
        tags = encode_bio([(*span, entity_type) for span in post.spans], len(post.tokens))
        return {
            "id": f"{self._name}-{self.seed}-{split}-{index}",
            "tokens": post.tokens,
            "ner_tags": [label_ids[tag] for tag in tags],
            "image": image,
            "image_size": list(image.size),
            "entities": [
                {"start": start, "end": end, "type": entity_type, "boxes": boxes} for start, end in post.spans
            ],
            "knowledge": _describe(shapes) if self.with_knowledge else None,
        }

    @property
    def _name(self) -> str:
        return next(name for name, signal in GENERATED.items() if signal == self.signal)

    @property
    def _distractors(self) -> list[str]:
        return [name for name in DISTRACTORS if self.signal == "symbol" or name not in (SQUARE, CIRCLE)]

    def _plan_picture(self, random: StableRandom, shown_type: str, is_told: bool) -> tuple[list[str], str, Place]:
        """Return the shapes to draw, which of them (if drawn) has the box of the names, and what places them."""
        if self.signal == "symbol":
            key = self.symbols[shown_type]
            return self._choose_shapes(random, [key] if is_told else []), key, place_freely
        names = self._choose_shapes(random, [SQUARE, CIRCLE] if is_told else [SQUARE])
        sector = list_sectors(len(self.types))[self.types.index(shown_type)]
        return names, CIRCLE, partial(place_related, sector=sector)

    def _choose_shapes(self, random: StableRandom, planted: Sequence[str]) -> list[str]:
        """Return distractors and the planted shapes in random order, so that a rank says nothing.

        Where posts have a topic, some kind is always left out, whether the picture is relevant or not.
        """
        kinds, counts = self._distractors, DISTRACTORS_PER_PICTURE[self.signal]
        distractors = [random.pick(kinds) for _ in range(random.whole(*counts))]
        while self.misleading_share and set(distractors) == set(kinds):
            distractors = [random.pick(kinds) for _ in range(random.whole(*counts))]
        return random.shuffle([*distractors, *planted])

    def stream(self, split: str, size: int) -> Iterator[MnerExample]:
        """Yield the first `size` examples of a split, each made when it is asked for.

        Raises:
            ValueError: at once, if there is no such split, or the size is no whole number from 1 on.
        """
        _check_split(split)
        _check_size(split, size)
        return (self.example(split, index) for index in range(size))

    def dataset(self, split: str, size: int) -> Dataset:
        """Return the first `size` examples of a split, held in memory with their pictures as PNG."""
        from datasets import Dataset, NamedSplit

        features = mner_features(self.types)
        columns: dict[str, list[Any]] = {column: [] for column in features}
        for example in self.stream(split, size):
            row = {**example, "image": {"bytes": encode_png(example["image"]), "path": f"{example['id']}.png"}}
            for column, values in columns.items():
                values.append(row[column])
        return Dataset.from_dict(columns, features=features, split=NamedSplit(split))

    def iterable_dataset(self, split: str, size: int) -> IterableDataset:
        """Return the first `size` examples of a split as a data set that makes each when it is asked for."""
        from datasets import IterableDataset, NamedSplit

        self.stream(split, size)  # refuses wrong values now
        return IterableDataset.from_generator(
            self.stream,
            features=mner_features(self.types),
            gen_kwargs={"split": split, "size": size},
            split=NamedSplit(split),
        )

    def fingerprint(self, sizes: Mapping[str, int]) -> str:
        """Return 12 hexadecimal digits that are equal for equal sets, in place of a hash of label files."""
        settings = {"name": STREAMS, "version": FORMAT_VERSION, "sizes": dict(sizes), **asdict(self)}
        # Later settings: sets from before them keep their fingerprint.
        if self.signal == "symbol":
            del settings["signal"]
        if not self.misleading_share:
            del settings["misleading_share"]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:HASH_LENGTH]


def load_planted_signal(sizes: Mapping[str, int] | None = None, **settings: Any) -> DatasetDict:
    """Return a planted-signal set as `load_mner_dataset` returns any other.

    Args:
        sizes: number of examples of each split (default: 2,000, 300 and 500).
        settings: see `PlantedSignal`.

    Raises:
        ValueError: if a split, size or setting is not as described.
    """
    from datasets import DatasetDict

    signal = PlantedSignal(**settings)
    chosen = check_sizes(sizes if sizes is not None else DEFAULT_SIZES)
    return DatasetDict({split: signal.dataset(split, size) for split, size in chosen.items()})


def check_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes in the order of the splits.

    Raises:
        ValueError: if there are none, or a split or size is not as described.
    """
    for split, size in sizes.items():
        _check_split(split)
        _check_size(split, size)
    if not sizes:
        raise ValueError(f"`sizes` is empty; expected numbers of examples, such as {DEFAULT_SIZES}.")
    return {split: sizes[split] for split in SPLITS if split in sizes}


def encode_png(image: Any) -> bytes:
    """Return a PIL image as the bytes of a PNG file, which keeps every pixel."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)  # a quarter of the default's time
    return buffer.getvalue()


def _describe(shapes: list[DrawnShape]) -> Knowledge:
    captions = [f"{'an' if shape.color[0] in 'aeiou' else 'a'} {shape.color} {shape.name}" for shape in shapes]
    objects = [
        {"label": shape.name, "score": 1.0, "box": [float(side) for side in shape.box], "caption": caption}
        for shape, caption in zip(shapes, captions, strict=True)
    ]
    listed = f"{', '.join(captions[:-1])} and {captions[-1]}"
    return complete_knowledge({"auxiliary": f"The image shows {listed}.", "objects": objects})


def _check_types(types: Any) -> tuple[str, ...]:
    is_list = isinstance(types, list | tuple) and all(
        isinstance(name, str) and name.split() == [name] for name in types
    )
    if not is_list or len(set(types)) != len(types) or not 1 <= len(types) <= len(KEY_SHAPES):
        raise ValueError(
            f"`types` is {types!r}; expected 1 to {len(KEY_SHAPES)} different names without spaces, as many as there"
            f" are key symbols ({', '.join(KEY_SHAPES)}). Leave some out, or correct them."
        )
    return tuple(types)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"`split` is {split!r}; choose one of {', '.join(SPLITS)}.")


def _check_size(split: str, size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"The size of split {split!r} is {size!r}; expected a whole number from 1 on.")
