"""An encyclopedia in memory: from a mention as written in a post to the article that it most likely means."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_mner.data.schema import EncyclopediaEntry, MnerExample
from hf_mner.knowledge.base import entity_mentions

Rule = Literal["exact", "normalised", "alias"]

# Lists of names without regard to renown (every town of GeoNames, random articles). Of Twitter-2017's training
# mentions that only these know, one-word names without a word of context in common misled in 71 of 89 cases (a surname
# read as a town), so they need such a word.
MINOR_SOURCES = frozenset({"geonames", "entdesc"})

_APOSTROPHE = re.compile(r"\s*['’`´]\s*")
_INITIALS = re.compile(r"\b(\w)\s*\.\s*(?=\w\b)")
_NOT_A_WORD = re.compile(r"[^\w]+|_+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_PARENTHESIS = re.compile(r"\s*\([^)]*\)$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_STOP_WORDS = frozenset(
    """
    a about after all am an and any are as at be been before but by can could did do does for from go had has have
    he her here him his how i if in into is it its just like me more most my new no not now of on one or our out
    over rt she so some than that the their them then there they this to too u up ur us was we were what when where
    which who why will with would you your
    """.split()  # noqa: SIM905 - a list of 90 quoted words is harder to read
)


class EncyclopediaMatch(NamedTuple):
    """A mention's article, the rule by which it was found, and the source of the record (`""` if unknown)."""

    mention: str
    title: str
    text: str
    rule: Rule
    source: str


class _Record(NamedTuple):
    title: str
    text: str
    source: str
    is_minor: bool
    is_doubtful: bool  # found only if the context shares a word with the text
    renown: tuple[bool, int, int]  # larger is more likely meant, see `_renown`


_Candidate = tuple[Rule, _Record]


