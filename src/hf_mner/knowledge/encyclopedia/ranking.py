"""Which article a name means, given the words around the mention, and whether it can be trusted at all.

A mention is read in several ways, and each way accepts only some of the articles of the name that it finds. Those
are ranked: articles of minor sources last, even behind aliases of other articles; then those whose text shares a word
with the context; then titles before aliases, redirects and the meanings that a disambiguation page lists; then by the
number of shared words; then those whose title holds all words of the mention (`Brewers`: Milwaukee Brewers before the
Baltimore Orioles, once called so), unless it looks like an abbreviation; then by renown.

What a way accepts was chosen on the training splits of Twitter-2015 and 2017, see `docs/encyclopedia_matches.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from .index import TITLE, Candidate, IndexedArticle
from .names import STOP_WORDS, initials, squash

Way = Literal["whole", "split", "joined", "affix", "initials", "short", "near"]
MIN_EDITED_WORD = 5  # letters; shorter words that differ in one are mostly other words
MAX_CODE = 2  # letters of an alias that says nothing by itself; one more if it is not in capitals
MIN_JOINED_NAME = 5  # letters of a name without its spaces
MIN_INITIALS = 3
MIN_SHORT_NAME = 4  # letters; shorter ends of titles are initials and numbers
TEAM_WORDS = frozenset({"team", "club", "franchise"})
SPORTS = frozenset({"basketball", "football", "baseball", "hockey", "soccer", "rugby", "cricket", "league"})
SPORTSPEOPLE = frozenset({"player", "footballer", "coach", "midfielder", "striker", "defender", "born"})
ORGANISATION_WORDS = TEAM_WORDS | {
    *("association", "organization", "league", "company", "university", "agency", "party", "union"),
}
_LIKE_SOUNDS = {frozenset(pair) for pair in ("ck", "sz", "cs", "vw", "iy", "mn", "bp", "dt", "gj", "fv", "kq", "xs")}
_VOWELS = frozenset("aeiouy")


class Reading(NamedTuple):
    """One way to read a mention.

    Attributes:
        way: how it was read.
        mention: as written.
        name: the normalised name that was read.
        candidates: the articles that have it.
    """

    way: Way
    mention: str
    name: str
    candidates: list[Candidate]


class Scored(NamedTuple):
    """An article that a name may mean: how it got the name, and how many words its text shares with the context."""

    origin: int
    article: IndexedArticle
    num_shared: int


def sole_candidate(reading: Reading) -> Candidate | None:
    """Return the article that a reading means whatever the context, None if that depends on the context."""
    if len(reading.candidates) != 1 or reading.way != "whole":
        return None
    (candidate,) = reading.candidates
    return candidate if accept_names(reading, [Scored(*candidate, 0)]) else None


def best_candidate(reading: Reading, around: set[str]) -> Candidate | None:
    """Return the article that a reading means, None if it accepts none.

    Args:
        reading: see `Reading`.
        around: content words of the context; those of the mention itself do not count.
    """
    own = reading.name.split(" ")
    others = around.difference(own)
    accepted = ACCEPTED[reading.way](
        reading,
        [Scored(origin, article, len(others & article.words)) for origin, article in reading.candidates],
    )
    if not accepted:
        return None
    best = accepted[0]
    if len(accepted) > 1:
        words = set() if is_short_capitals(reading.mention) else set(own)
        best = max(accepted, key=lambda item: rank(item, reading.mention, words))
    return Candidate(best.origin, best.article)


def rank(item: Scored, mention: str, words: set[str]) -> tuple[bool, bool, int, int, bool, int]:
    """Return what articles of one name are compared by; the larger, the more likely meant.

    Args:
        item: the article.
        mention: as written.
        words: of the mention, normalised; empty if they say nothing.
    """
    article = item.article
    order = -item.origin if item.origin != TITLE else int(article.title == mention)
    is_named = bool(words) and words.issubset(article.key.split(" "))
    return not article.is_minor, item.num_shared > 0, order, item.num_shared, is_named, article.renown


def is_short_capitals(mention: str) -> bool:
    """Tell whether a mention is written like an abbreviation."""
    bare = mention.lstrip("#@")
    return len(bare) <= 5 and bare.isupper()


def accept_names(reading: Reading, items: list[Scored]) -> list[Scored]:
    """Accept all but doubtful articles and mere codes, unless the context speaks for them."""
    return [item for item in items if item.num_shared or not (item.article.is_doubtful or is_code(reading, item))]


def is_code(reading: Reading, item: Scored) -> bool:
    """Tell whether a name is a short alias that the title does not explain (`CA` of Canada, `Bob` of a bank)."""
    longest = MAX_CODE if is_short_capitals(reading.mention) else MAX_CODE + 1
    if len(reading.name) > longest or item.origin == TITLE or reading.name in item.article.key.split(" "):
        return False
    return not (initials(item.article.title) or "").startswith(reading.name)


def accept_known(reading: Reading, items: list[Scored]) -> list[Scored]:
    """Accept articles of names that are long enough, of minor sources only those that the context speaks for."""
    if len(reading.name) < MIN_JOINED_NAME:
        return []
    return [item for item in items if item.num_shared or not item.article.is_minor]


def accept_titles_of_words(_: Reading, items: list[Scored]) -> list[Scored]:
    """Accept what still has several words, such as `taylorswift13`, or shares a word with the context."""
    return [item for item in items if item.num_shared or (not item.article.is_minor and " " in item.article.key)]


def accept_initials(reading: Reading, items: list[Scored]) -> list[Scored]:
    """Accept organisations that the context speaks for."""
    if len(reading.name) < MIN_INITIALS:
        return []
    known = [item for item in items if item.num_shared and not item.article.is_minor]
    return [item for item in known if mentions_any(item.article, ORGANISATION_WORDS)]


def accept_short(reading: Reading, items: list[Scored]) -> list[Scored]:
    """Accept sports teams: those that the context speaks for, or else the only one."""
    if len(reading.name) < MIN_SHORT_NAME:
        return []
    known = [item for item in items if not item.article.is_minor and mentions_any(item.article, TEAM_WORDS)]
    teams = [
        item for item in known if mentions_any(item.article, SPORTS) and not mentions_any(item.article, SPORTSPEOPLE)
    ]
    return [item for item in teams if item.num_shared] or (teams if len(teams) == 1 else [])


def mentions_any(article: IndexedArticle, words: frozenset[str]) -> bool:
    """Tell whether the article's text holds one of some words."""
    return not words.isdisjoint(article.words)


