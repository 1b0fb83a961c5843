"""The form in which all formats meet: a post with its entities in characters, as `hf-mner predict` writes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from hf_mner.data.alignment import Word, join_words, split_words
from hf_mner.data.boxes import Box, check_box
from hf_mner.data.schema import Entity, MnerExample

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Item = TypeVar("Item")


class AnnotatedPost(TypedDict, total=False):
    """A post and its entities, predicted ones or gold ones (those have no `score`).

    `text` or `tokens` is there; with `tokens`, characters count in `" ".join(tokens)`. `image` is a path, an address,
    `{"bytes", "path"}` or whatever else `hf_mner.data.load_rgb_image` reads. `image_size` is `[width, height]`.
    """

    id: str
    text: str
    tokens: list[str]
    image: Any
    image_size: list[int] | None
    entities: list[Entity]


def post_text(post: Mapping[str, Any]) -> str:
    """Return the text that a post's characters count in.

    Raises:
        ValueError: if it has neither text nor tokens, or a text that its tokens do not give.
    """
    text, tokens = post.get("text"), post.get("tokens")
    if tokens is not None:
        joined = " ".join(tokens)
        if text is not None and text != joined:
            raise ValueError(
                f"{post_name(post)}: `text` is {text!r}, and `tokens` joined by spaces are {joined!r}; leave one out."
            )
        return joined
    if not isinstance(text, str):
        raise ValueError(f"{post_name(post)} has neither `text` nor `tokens`; give one of them.")
    return text


def post_words(post: Mapping[str, Any]) -> list[Word]:
    """Return a post's words with their characters: its tokens, or its text cut as the pipeline cuts it."""
    text = post_text(post)
    return split_words(text) if post.get("tokens") is None else join_words(post["tokens"])


def post_name(post: Mapping[str, Any]) -> str:
    """Return how error texts call a post."""
    return f"Post {post.get('id')!r}"


def from_example(example: Mapping[str, Any]) -> AnnotatedPost:
    """Return an example, gold or with what `recognize_entities` found, as a post with its tokens."""
    words = join_words(example["tokens"])
    post: AnnotatedPost = {"id": str(example.get("id") or ""), "tokens": list(example["tokens"])}
    if example.get("image") is not None:
        post["image"] = example["image"]
    if example.get("image_size"):
        post["image_size"] = list(example["image_size"] or ())
    text = " ".join(example["tokens"])
    post["entities"] = [entity_of_words(text, words, entity) for entity in example.get("entities") or ()]
    return post


def entity_of_words(text: str, words: Sequence[Word], entity: Mapping[str, Any]) -> Entity:
    """Return an entity of word indices as one of characters; scores are there where it has them."""
    start, end = words[entity["start"]].start, words[entity["end"] - 1].end
    return make_entity(text, start, end, entity["type"], entity.get("boxes") or (), entity.get("score"))


def make_entity(
    text: str, start: int, end: int, entity_type: str, boxes: Iterable[Any] = (), score: float | None = None
) -> Entity:
    """Return an entity of characters.

    Args:
        text: the post's text.
        start: first character.
        end: character after the last.
        entity_type: its type.
        boxes: each `[xmin, ymin, xmax, ymax]` in pixels, or `{"box": ..., "score": ...}` with such a list or the
            pipeline's `{"xmin": ...}`.
        score: None leaves it out, as for gold entities.
    """
    entity: Entity = {"entity_group": entity_type}
    if score is not None:
        entity["score"] = float(score)
    entity.update({"word": text[start:end], "start": start, "end": end, "boxes": [_make_box(box) for box in boxes]})
    return entity


def _make_box(box: Any) -> Any:
    corners = box["box"] if isinstance(box, Mapping) else box
    edges = [corners[name] for name in CORNERS] if isinstance(corners, Mapping) else corners
    made: dict[str, Any] = {"box": {name: float(edge) for name, edge in zip(CORNERS, edges, strict=True)}}
    if isinstance(box, Mapping) and box.get("score") is not None:
        made["score"] = float(box["score"])
    return made


def box_edges(item: Mapping[str, Any], post: Mapping[str, Any]) -> Box:
    """Return `[xmin, ymin, xmax, ymax]` of an entity's box; one outside its image is an error that names the post."""
    corners = item["box"]
    return check_box([corners[name] for name in CORNERS], post.get("image_size"), post_name(post))