class Encyclopedia:
    """A knowledge source that finds the article of each mention (SCANNER section 3.2, "extracted knowledge").

    Rules, in order: `"exact"` (the mention is a title), `"normalised"` (equal after `normalise_title`), `"alias"` (the
    mention is an alias of an article, or its title without the closing parenthesis, after normalisation). A mention
    that finds nothing is tried again split where case changes (`#GoldenStateWarriors`). Stop words, numbers and single
    letters find nothing, unless written in capitals (`US`).

    Several records under one name are ranked: those of `minor_sources` last, even behind aliases of other records;
    then by rule; then by the number of words shared with the context; then those whose title holds all words of the
    mention (`Brewers`: Milwaukee Brewers before the Baltimore Orioles); then by renown, see `_renown`. A record of a
    minor source whose title is one word, or whose text does not name its title, counts only if its text shares a word
    with the context: otherwise every surname would be a town.

    Args:
        records: dicts with `title`, and optionally `aliases` (list), `description`, `short`, `qid`, `source`.
        max_text_chars: the text of an entry is cut to this length, at a sentence or word end.
        minor_sources: values of `source` that list names without regard to renown; `()` trusts all alike.

    Departure: SCANNER queries Wikipedia itself; here the records come from a file, so that runs repeat offline.
    """

    column = "encyclopedia"
    needs_entities = True

    def __init__(
        self,
        records: Iterable[dict[str, Any]],
        max_text_chars: int = 300,
        minor_sources: Collection[str] = MINOR_SOURCES,
    ):
        if max_text_chars < 1:
            raise ValueError(f"`max_text_chars` must be at least 1, got {max_text_chars}; the default is 300.")
        self._records: list[_Record] = []
        self._titles: dict[str, list[int]] = {}
        self._aliases: dict[str, list[int]] = {}
        for record in records:
            self._add(record, max_text_chars, minor_sources)

    @classmethod
    def from_jsonl(
        cls,
        paths: str | Path | Sequence[str | Path],
        max_text_chars: int = 300,
        minor_sources: Collection[str] = MINOR_SOURCES,
    ) -> Encyclopedia:
        """Read records from files.

        Args:
            paths: one or several files. `.jsonl` holds an object with `title`, and optionally `aliases`,
                `description`, `short`, `qid`, `source`, on each line; `.tsv` holds title, aliases separated by `|`,
                and text. Both may end in `.gz`.
            max_text_chars: see the class.
            minor_sources: see the class.

        Raises:
            ValueError: if a line is malformed (names file and line), or a file has another ending.
        """
        files = [paths] if isinstance(paths, str | Path) else paths
        return cls((record for path in files for record in _read(Path(path))), max_text_chars, minor_sources)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[EncyclopediaEntry]]:
        """Return for each example the entries of its mentions that were found, each mention once, in text order."""
        return [self._entries_of(example) for example in examples]

    def lookup(self, mentions: Sequence[str], contexts: Sequence[str] | None = None) -> list[EncyclopediaEntry | None]:
        """Find the article of each mention.

        Args:
            mentions: as written in the text, with or without `#` and `@`.
            contexts: for each mention the text around it, used to choose between articles of one name.

        Returns:
            For each mention `{"mention", "title", "text"}`, or None if it is not found.

        Raises:
            ValueError: if `contexts` has another length than `mentions`.
        """
        return [
            EncyclopediaEntry(mention=match.mention, title=match.title, text=match.text) if match else None
            for match in self.lookup_detailed(mentions, contexts)
        ]

    def lookup_detailed(
        self, mentions: Sequence[str], contexts: Sequence[str] | None = None
    ) -> list[EncyclopediaMatch | None]:
        """Find the article of each mention as `lookup` does, and say by which rule and from which source."""
        if isinstance(mentions, str):
            raise ValueError(f"`mentions` is one string; give a list, e.g. [{mentions!r}].")
        if contexts is None:
            return [self._find(mention, "") for mention in mentions]
        if len(contexts) != len(mentions):
            raise ValueError(f"`contexts` has {len(contexts)} texts for {len(mentions)} mentions; give one for each.")
        return [self._find(mention, context) for mention, context in zip(mentions, contexts, strict=True)]

    def _add(self, record: dict[str, Any], max_text_chars: int, minor_sources: Collection[str]) -> None:
        title, number = record["title"], len(self._records)
        description, source = record.get("description") or "", record.get("source") or ""
        text = _shorten(_compose(title, record.get("short") or "", description), max_text_chars)
        key, is_minor = normalise_title(title), source in minor_sources
        is_doubtful = is_minor and (" " not in key or not _names_title(key, description))
        self._records.append(_Record(title, text, source, is_minor, is_doubtful, _renown(record, text)))
        self._titles.setdefault(key, []).append(number)
        names = (*(record.get("aliases") or []), _PARENTHESIS.sub("", title) if title.endswith(")") else title)
        for alias in {normalise_title(name) for name in names} - {key, ""}:
            self._aliases.setdefault(alias, []).append(number)

    def _entries_of(self, example: MnerExample) -> list[EncyclopediaEntry]:
        mentions = list(dict.fromkeys(entity_mentions(example)))
        contexts = [" ".join(example["tokens"])] * len(mentions)
        return [entry for entry in self.lookup(mentions, contexts) if entry is not None]

    def _find(self, mention: str, context: str) -> EncyclopediaMatch | None:
        for key in dict.fromkeys((normalise_title(mention), normalise_title(split_hashtag(mention)))):
            candidates = [] if _is_too_common(mention, key) else self._candidates(mention, key)
            best = _choose(candidates, key, content_words(context) - content_words(key))
            if best is not None:
                rule, record = best
                return EncyclopediaMatch(mention, record.title, record.text, rule, record.source)
        return None

    def _candidates(self, mention: str, key: str) -> list[_Candidate]:
        titled = [self._records[number] for number in self._titles.get(key, [])]
        found: list[_Candidate] = [("exact" if record.title == mention else "normalised", record) for record in titled]
        return found + [("alias", self._records[number]) for number in self._aliases.get(key, [])]


def normalise_title(title: str) -> str:
    """Return the form under which titles and mentions are compared.

    Unicode compatibility forms and case are folded, accents dropped, `#`, `@` and all other punctuation removed, with
    apostrophes and full stops closing up (`Levi ' s` -> `levis`, `U . S .` -> `us`), the rest leaving one space.
    """
    folded = title if title.isascii() else _drop_accents(unicodedata.normalize("NFKC", title))
    joined = _APOSTROPHE.sub("", folded)
    if "." in joined:
        joined = _INITIALS.sub(r"\1", joined).replace(".", "")
    return " ".join(_NOT_A_WORD.sub(" ", joined).casefold().split())


