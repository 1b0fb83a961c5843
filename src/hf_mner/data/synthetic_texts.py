"""The posts of the planted-signal set: made-up names among ordinary words, nothing that hints at a type."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .leakage import normalize_tweet
from .readers import SPLITS
from .synthetic_random import StableRandom

T = TypeVar("T")

NAMES_PER_POST = (0, 1, 1, 1, 1, 1, 1, 1, 2, 2)  # ten equally likely cases
ONSETS = [*"bdfghjklmnprstvwyz", "br", "dr", "fl", "gl", "kr", "pl", "sk", "st", "tr", "zv"]
VOWELS = [*"aeiou", *"aeiou", "ai", "ei", "ou"]
CODAS = ["", "", "", "", *"klmnrsxv", "th", "rk"]

# {a} and {b} are a name, or an ordinary word where the post has none; {w} is an ordinary word, {t} a time.
TEMPLATES = {
    1: (
        "all about {a} {t}",
        "so happy about {a} and {w} {t} !",
        "RT @{h} : why does everyone talk about {a} ?",
        "cannot stop thinking about {a}",
        "{a} again {t} , and {w}",
        "{w} {t} : {a}",
        "New picture : {a} # {w}",
        "look at this ! {a} is everywhere {t}",
        "I had {w} , then came {a} . {w} again {t}",
        "{t} we celebrate {a} with {w}",
        "is {a} really better than {w} ?",
        "Thanks to {a} for {w} {t}",
        "more {w} , more {a} , less {w}",
        "breaking {t} : {a} surprises us all",
    ),
    2: (
        "{a} and {b} {t}",
        "from {a} to {b} , and {w} for all",
        "RT @{h} : {a} or {b} ?",
        "first {w} , then {a} , then {b}",
        "{t} : {a} before {b} # {w}",
        "I prefer {a} to {b} {t}",
        "Best of {t} : {a} , {w} and {b}",
        "what {a} and {b} have in common : {w}",
    ),
}
TIMES = (
    *(("today",), ("tonight",), ("Today",), ("Tonight",), ("this", "morning"), ("last", "night")),
    *(("on", "Monday"), ("on", "Friday"), ("Last", "Summer"), ("in", "March")),
)
WORDS = (
    *("coffee", "music", "rain", "breakfast", "work", "sleep", "snow", "traffic"),
    *("dinner", "football", "sunshine", "pizza", "homework", "news", "tea"),
)
ORDINARY = (*WORDS, *(word.title() for word in WORDS))


class Post(NamedTuple):
    """The words of a post, and the `(start, end)` of its names; `end` is exclusive."""

    tokens: list[str]
    spans: list[tuple[int, int]]


def write_post(random: StableRandom, split: str) -> Post:
    """Return a post of a split.

    No name has a word that a name of another split has, and no text is one of another split's (compared as
    `hf_mner.data.find_leaks` does): the hash of a word or text says which split may use it.
    """

    def draw() -> Post:
        return fill_template(random, split)

    return _draw_until(draw, lambda post: normalize_tweet(post.tokens), split)


def fill_template(random: StableRandom, split: str) -> Post:
    """Return a template with its gaps filled.

    A post without names is a template of one name with an ordinary word in its place, so that the template does not
    say how many names there are.
    """
    count = random.pick(NAMES_PER_POST)
    template = random.pick(TEMPLATES[max(1, count)])
    first = make_name(random, split)
    second = make_name(random, split)
    while set(first) & set(second):
        second = make_name(random, split)
    fillers: dict[str, list[str]] = {"{a}": first if count else [random.pick(ORDINARY)], "{b}": second}
    tokens: list[str] = []
    spans = []
    for piece in template.split():
        filler = fillers.get(piece) or _fill(piece, random)
        if count and piece in fillers:
            spans.append((len(tokens), len(tokens) + len(filler)))
        tokens += filler
    return Post(tokens, spans)


def make_name(random: StableRandom, split: str) -> list[str]:
    """Return a name of one or two capitalised made-up words that belong to the split."""
    return [_draw_until(lambda: make_word(random), str, split) for _ in range(random.whole(1, 2))]


def make_word(random: StableRandom) -> str:
    """Return a capitalised word of two or three syllables."""
    count = random.pick((2, 2, 3))
    syllables = [f"{random.pick(ONSETS)}{random.pick(VOWELS)}" for _ in range(count)]
    word = f"{''.join(syllables)}{random.pick(CODAS)}".title()
    return word if word not in ORDINARY else make_word(random)


def owner(text: str) -> str:
    """Return the split that a word or text belongs to: half of all belong to `train`, a quarter each to the others."""
    return (SPLITS[0], *SPLITS)[hashlib.sha256(text.encode("utf-8")).digest()[0] % 4]


def _draw_until(draw: Callable[[], T], key: Callable[[T], str], split: str) -> T:
    item = draw()
    while owner(key(item)) != split:
        item = draw()
    return item


def _fill(piece: str, random: StableRandom) -> list[str]:
    if piece == "{t}":
        return list(random.pick(TIMES))
    return [piece.replace("{w}", random.pick(ORDINARY)).replace("{h}", random.pick(WORDS))]
