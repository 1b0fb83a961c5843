"""The forms under which names are compared: titles, mentions, hashtags, handles, abbreviations."""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHE = re.compile(r"\s*['’`´]\s*")
_INITIALS = re.compile(r"\b(\w)\s*\.\s*(?=\w\b)")
_NOT_A_WORD = re.compile(r"[^\w]+|_+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_PARENTHESIS = re.compile(r"\s*\([^)]*\)$")
_OUTER_DIGITS = re.compile(r"^\d+|\d+$")
_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")  # combining marks
_SURROGATE = re.compile("[\ud800-\udfff]")  # halves of characters, from broken JSON
_CONTENT_WORD = re.compile(r"[^\W_]{3,}")
_IN_BRACKETS = re.compile(r"[(,;]\s*([A-Z][A-Z0-9&.]{1,8})\s*[),;]")
_KNOWN_AS = re.compile(
    r"\b(?:known(?: professionally| simply| mononymously| collectively| commonly)? as|abbreviated(?: as| to)?"
    r"|nicknamed|called|stylized as)\s+(?:the\s+)?[\"“']?([A-Z][^,;.()\"”]{1,40})"
)
_INNER_WORDS = frozenset("of the and for in on at de la le du der von van a an to & by".split())  # noqa: SIM905 - short
STOP_WORDS = frozenset(
    """
    a about after all am an and any are as at be been before but by can could did do does for from go had has have
    he her here him his how i if in into is it its just like me more most my new no not now of on one or our out
    over rt she so some than that the their them then there they this to too u up ur us was we were what when where
    which who why will with would you your
    """.split()  # noqa: SIM905 - a list of 90 quoted words is harder to read
)
# What accounts and hashtags put around a name: `@iamsrk`, `#GoWarriors`, `@TheRealStanLee`, `@UEFAcom`.
_PREFIX = re.compile(r"thereal|iam|real|its|the|go|team|mr|love|happy|vote|official")
_SUFFIX = re.compile(r"(?:official|officiel|hq|music|fc|tv|news|live|online|band|com|nation|fans|usa|uk)$")


def normalise_title(title: str) -> str:
    """Return the form under which titles and mentions are compared.

    Unicode compatibility forms and case are folded, accents dropped, `#`, `@` and all other punctuation removed, with
    apostrophes and full stops closing up (`Levi ' s` -> `levis`, `U . S .` -> `us`), the rest leaving one space. Vowel
    signs of other scripts are letters. A name of which less than two characters would be left, such as `C++`, keeps
    its punctuation.
    """
    if title.isascii():
        if title.replace(" ", "").isalnum():
            return " ".join(title.lower().split())
        folded = title
    else:
        folded = fold(title)
    joined = _APOSTROPHE.sub("", " ".join(folded.split()))  # long runs of spaces would take the square of their length
    if "." in joined:
        joined = _INITIALS.sub(r"\1", joined).replace(".", "")
    key = " ".join(words_only(joined).casefold().split())
    return key if len(key) > 1 else _SURROGATE.sub("", "".join(folded.split()).lstrip("#@").casefold())


def words_only(text: str) -> str:
    """Return a text with a space for each run of characters that are neither letters, digits nor signs of vowels."""
    if text.isascii():
        return _NOT_A_WORD.sub(" ", text)
    return "".join(sign if sign.isalnum() or unicodedata.category(sign)[0] == "M" else " " for sign in text)


def fold(text: str) -> str:
    """Return a text in Unicode's compatible form and without accents; one that has nothing to fold as it is."""
    if unicodedata.is_normalized("NFKD", text) and not _ACCENTS.search(text):
        return unicodedata.normalize("NFC", text)
    return drop_accents(unicodedata.normalize("NFKC", text))


def drop_accents(text: str) -> str:
    """Return the text with accented letters replaced by their base letters; vowel signs of other scripts stay."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def split_hashtag(mention: str) -> str:
    """Split a mention where case changes or digits begin (`#GoldenStateWarriors` -> `#Golden State Warriors`)."""
    return _CAMEL.sub(" ", mention) if _CAMEL.search(mention) else mention


def squash(key: str) -> str:
    """Return a normalised name without its spaces, as hashtags and handles write it."""
    return key.replace(" ", "")


def without_affixes(squashed: str, shortest: int = 5) -> list[str]:
    """Return what is left of a squashed hashtag or handle without digits and usual words at its ends, longest first.

    Args:
        squashed: see `squash`.
        shortest: characters that must be left.
    """
    bare = _OUTER_DIGITS.sub("", squashed)
    forms = [bare]
    if prefix := _PREFIX.match(bare):
        forms.append(bare[prefix.end() :])
    if suffix := _SUFFIX.search(bare):
        forms.append(bare[: suffix.start()])
    return [form for form in forms if form != squashed and len(form) >= shortest]


def initials(title: str) -> str | None:
    """Return the initials of a name of two to six capitalised words (`National Basketball Association` -> `nba`).

    Words such as `of` do not count. None for other names: those with small words are sentences or songs.
    """
    words = [word for word in title.replace("-", " ").split() if word.lower() not in _INNER_WORDS]
    if not 2 <= len(words) <= 6 or not all(word[0].isalpha() and word[0].isupper() for word in words):
        return None
    return drop_accents("".join(word[0] for word in words)).casefold()


def short_names(key: str) -> list[str]:
    """Return the last word, and of longer names the last two words, of a normalised name of two to four words."""
    words = key.split(" ")
    if not 2 <= len(words) <= 4:
        return []
    return [name for name in (words[-1], " ".join(words[-2:])) if name != key and name not in STOP_WORDS]


def without_parenthesis(title: str) -> str:
    """Return a title without its closing parenthesis (`Mercury (planet)` -> `Mercury`)."""
    return _PARENTHESIS.sub("", title) if title.endswith(")") else title


def aliases_in_text(title: str, lead: str) -> list[str]:
    """Return the other names that an article's first sentences give: `The ... Association (NBA)`, `known as ...`.

    Args:
        title: of the article.
        lead: its first sentences; only the first 400 characters are read.
    """
    lead = lead[:400]
    letters = squash(normalise_title(title))
    found = [name for name in _IN_BRACKETS.findall(lead) if is_abbreviation(name.casefold(), letters)]
    found += [match.strip() for match in _KNOWN_AS.findall(lead)]
    return [name for name in dict.fromkeys(found) if len(name.split()) <= 5 and (len(name) > 2 or name.isupper())]


def is_abbreviation(short: str, long: str) -> bool:
    """Tell whether the letters of `short` stand in `long` in their order, beginning with its first letter."""
    letters = [letter for letter in short if letter.isalnum()]
    if not letters or not long.startswith(letters[0]):
        return False
    rest = iter(long)
    return all(letter in rest for letter in letters)


def content_words(text: str) -> set[str]:
    """Return the words of a text that are longer than two letters and no stop words, without case and accents."""
    folded = text if text.isascii() else fold(text)
    return set(_CONTENT_WORD.findall(folded.casefold())) - STOP_WORDS
