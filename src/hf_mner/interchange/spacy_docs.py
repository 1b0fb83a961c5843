"""Posts as documents of spaCy and back: entities, spans that overlap, and the boxes of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import Entity

from .new_places import new_file
from .posts import AnnotatedPost, OnError, cut_at_entities, each, make_entity, post_name, post_text, post_words

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span
    from spacy.vocab import Vocab

logger = logging.getLogger(__name__)

SPANS_KEY = "hf_mner"  # of `doc.spans`
INSTALL = 'spaCy is not installed; `pip install "hf-mner[spacy]"`.'


def register_extensions() -> None:
    """Make spaCy know `doc._.image`, `span._.boxes` and `span._.score`.

    `span._.boxes` is the list of an entity's boxes (`[]` = not in the image), and `span._.score` its score, None where
    it has none. They belong to the span's characters and label, so that two labels on the same words have their own.

    Raises:
        ImportError: if spaCy is not installed, with how to install it.
        ValueError: if other code has given `span._.boxes` or `span._.score` another meaning.
    """
    try:
        from spacy.tokens import Doc, Span
    except ImportError as error:
        raise ImportError(INSTALL) from error
    if not Doc.has_extension("image"):
        Doc.set_extension("image", default=None)
    for name in ("boxes", "score"):
        getter, setter = GETTERS[name], SETTERS[name]
        if not Span.has_extension(name):
            Span.set_extension(name, getter=getter, setter=setter)
        elif Span.get_extension(name)[2] is not getter:
            raise ValueError(
                f"`span._.{name}` is taken by other code; remove that extension, or give it another name."
            )


def to_doc(post: AnnotatedPost, vocab: Vocab | None = None, cut_words: bool = False) -> Doc:
    """Return a post as a document.

    Its tokens are the package's own words, and the spaces between them where there is more than one. `doc.ents` has
    the entities; of some that overlap, those of the highest score, and the longer of equal ones.
    `doc.spans["hf_mner"]` has all of them. `doc.user_data["id"]` is the post's id, `doc._.image` its image.

    Args:
        post: with predicted or gold entities.
        vocab: of the pipeline that reads the document; default: a blank one.
        cut_words: cut words where an entity begins or ends inside of one (`NBA` in `#NBAFinals`).

    Raises:
        ImportError: if spaCy is not installed, with how to install it.
        ValueError: naming the post, if an entity begins or ends inside of a word.
    """
    register_extensions()
    from spacy.tokens import Doc
    from spacy.util import get_words_and_spaces
    from spacy.vocab import Vocab

    text = post_text(post)
    own = cut_at_entities(post_words(post), post.get("entities") or ()) if cut_words else post_words(post)
    words, spaces = get_words_and_spaces([word.text for word in own], text)
    doc = Doc(Vocab() if vocab is None else vocab, words=words, spaces=spaces)
    doc.user_data["id"] = str(post.get("id") or "")
    if post.get("image") is not None:
        doc._.image = post["image"]
    if lost := set_entities(doc, post.get("entities") or (), alignment_mode="strict"):
        raise ValueError(
            f"{post_name(post)}: {lost[0]['word']!r} at characters {lost[0]['start']}-{lost[0]['end']} does not begin"
            " and end with a word; move its borders, or cut the words with `cut_words=True` (`--cut-words`)."
        )
    return doc


def set_entities(doc: Doc, entities: Sequence[Mapping[str, Any]], alignment_mode: str = "expand") -> list[Any]:
    """Give a document its entities: `doc.spans["hf_mner"]` gets all, `doc.ents` the best of those that overlap.

    Args:
        doc: a document; the entities it has are replaced.
        entities: of its text, in characters.
        alignment_mode: `"expand"` lets an entity have the whole tokens that it begins and ends in; `"strict"` leaves
            such an entity out.

    Returns:
        The entities left out.
    """
    spans, lost = [], []
    for entity in entities:
        span = doc.char_span(
            entity["start"], entity["end"], label=entity["entity_group"], alignment_mode=alignment_mode
        )
        if span is None or not len(span):
            lost.append(entity)
            continue
        span._.boxes = list(entity.get("boxes") or ())
        span._.score = entity.get("score")
        if (span.start_char, span.end_char) != (entity["start"], entity["end"]):
            _store(span)["characters"] = [entity["start"], entity["end"]]
        spans.append(span)
    doc.spans[SPANS_KEY] = spans
    doc.ents = choose_flat(spans)
    return lost


def choose_flat(spans: Sequence[Span]) -> list[Span]:
    """Return the spans without those that overlap one of a higher score, or a longer one of the same."""
    order = sorted(spans, key=lambda span: (-(span._.score or 0.0), -len(span), span.start))
    taken: set[int] = set()
    chosen = []
    for span in order:
        places = set(range(span.start, span.end))
        if not places & taken:
            taken |= places
            chosen.append(span)
    return sorted(chosen, key=lambda span: span.start)


def from_doc(doc: Doc) -> AnnotatedPost:
    """Return a document, read by the package or by any other pipeline, as a post.

    The entities are those of `doc.spans["hf_mner"]` where it is, else `doc.ents`.
    """
    register_extensions()
    post: AnnotatedPost = {"id": str(doc.user_data.get("id", "")), "text": doc.text}
    if (image := find_image(doc)) is not None:
        post["image"] = image
    spans = doc.spans.get(SPANS_KEY, doc.ents)
    post["entities"] = [_read_entity(span) for span in spans]
    return post


def find_image(doc: Doc) -> Any:
    """Return the image of a document: `doc._.image`, else `doc.user_data["image"]`, else None."""
    return doc._.image if doc._.image is not None else doc.user_data.get("image")


def _read_entity(span: Span) -> Entity:
    start, end = _store(span).get("characters", (span.start_char, span.end_char))
    return make_entity(span.doc.text, start, end, span.label_, span._.boxes, span._.score)


def _store(span: Span) -> dict[str, Any]:
    """Return what is kept of a span; a dictionary in `doc.user_data`, so that it is saved with the document."""
    data: Any = span.doc.user_data
    return data.setdefault((SPANS_KEY, span.start_char, span.end_char, span.label_), {})


def _read(span: Span, name: str, default: Any) -> Any:
    data: Any = span.doc.user_data
    return data.get((SPANS_KEY, span.start_char, span.end_char, span.label_), {}).get(name, default)


def get_boxes(span: Span) -> list[Any]:
    """Return an entity's boxes."""
    return _read(span, "boxes", [])


