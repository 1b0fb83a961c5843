"""The encyclopedia on disk: articles and names in one LMDB file, and the arrays that find misspelt names."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import lmdb
import numpy as np
import xxhash
from numpy.typing import NDArray

from .near_names import proposals

FORMAT_VERSION = 1
MAP_SIZE = 1 << 40  # bytes of address space, not of disk; an index may grow up to it
META, ARTICLES, NAMES = b"meta", b"articles", b"names"
NEAR_FILE, DIRECTORY_FILE = "near_names.npy", "near_names_directory.npy"
REBUILD = "remove the folder and build it again: `hf-mner knowledge index FILES --output FOLDER`"
MAX_POSTINGS = 64  # articles kept under one form of a name, the best-known ones
MAX_CANDIDATES = 16  # of these, how many a look-up compares with the context

# How an article has a name: the form of the name, and how the article got it.
WHOLE, JOINED, INITIALS, SHORT = range(0, 16, 4)
TITLE, ALIAS, REDIRECT, MEANING = range(4)
FORM_MASK, ORIGIN_MASK = 0b1100, 0b0011

ARTICLE_HEAD = struct.Struct("<BQ")
POSTING = struct.Struct("<IB")
ARTICLE_KEY = struct.Struct(">I")
IS_MINOR, IS_DOUBTFUL = 1, 2

_OPEN: WeakValueDictionary[tuple[int, int], lmdb.Environment] = WeakValueDictionary()  # by device and file number


class IndexedArticle(NamedTuple):
    """An article as it is kept.

    Attributes:
        title: its title.
        text: its first sentences.
        source: where the record is from, or `""`.
        key: the title without its closing parenthesis, normalised.
        words: the content words of the text.
        renown: larger is more likely meant, see `hf_mner.knowledge.encyclopedia.indexed_articles.renown`.
        is_minor: from a source that lists names without regard to renown.
        is_doubtful: counts only with a word of context in common.
    """

    title: str
    text: str
    source: str
    key: str
    words: frozenset[str]
    renown: int
    is_minor: bool
    is_doubtful: bool


class Candidate(NamedTuple):
    """An article that has a name, and how it got it: `TITLE`, `ALIAS`, `REDIRECT` or `MEANING`."""

    origin: int
    article: IndexedArticle


class EncyclopediaIndex:
    """An index that `build_index` wrote, open for reading.

    Opening reads no article. The files are memory-mapped: processes share their pages, and what is not looked up is
    never read. An index may be pickled (it is opened again elsewhere) and may be used after a fork: a reader without
    locks holds no state of its process.

    Args:
        folder: the index.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another format, is damaged, or is no index.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        check_index(self.folder)
        self._environment = open_for_reading(self.folder)
        try:
            self._articles, self._names, meta = (self._environment.open_db(name) for name in (ARTICLES, NAMES, META))
        except lmdb.Error as error:
            raise ValueError(f"{self.folder}/data.mdb is no encyclopedia ({error}); {REBUILD}.") from error
        with self._environment.begin(db=meta) as transaction:
            self.meta: dict[str, Any] = json.loads(transaction.get(b"meta", b"{}"))
        if self.meta.get("format") != FORMAT_VERSION:
            raise ValueError(
                f"Index {self.folder} has format {self.meta.get('format')}, this version reads {FORMAT_VERSION};"
                f" {REBUILD}."
            )
        self._near, self._directory = (load_array(self.folder / name) for name in (NEAR_FILE, DIRECTORY_FILE))

    def __len__(self) -> int:
        """Return the number of articles."""
        return int(self.meta["articles"])

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the place and the content's digest alone."""
        return {"folder": self.folder, "digest": self.meta["digest"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the index of another process.

        Raises:
            ValueError: if another index lies there now.
        """
        self.__init__(state["folder"])  # type: ignore[misc]
        if self.meta["digest"] != state["digest"]:
            raise ValueError(f"{self.folder} holds another index than when this one was pickled; open it anew.")

    @contextmanager
    def reading(self) -> Iterator[IndexReader]:
        """Return a reader; many look-ups with one of them cost less than one each."""
        with self._environment.begin(db=self._names) as names, self._environment.begin(db=self._articles) as articles:
            yield IndexReader(names.get, articles.get)

    def near(self, names: Sequence[str]) -> list[list[int]]:
        """Return for each squashed name the numbers of articles whose title may be one edit away, see `near_names`."""
        return proposals(names, self._near, self._directory)


class IndexReader:
    """Reads names and articles.

    Args:
        get_name: returns the packed postings of a name's key, or None.
        get_article: returns an article's bytes.
    """

    def __init__(self, get_name: Callable[[bytes], Any], get_article: Callable[[bytes], Any]):
        self._get_name, self._get_article = get_name, get_article

    def postings(self, name: str) -> bytes:
        """Return who has a normalised name, in whatever form, packed for `candidates`; empty if nobody has it."""
        return self._get_name(name_key(name)) or b""

    def candidates(self, postings: bytes, *forms: int) -> list[Candidate]:
        """Return the best-known articles that have a name in one of some forms, at most `MAX_CANDIDATES` of each.

        Args:
            postings: see `postings`.
            forms: `WHOLE`: it is a name; `JOINED`: a name without its spaces; `INITIALS`; `SHORT`: the end of a title.
        """
        found: list[Candidate] = []
        for form in forms:
            numbers = [
                (number, how & ORIGIN_MASK) for number, how in POSTING.iter_unpack(postings) if how & FORM_MASK == form
            ]
            found += [Candidate(origin, self.article(number)) for number, origin in numbers[:MAX_CANDIDATES]]
        return found

    def article(self, number: int) -> IndexedArticle:
        """Return an article by its number."""
        return decode_article(self._get_article(ARTICLE_KEY.pack(number)))


def check_index(folder: Path) -> None:
    """Refuse a folder that holds no finished index.

    Raises:
        FileNotFoundError: saying how to build one.
    """
    if folder.is_file():
        raise FileNotFoundError(
            f"{folder} is a file, not an index; `Encyclopedia.from_files` reads files of articles."
        )
    if folder.suffix == ".building" or folder.with_name(f"{folder.name}.building").is_dir():
        finished = folder.with_suffix("") if folder.suffix == ".building" else folder
        if not (finished / "data.mdb").is_file():
            raise FileNotFoundError(
                f"The index {finished} is not finished; run `hf-mner knowledge index FILES --output {finished}` again"
                " with the same files: it goes on where it was stopped."
            )
    data = folder / "data.mdb"
    if not data.is_file() or not data.stat().st_size:
        raise FileNotFoundError(
            f"{folder} holds no encyclopedia index; build one: `hf-mner knowledge index FILES --output {folder}`."
        )
    for name in (NEAR_FILE, DIRECTORY_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"Index {folder} lacks {name}; copy it whole, or {REBUILD}.")


def load_array(path: Path) -> NDArray[np.uint64]:
    """Map an array of an index into memory.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is cut off or damaged ({error}); {REBUILD}.") from error


def open_for_reading(folder: Path) -> lmdb.Environment:
    """Open the LMDB file of an index, or return it where this process has it open: LMDB wants it open once."""
    held = (folder / "data.mdb").stat()
    place = held.st_dev, held.st_ino  # a path may lead to another index by now
    environment = _OPEN.get(place)
    if environment is None:
        environment = open_environment(folder, readonly=True)
        if held.st_size < file_bytes(environment):  # reading on would end the process
            raise ValueError(f"{folder}/data.mdb is cut off; copy it whole, or {REBUILD}.")
        _OPEN[place] = environment
    return environment


def file_bytes(environment: lmdb.Environment) -> int:
    """Return how long an LMDB file must be."""
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def open_environment(folder: Path, readonly: bool) -> lmdb.Environment:
    """Open the LMDB file of an index.

    Raises:
        ValueError: if the file is damaged or none of LMDB's.
    """
    try:
        return lmdb.open(
            str(folder), map_size=MAP_SIZE, max_dbs=3, readonly=readonly, lock=not readonly, readahead=not readonly
        )
    except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
        raise ValueError(f"{folder}/data.mdb is no whole LMDB file ({error}); {REBUILD}.") from error


def name_number(name: str) -> int:
    """Return the number under which a name is kept: 64 bits of a hash, so that all names take the same space.

    Two of 50 million names share a number with a probability of about 1 in 15,000.
    """
    return xxhash.xxh3_64_intdigest(name.encode())


def name_key(name: str) -> bytes:
    """Return `name_number` as the bytes of a database key."""
    return xxhash.xxh3_64_digest(name.encode())


def encode_article(article: IndexedArticle) -> bytes:
    """Return an article as bytes; halves of characters, which broken JSON may hold, become question marks."""
    flags = IS_MINOR * article.is_minor + IS_DOUBTFUL * article.is_doubtful
    texts = (article.title, article.text, article.source, article.key, " ".join(sorted(article.words)))
    packed = "\0".join(text.replace("\0", " ") for text in texts)
    return ARTICLE_HEAD.pack(flags, article.renown) + packed.encode(errors="replace")


def decode_article(value: bytes) -> IndexedArticle:
    """Undo `encode_article`."""
    flags, renown = ARTICLE_HEAD.unpack_from(value)
    title, text, source, key, words = value[ARTICLE_HEAD.size :].decode().split("\0")
    return IndexedArticle(
        title,
        text,
        source,
        key,
        frozenset(words.split(" ")),
        renown,
        bool(flags & IS_MINOR),
        bool(flags & IS_DOUBTFUL),
    )
