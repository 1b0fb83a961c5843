"""An encyclopedia: from a mention as written in a post to the article that it most likely means."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_mner.data.schema import EncyclopediaEntry, MnerExample
from hf_mner.knowledge.base import SourceIdentity, entity_mentions

from .articles import article_from_mapping
from .build import Progress, build_index, content_digest
from .index import TITLE, WHOLE, Candidate, EncyclopediaIndex, IndexReader
from .indexed_articles import IndexSettings
from .names import normalise_title, squash
from .near_names import is_hashed
from .ranking import Reading, best_candidate, misspelt_word, sole_candidate
from .readings import (
    RULES,
    Contexts,
    EncyclopediaMatch,
    KnownMention,
    Rule,
    is_too_common,
    matched,
    other_readings,
    rule_of,
)

# Lists of names without regard to renown (every town of GeoNames, random articles). Of Twitter-2017's training
# mentions that only these know, one-word names without a word of context in common misled in 71 of 89 cases (a surname
# read as a town), so they need such a word.
MINOR_SOURCES = ("geonames", "entdesc")


class Encyclopedia:
    """A knowledge source that finds the article of each mention (SCANNER section 3.2, "extracted knowledge").

    Rules, in order; the first that leads to an article decides:

    - `"exact"`: the mention is a title; `"normalised"`: it is one after `normalise_title`.
    - `"alias"`: it is another name of an article: a given one, one that its first sentences give, or its title without
      the closing parenthesis; codes of two letters that are not its initials need a word of context. `"redirect"`: a
      redirect or a disambiguation page leads from it to the article.
    - `"hashtag"`: it is a name once it is split where case changes (`#GoldenStateWarriors`), or without its spaces
      (`@katyperry`), or without digits and usual words at its ends (`taylorswift13`).
    - `"abbreviation"`: it is the initials of an organisation whose text shares a word with the context (`nyk`).
    - `"short"`: it is the end of a sports team's title (`Warriors`, `#GoWarriors`): the only one, or one whose text
      shares a word with the context.
    - `"fuzzy"`: it is one edit away from a title, in a word of five letters or more that no article is called by, not
      in its first letter or a digit, and a typical one (`Justin Beiber`); another word is intact, or the context
      shares one with the text.

    Stop words, numbers and single letters find nothing, unless written in capitals (`US`). How articles of one name
    are ranked with the context is said in `ranking.py`.

    Args:
        index: an index that `build_index` wrote, or its folder.
        rules: the rules that are applied.
        cache_size: mentions whose articles are remembered, about three kilobytes each.

    Raises:
        FileNotFoundError: if there is no index.
        ValueError: if a rule is unknown, or the index has another format.

    Departure: SCANNER queries Wikipedia itself; here the articles come from files, so that runs repeat offline.
    """

    column = "encyclopedia"
    needs_entities = True
    reads = ("tokens", "entities")

    def __init__(
        self, index: str | Path | EncyclopediaIndex, rules: Collection[Rule] = RULES, cache_size: int = 20_000
    ):
        if isinstance(rules, str):
            raise ValueError(f"`rules` is {rules!r}; give a list, e.g. [{rules!r}].")
        if unknown := [rule for rule in rules if rule not in RULES]:
            raise ValueError(f"`rules` holds {unknown[0]!r}; choose of {', '.join(RULES)}.")
        self._index = index if isinstance(index, EncyclopediaIndex) else EncyclopediaIndex(index)
        self.rules = tuple(rule for rule in RULES if rule in rules)
        self.cache_size = cache_size
        self._known: dict[str, KnownMention] = {}
        self._temporary: _TemporaryFolder | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the index and the settings, not what was looked up."""
        return {**self.__dict__, "_known": {}, "_temporary": None}

    @classmethod
    def from_files(
        cls,
        files: str | Path | Sequence[str | Path],
        max_text_chars: int = 300,
        minor_sources: Collection[str] = MINOR_SOURCES,
        rules: Collection[Rule] = RULES,
        cache_dir: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Encyclopedia:
        """Open the index of files; it is built at the first call, and found again by the files' content afterwards.

        Args:
            files: one or several files, see `read_articles`; or one folder that holds an index already.
            max_text_chars: see `IndexSettings`.
            minor_sources: see `IndexSettings`.
            rules: see the class.
            cache_dir: where indexes are kept; None = `encyclopedia/` in `default_cache_dir()`.
            progress: see `build_index`.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a line is malformed (names file and line), a file is damaged or has another ending, or
                none is given.
        """
        paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
        if not paths:
            raise ValueError("`files` is empty; give one file of articles at least.")
        is_index = [path.is_dir() or path.with_name(f"{path.name}.building").is_dir() for path in paths]
        if len(paths) == 1 and is_index[0]:
            return cls(paths[0], rules)
        if any(is_index):
            raise ValueError(
                f"`files` holds {len(paths)} paths, and {paths[is_index.index(True)]} is an index; build one index"
                " of all files of articles: `hf-mner knowledge index FILES --output FOLDER`."
            )
        settings = IndexSettings(max_text_chars, tuple(minor_sources))
        cache = Path(cache_dir) if cache_dir is not None else default_cache_dir() / "encyclopedia"
        return cls(build_index(paths, cache / content_digest(paths, settings), settings, progress=progress), rules)

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        max_text_chars: int = 300,
        minor_sources: Collection[str] = MINOR_SOURCES,
        rules: Collection[Rule] = RULES,
    ) -> Encyclopedia:
        """Build an index of records that lives as long as the encyclopedia.

        Args:
            records: mappings with `title`, and optionally `aliases` (list), `description`, `short`, `qid`, `source`.
            max_text_chars: see `IndexSettings`.
            minor_sources: see `IndexSettings`.
            rules: see the class.
        """
        articles = [article_from_mapping(record, f"Record {number}") for number, record in enumerate(records)]
        temporary = _TemporaryFolder()
        folder = build_index(articles, temporary.path / "index", IndexSettings(max_text_chars, tuple(minor_sources)))
        encyclopedia = cls(folder, rules)
        encyclopedia._temporary = temporary
        return encyclopedia

    def __len__(self) -> int:
        """Return the number of articles."""
        return len(self._index)

    @property
    def identity(self) -> SourceIdentity:
        """Name the index by the files that it was built from and by its content, wherever it lies."""
        return SourceIdentity(
            source="Encyclopedia",
            model=", ".join(self._index.meta.get("files", ())),
            revision=self._index.meta["digest"],
            prompt="",
            settings=json.dumps({"rules": self.rules}),
        )

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[EncyclopediaEntry]]:
        """Return for each example the entries of its mentions that were found, each mention once, in text order."""
        mentions = [list(dict.fromkeys(entity_mentions(example))) for example in examples]
        contexts = [" ".join(example["tokens"]) for example in examples]
        found = iter(
            self.lookup(
                [mention for own in mentions for mention in own],
                [context for own, context in zip(mentions, contexts, strict=True) for _ in own],
            )
        )
        return [[entry for _ in own if (entry := next(found)) is not None] for own in mentions]

    def lookup(self, mentions: Sequence[str], contexts: Sequence[str] | None = None) -> list[EncyclopediaEntry | None]:
        """Find the article of each mention.

        Args:
            mentions: as written in the text, with or without `#` and `@`.
            contexts: for each mention the text around it, used to choose between articles of one name.

        Returns:
            For each mention `{"mention", "title", "text", "rule", "source"}`, or None if it is not found.

        Raises:
            ValueError: if `contexts` has another length than `mentions`.
        """
        return [
            EncyclopediaEntry(
                mention=match.mention, title=match.title, text=match.text, rule=match.rule, source=match.source
            )
            if match
            else None
            for match in self.lookup_detailed(mentions, contexts)
        ]

    def lookup_detailed(
        self, mentions: Sequence[str], contexts: Sequence[str] | None = None
    ) -> list[EncyclopediaMatch | None]:
        """Find the article of each mention as `lookup` does; many mentions in one call cost less than one each."""
        if isinstance(mentions, str):
            raise ValueError(f"`mentions` is one string; give a list, e.g. [{mentions!r}].")
        contexts = [""] * len(mentions) if contexts is None else contexts
        if len(contexts) != len(mentions):
            raise ValueError(f"`contexts` has {len(contexts)} texts for {len(mentions)} mentions; give one for each.")
        lookup, known = Contexts(contexts), self._known  # another thread may call `forget`
        with self._index.reading() as reader:
            for mention in mentions:
                if mention not in known:
                    known[mention] = self._read(reader, mention)
            asked = [known[mention] for mention in mentions]
            found = [
                self._find(reader, mention, own, lookup, place)
                for place, (mention, own) in enumerate(zip(mentions, asked, strict=True))
            ]
            if "fuzzy" in self.rules:
                missing = [place for place, match in enumerate(found) if match is None]
                self._read_near(reader, {mentions[place]: asked[place] for place in missing})
                for place in missing:
                    found[place] = self._match(asked[place].near, lookup.around(place))
        if len(known) > self.cache_size:
            self.forget()
        return found

    def forget(self) -> None:
        """Drop what is remembered of mentions that were looked up."""
        self._known = {}

    def _find(
        self, reader: IndexReader, mention: str, known: KnownMention, lookup: Contexts, place: int
    ) -> EncyclopediaMatch | None:
        if known.match is not None or known.is_common:
            return known.match
        around = lookup.around(place)
        if match := self._match(known.whole, around):
            return match
        if known.others is None:
            known.others = [self._allowed(reading) for reading in other_readings(reader, mention, known.key)]
        for reading in known.others:
            if match := self._match(reading, around):
                return match
        return None

    def _read(self, reader: IndexReader, mention: str) -> KnownMention:
        """Read a mention as it stands."""
        known = KnownMention(normalise_title(mention))
        known.is_common = is_too_common(mention, known.key)
        if not known.is_common and (postings := reader.postings(known.key)):
            known.whole = self._allowed(Reading("whole", mention, known.key, reader.candidates(postings, WHOLE)))
            if sole := sole_candidate(known.whole):
                known.match = matched(known.whole, sole)
        return known

    def _read_near(self, reader: IndexReader, asked: Mapping[str, KnownMention]) -> None:
        """Look for misspelt titles in place of what was not found, all at once."""
        new = {
            mention: known
            for mention, known in asked.items()
            if known.near is None and not known.is_common and is_hashed(squash(known.key))
        }
        proposed = self._index.near([squash(known.key) for known in new.values()])
        for (mention, known), numbers in zip(new.items(), proposed, strict=True):
            candidates = []
            for article in map(reader.article, numbers):
                word = misspelt_word(known.key, article.key)
                if word is not None and not reader.postings(word):
                    candidates.append(Candidate(TITLE, article))
            known.near = Reading("near", mention, known.key, candidates)

    def _match(self, reading: Reading | None, around: set[str]) -> EncyclopediaMatch | None:
        if reading is None or not reading.candidates:
            return None
        best = best_candidate(reading, around)
        return matched(reading, best) if best is not None else None

    def _allowed(self, reading: Reading) -> Reading:
        """Drop the candidates that only a rule finds that is not applied."""
        if len(self.rules) == len(RULES):
            return reading
        kept = [candidate for candidate in reading.candidates if rule_of(reading, candidate) in self.rules]
        return reading._replace(candidates=kept)


class _TemporaryFolder:
    """A folder that is removed with this object, by the process that made it: a fork has the object, too."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hf_mner_encyclopedia_"))
        weakref.finalize(self, remove_own, self.path, os.getpid())


def remove_own(folder: Path, owner: int) -> None:
    """Remove a folder of this process."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def default_cache_dir() -> Path:
    """Return where this package keeps what it computed: `HF_MNER_CACHE`, or `hf_mner` in the Hub's home folder."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("HF_MNER_CACHE") or Path(HF_HOME) / "hf_mner")