def set_boxes(span: Span, value: list[Any]) -> None:
    """Replace an entity's boxes."""
    _store(span)["boxes"] = value


def get_score(span: Span) -> float | None:
    """Return an entity's score."""
    return _read(span, "score", None)


def set_score(span: Span, value: float | None) -> None:
    """Replace an entity's score."""
    _store(span)["score"] = value


GETTERS = {"boxes": get_boxes, "score": get_score}
SETTERS: dict[str, Any] = {"boxes": set_boxes, "score": set_score}


def write_docs(
    posts: Iterable[AnnotatedPost],
    path: str | os.PathLike[str],
    on_error: OnError = "raise",
    cut_words: bool = False,
) -> int:
    """Write posts as a `.spacy` file, which `spacy train` reads; return how many. Images are left out.

    Args:
        posts: with predicted or gold entities.
        path: the file.
        on_error: what a bad post does: stop, or be reported in the log and skipped.
        cut_words: see `to_doc`.

    Raises:
        FileExistsError: if the file is there.
        ImportError: if spaCy is not installed, with how to install it.
        ValueError: as `to_doc` does.
    """
    register_extensions()
    from spacy.tokens import DocBin

    docs = DocBin(store_user_data=True)
    with new_file(path) as file:
        for doc in each(posts, lambda post: to_doc(without_image(post), cut_words=cut_words), on_error):
            docs.add(doc)
        docs.to_disk(file)
    return len(docs)


def without_image(post: AnnotatedPost) -> AnnotatedPost:
    """Return the post without its image, which a `.spacy` file cannot hold."""
    return {key: value for key, value in post.items() if key != "image"}  # type: ignore[return-value]


def read_docs(path: str | os.PathLike[str]) -> Iterator[AnnotatedPost]:
    """Yield the posts of a `.spacy` file.

    Raises:
        ImportError: if spaCy is not installed, with how to install it.
        FileNotFoundError: if there is no such file.
    """
    register_extensions()
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    if not Path(path).is_file():
        raise FileNotFoundError(f"'{path}' does not exist; expected a `.spacy` file. Correct the path.")
    for doc in DocBin().from_disk(Path(path)).get_docs(Vocab()):
        yield from_doc(doc)
