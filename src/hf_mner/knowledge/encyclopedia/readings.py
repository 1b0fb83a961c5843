"""The ways to read a mention, and the rule that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from .index import INITIALS, JOINED, SHORT, WHOLE, Candidate, IndexReader
from .names import STOP_WORDS, content_words, normalise_title, split_hashtag, squash, without_affixes
from .ranking import Reading, Way

Rule = Literal["exact", "normalised", "alias", "redirect", "hashtag", "abbreviation", "short", "fuzzy"]
RULES: tuple[Rule, ...] = ("exact", "normalised", "alias", "redirect", "hashtag", "abbreviation", "short", "fuzzy")
_BY_ORIGIN: tuple[Rule, ...] = ("normalised", "alias", "redirect", "redirect")  # by `Candidate.origin`
_BY_WAY: dict[Way, Rule] = {
    "split": "hashtag",
    "joined": "hashtag",
    "affix": "hashtag",
    "initials": "abbreviation",
    "short": "short",
    "near": "fuzzy",
}


class EncyclopediaMatch(NamedTuple):
    """A mention's article, the rule by which it was found, and the source of the record (`""` if unknown)."""

    mention: str
    title: str
    text: str
    rule: Rule
    source: str


class KnownMention:
    """What the index says of a mention: its match whatever the context, or the ways to read it."""

    __slots__ = ("is_common", "key", "match", "near", "others", "whole")

    def __init__(self, key: str):
        self.key, self.is_common = key, False
        self.match: EncyclopediaMatch | None = None
        self.whole: Reading | None = None
        self.others: list[Reading] | None = None
        self.near: Reading | None = None


class Contexts:
    """The contexts of one call; their words are found when they are asked for."""

    def __init__(self, contexts: Sequence[str]):
        self._contexts = contexts
        self._words: dict[str, set[str]] = {"": set()}

    def around(self, place: int) -> set[str]:
        """Return the content words around a mention."""
        context = self._contexts[place]
        words = self._words.get(context)
        if words is None:
            words = self._words[context] = content_words(context)
        return words


def rule_of(reading: Reading, candidate: Candidate) -> Rule:
    """Return the rule by which a reading finds a candidate."""
    exact: Rule = "exact" if candidate.article.title == reading.mention else _BY_ORIGIN[candidate.origin]
    return _BY_WAY.get(reading.way, exact)


def matched(reading: Reading, best: Candidate) -> EncyclopediaMatch:
    """Return the match of a reading with its rule."""
    article = best.article
    return EncyclopediaMatch(reading.mention, article.title, article.text, rule_of(reading, best), article.source)


def other_readings(reader: IndexReader, mention: str, key: str) -> list[Reading]:
    """Return the ways to read a mention that is no name as it stands, the most trusted first.

    Args:
        reader: of the index.
        mention: as written.
        key: the same, normalised.
    """
    split = normalise_title(parts) if (parts := split_hashtag(mention)) != mention else key
    squashed = squash(key)
    postings = {name: reader.postings(name) for name in dict.fromkeys((key, split, squashed))}
    ways: list[tuple[Way, str, tuple[int, ...]]] = []
    if split != key:
        ways.append(("split", split, (WHOLE,)))
    ways.append(("joined", squashed, (JOINED,) if squashed == key else (JOINED, WHOLE)))
    if squashed == key:
        for bare in without_affixes(key):
            postings[bare] = reader.postings(bare)
            ways.append(("affix", bare, (JOINED, WHOLE)))
    ways += [("initials", squashed, (INITIALS,)), ("short", key, (SHORT,))]
    ways += [("short", bare, (SHORT,)) for way, bare, _ in list(ways) if way == "affix"]
    return [
        Reading(way, mention, name, found)
        for way, name, forms in ways
        if postings[name] and (found := reader.candidates(postings[name], *forms))
    ]


def is_too_common(mention: str, key: str) -> bool:
    """Tell whether a mention is a stop word, a number or a single letter."""
    if len(key) < 2 or key.replace(" ", "").isdigit():
        return True
    return key in STOP_WORDS and not mention.lstrip("#@").isupper()
