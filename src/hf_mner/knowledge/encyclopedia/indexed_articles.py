"""What an index keeps of an article, and which names lead to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .articles import LEAD_CHARS, Article
from .index import (
    ALIAS,
    INITIALS,
    JOINED,
    MEANING,
    REDIRECT,
    SHORT,
    TITLE,
    WHOLE,
    IndexedArticle,
    name_number,
)
from .names import (
    aliases_in_text,
    content_words,
    initials,
    normalise_title,
    short_names,
    squash,
    without_parenthesis,
)
from .near_names import is_hashed


@dataclass(frozen=True)
class IndexSettings:
    """What an index is built with.

    Args:
        max_text_chars: the text of an entry is cut to this length, at a sentence or word end; at most `LEAD_CHARS`.
        minor_sources: values of `source` that list names without regard to renown; `()` trusts all alike.
    """

    max_text_chars: int = 300
    minor_sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_text_chars < 1:
            raise ValueError(f"`max_text_chars` must be at least 1, got {self.max_text_chars}; the default is 300.")
        if self.max_text_chars > LEAD_CHARS:
            raise ValueError(
                f"`max_text_chars` must be at most {LEAD_CHARS}, got {self.max_text_chars}; no more of a text is read."
            )


def indexed(article: Article, settings: IndexSettings) -> IndexedArticle:
    """Return what the index keeps of an article."""
    key = normalise_title(article.title)
    text = shorten(compose(article.title, article.short, article.text), settings.max_text_chars)
    is_minor = article.source in settings.minor_sources
    return IndexedArticle(
        title=article.title,
        text=text,
        source=article.source,
        key=normalise_title(without_parenthesis(article.title)),
        words=frozenset(content_words(text)),
        renown=renown(article),
        is_minor=is_minor,
        is_doubtful=is_minor and (" " not in key or not names_title(key, article.text)),
    )


def renown(article: Article) -> int:
    """Estimate how likely a name alone means this article.

    Described articles come first, then those with a low Wikidata number, then those with a long text or many links.
    """
    number = int(article.qid[1:]) if article.qid[1:].isdecimal() else 0
    early = max((1 << 30) - number, 0) if number else 0
    return (bool(article.text) << 62) | (min(early, (1 << 30) - 1) << 32) | min(article.weight, (1 << 32) - 1)


def article_entries(
    articles: Sequence[Article], stored: Sequence[IndexedArticle], first: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the rows (name, renown, number, how) of all names of some articles."""
    for number, (article, record) in enumerate(zip(articles, stored, strict=True), first):
        # Articles of minor sources stand behind all others under one name, so that the cut at MAX_POSTINGS hits them.
        weight = record.renown >> (record.is_minor * 8)
        for name, how in article_names(article, record.key):
            yield name, weight, number, how


def article_names(article: Article, key: str) -> Iterator[tuple[int, int]]:
    """Yield the numbers of all names that lead to an article, and how: form and origin."""
    bare = without_parenthesis(article.title)
    given = {normalise_title(article.title): TITLE}
    for name in (*article.aliases, *article.redirects, *aliases_in_text(bare, article.text)):
        given.setdefault(normalise_title(name), ALIAS)
    given.setdefault(key, ALIAS)
    given.pop("", None)
    for name, origin in given.items():
        yield name_number(name), WHOLE | origin
        if " " in name:
            yield name_number(squash(name)), JOINED | origin
    if letters := initials(bare):
        yield name_number(letters), INITIALS | TITLE
    for short in short_names(key):
        for form in {short, squash(short)}:
            yield name_number(form), SHORT | TITLE


def references(article: Article) -> Iterator[tuple[int, int, int]]:
    """Yield the rows (target, name, how) of a redirect or a disambiguation page."""
    targets, origin = ([article.redirect], REDIRECT) if article.redirect else (article.meanings, MEANING)
    key = normalise_title(article.title)
    for target in targets:
        number = name_number(normalise_title(target))
        yield number, name_number(key), WHOLE | origin
        if " " in key:
            yield number, name_number(squash(key)), JOINED | origin


def near_names(articles: Sequence[IndexedArticle], first: int) -> dict[int, str]:
    """Return the titles that misspellings are compared with, without spaces, by the articles' numbers."""
    titles = (squash(article.key) for article in articles)
    return {number: title for number, title in enumerate(titles, first) if is_hashed(title)}


def names_title(key: str, text: str) -> bool:
    """Say whether a text holds a word of the normalised title; where it does not, the two may not belong."""
    return not text or not set(key.split()).isdisjoint(normalise_title(text).split())


def compose(title: str, short: str, text: str) -> str:
    """Put the type-revealing short description first, unless the text says it in its first words."""
    if not short or not text:
        return short or text
    if short.casefold() in text[: len(title) + len(short) + 20].casefold():
        return text
    return f"{short.rstrip('.')}. {text}"


def shorten(text: str, max_chars: int) -> str:
    """Return the beginning of a text, cut at a sentence end in its second half, else at a word end."""
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars + 1]
    end = max(cut.rfind(f"{mark} ") for mark in ".!?") + 1
    if end > max_chars // 2:
        return cut[:end]
    return cut.rpartition(" ")[0] or text[:max_chars]