def accept_misspelt(reading: Reading, items: list[Scored]) -> list[Scored]:
    """Accept titles that another word of the mention, or the context, speaks for; see `misspelt_word` for the rest."""
    return [
        item
        for item in items
        if not item.article.is_minor and (item.num_shared or has_word_in_common(reading.name, item.article.key))
    ]


ACCEPTED: dict[Way, Callable[[Reading, list[Scored]], list[Scored]]] = {
    "whole": accept_names,
    "split": accept_names,
    "joined": accept_known,
    "affix": accept_titles_of_words,
    "initials": accept_initials,
    "short": accept_short,
    "near": accept_misspelt,
}


def has_word_in_common(name: str, title: str) -> bool:
    """Tell whether two normalised names share a word of three letters or more that is no stop word."""
    shared = set(name.split()) & set(title.split())
    return any(len(word) > 2 and word not in STOP_WORDS for word in shared)


def misspelt_word(name: str, title: str) -> str | None:
    """Return the word of a normalised name that makes it one typical slip away from a normalised title, else None.

    The slip is a letter too many or too few, two neighbours in the other order, a vowel for another, or a consonant
    for one that sounds like it; in a word of `MIN_EDITED_WORD` letters or more, but not its first one, and no digit.
    """
    written, meant = squash(name), squash(title)
    place = next((at for at, (a, b) in enumerate(zip(written, meant, strict=False)) if a != b), None)
    if place is None:
        place = min(len(written), len(meant))
    if not is_one_slip(written[place:], meant[place:]):
        return None
    start, word = word_at(title, place)
    changed = written[place : place + 1] + meant[place : place + 1]
    if place == start or len(word) < MIN_EDITED_WORD or any(letter.isdigit() for letter in changed):
        return None
    return word_at(name, place)[1]


def is_one_slip(written: str, meant: str) -> bool:
    """Tell whether two texts that differ in their first letter differ in one slip alone."""
    if len(written) != len(meant):
        longer, shorter = sorted((written, meant), key=len, reverse=True)
        return longer[1:] == shorter
    if written[:2] == meant[1::-1] and written[2:] == meant[2:]:
        return len(written) > 1
    pair = {written[:1], meant[:1]}
    return len(pair) == 2 and written[1:] == meant[1:] and (pair <= _VOWELS or frozenset(pair) in _LIKE_SOUNDS)


def word_at(title: str, place: int) -> tuple[int, str]:
    """Return the word of a title that holds a place counted without spaces, and where it starts; ends count to it."""
    start = 0
    words = title.split(" ")
    for word in words[:-1]:
        if place <= start + len(word) - 1:
            return start, word
        start += len(word)
    return start, words[-1]