def to_example(post: Mapping[str, Any], cut_words: bool = False) -> MnerExample:
    """Return a post as an example, so that it can be trained on.

    Args:
        post: with entities that have no scores, or whose scores do not matter.
        cut_words: cut words where an entity begins or ends inside of one (`NBA` in `#NBAFinals`).

    Raises:
        ValueError: naming the post, if an entity begins or ends inside a word, or overlaps another one.
    """
    words = post_words(post)
    entities = sorted(post.get("entities") or (), key=lambda entity: entity["start"])
    check_flat(entities, post)
    if cut_words:
        words = cut_at_entities(words, entities)
    example: MnerExample = {
        "id": str(post.get("id") or ""),
        "tokens": [word.text for word in words],
        "image": post.get("image"),
        "image_size": post.get("image_size"),
        "entities": [],
    }
    for entity in entities:
        start, end = find_words(words, entity["start"], entity["end"], post)
        boxes = [box_edges(item, post) for item in entity.get("boxes") or ()]
        example["entities"].append({"start": start, "end": end, "type": entity["entity_group"], "boxes": boxes})
    return example


def find_words(words: Sequence[Word], start: int, end: int, post: Mapping[str, Any]) -> tuple[int, int]:
    """Return the word indices (`end` exclusive) of characters; spaces around an entity do not count.

    Raises:
        ValueError: naming the post and the words, if the characters begin or end inside of a word.
    """
    text = post_text(post)
    check_characters(text, start, end, post_name(post))
    inside = text[start:end]
    first, last = start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
    begin = next((index for index, word in enumerate(words) if word.start == first), None)
    stop = next((index for index, word in enumerate(words) if word.end == last), None)
    if begin is None or stop is None or stop < begin:
        near = [word.text for word in words if word.start < end and word.end > start]
        raise ValueError(
            f"{post_name(post)}: {inside!r} at characters {start}-{end} does not begin and end with a word (the words"
            f" there are {near}); move its borders, or cut the words with `cut_words=True` (`--cut-words`)."
        )
    return begin, stop + 1


def check_characters(text: str, start: Any, end: Any, where: str) -> None:
    """Refuse characters that a text does not have, or that are only space.

    Raises:
        ValueError: naming the place, `where`.
    """
    if not (isinstance(start, int) and isinstance(end, int)) or not 0 <= start < end <= len(text):
        raise ValueError(
            f"{where}: an entity has the characters {start!r}-{end!r}; its text has {len(text)}, so that"
            " 0 <= start < end is expected. Correct the offsets."
        )
    if not text[start:end].strip():
        raise ValueError(f"{where}: the entity at characters {start}-{end} is only space; remove it.")


def check_flat(entities: Sequence[Mapping[str, Any]], post: Mapping[str, Any]) -> None:
    """Refuse entities, sorted by their start, that overlap.

    Raises:
        ValueError: naming the post and the two entities.
    """
    for one, other in zip(entities, entities[1:], strict=False):
        if other["start"] < one["end"]:
            names = [f"{item['entity_group']} at {item['start']}-{item['end']}" for item in (one, other)]
            raise ValueError(f"{post_name(post)}: {names[0]} and {names[1]} overlap; BIO tags hold one. Keep one.")


def cut_at_entities(words: Iterable[Word], entities: Iterable[Mapping[str, Any]]) -> list[Word]:
    """Return the words, cut where an entity begins or ends inside of one."""
    return list(_cut_words(words, {entity[edge] for entity in entities for edge in ("start", "end")}))


def _cut_words(words: Iterable[Word], borders: set[int]) -> Iterator[Word]:
    for word in words:
        edges = sorted({word.start, word.end, *(border for border in borders if word.start < border < word.end)})
        for start, end in zip(edges, edges[1:], strict=False):
            if piece := word.text[start - word.start : end - word.start].strip():
                yield Word(piece, start, end)


def each(items: Iterable[Item], read: Callable[[Item], Any], on_error: OnError) -> Iterator[Any]:
    """Yield what `read` makes of each item; with `skip`, a bad one is reported in the log and left out.

    Raises:
        ValueError: what `read` raised, under `raise`.
    """
    for item in items:
        try:
            yield read(item)
        except (ValueError, FileNotFoundError) as error:
            if on_error == "raise":
                raise
            logger.warning("Skipped: %s", error)


def find_types(posts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the types that occur: PER, LOC, ORG, MISC first, all others in alphabetical order."""
    from hf_mner.data.folder_dataset import sort_types

    return sort_types({entity["entity_group"] for post in posts for entity in post.get("entities") or ()})


def image_file(image: Any) -> Path | None:
    """Return the file of an image that is one, None for bytes, pixels and no image."""
    path = image.get("path") if isinstance(image, Mapping) and image.get("bytes") is None else image
    return Path(path) if isinstance(path, str | Path) and "://" not in str(path) else None


def with_size(post: AnnotatedPost) -> AnnotatedPost:
    """Return the post with the size of its image, read from it where the post does not say."""
    if post.get("image_size") or post.get("image") is None:
        return post
    from hf_mner.data.images import load_rgb_image, read_image_size

    path = image_file(post["image"])
    try:
        size = read_image_size(path) if path else load_rgb_image(post["image"]).size
    except (ValueError, OSError) as error:
        raise ValueError(f"{post_name(post)}: {error}") from error
    return {**post, "image_size": list(size)}