def split_hashtag(mention: str) -> str:
    """Split a mention where case changes or digits begin (`#GoldenStateWarriors` -> `#Golden State Warriors`)."""
    return _CAMEL.sub(" ", mention)


def content_words(text: str) -> set[str]:
    """Return the normalised words of a text that are longer than two letters and no stop words."""
    return {word for word in normalise_title(text).split() if len(word) > 2 and word not in _STOP_WORDS}


def _choose(candidates: list[_Candidate], key: str, around: set[str]) -> _Candidate | None:
    """Return the candidate that ranks highest given the words around the mention, None without a trusted one."""
    order = ("exact", "normalised", "alias")
    ranked = []
    for rule, record in candidates:
        shared = len(around & content_words(record.text)) if around else 0
        if shared or not record.is_doubtful:
            is_named = set(key.split()).issubset(normalise_title(record.title).split())
            rank = (not record.is_minor, -order.index(rule), shared, is_named, record.renown)
            ranked.append((rank, (rule, record)))
    return max(ranked, key=lambda item: item[0])[1] if ranked else None


def _names_title(key: str, description: str) -> bool:
    """Say whether a description holds a word of the normalised title; where it does not, the two may not belong."""
    return not description or not set(key.split()).isdisjoint(normalise_title(description).split())


def _drop_accents(text: str) -> str:
    parts = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)))


def _is_too_common(mention: str, key: str) -> bool:
    if len(key) < 2 or key.replace(" ", "").isdigit():
        return True
    return key in _STOP_WORDS and not mention.lstrip("#@").isupper()


def _renown(record: dict[str, Any], text: str) -> tuple[bool, int, int]:
    """Estimate how likely a name alone means this record: it is described, its Wikidata number low, its text long."""
    qid = record.get("qid") or ""
    return bool(record.get("description")), -int(qid[1:]) if qid[1:].isdigit() else -(10**9), len(text)


def _compose(title: str, short: str, description: str) -> str:
    """Put the type-revealing short description first, unless the description says it in its first words."""
    if not short or not description:
        return short or description
    if short.casefold() in description[: len(title) + len(short) + 20].casefold():
        return description
    return f"{short.rstrip('.')}. {description}"


def _shorten(text: str, max_chars: int) -> str:
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars + 1]
    sentences = [match.start() for match in _SENTENCE_END.finditer(cut)]
    if sentences and sentences[-1] > max_chars // 2:
        return cut[: sentences[-1]]
    return cut.rpartition(" ")[0] or text[:max_chars]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"Encyclopedia file {path} does not exist; give a .jsonl or .tsv file.")
    parse = {".jsonl": _parse_json, ".tsv": _parse_tsv}.get(Path(path.name.removesuffix(".gz")).suffix)
    if parse is None:
        raise ValueError(f"{path} is neither .jsonl nor .tsv (each may end in .gz); convert it, or give records.")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield parse(line, f"{path}, line {number}")


def _parse_json(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error}); expected one object with a `title` on each line.") from error
    title = record.get("title") if isinstance(record, dict) else None
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"{place}: expected an object with a non-empty `title`, got {line.strip()[:80]!r}.")
    aliases = record.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise ValueError(f"{place}: `aliases` must be a list of strings, got {aliases!r}.")
    for key in ("description", "short", "qid", "source"):
        if not isinstance(record.get(key) or "", str):
            raise ValueError(f"{place}: `{key}` must be a string, got {record[key]!r}.")
    return record


def _parse_tsv(line: str, place: str) -> dict[str, Any]:
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) != 3 or not fields[0].strip():
        raise ValueError(f"{place}: expected title, aliases separated by '|', text; got {len(fields)} fields.")
    title, aliases, text = fields
    return {"title": title.strip(), "aliases": [name for name in aliases.split("|") if name], "description": text}
