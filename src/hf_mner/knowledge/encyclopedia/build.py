"""Building an encyclopedia's index: in bounded memory, and going on where a build was stopped.

Two steps. Reading: batches of articles go into the index's LMDB file, and what names lead to them into one sorted run
file for each batch; the run appears whole, then the batch is committed with the count of what was read. Merging: the
runs are merged range by range of the names' hashes, redirects first, since they need the titles. Each range is
committed with its number. So a build that is killed repeats the batch or the range in hand and nothing else. (The
arrays of `near_names`, written at the end in a small part of the time, are one piece of work.)
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any

import lmdb
import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from .articles import Article, read_articles
from .index import (
    ARTICLE_KEY,
    ARTICLES,
    DIRECTORY_FILE,
    FORM_MASK,
    FORMAT_VERSION,
    MAX_POSTINGS,
    META,
    NAMES,
    NEAR_FILE,
    POSTING,
    TITLE,
    WHOLE,
    EncyclopediaIndex,
    encode_article,
    file_bytes,
    open_environment,
)
from .indexed_articles import IndexSettings, article_entries, indexed, near_names, references
from .near_names import directory_bits, index_entries

logger = logging.getLogger(__name__)

ENTRY = np.dtype([("name", "<u8"), ("renown", "<u8"), ("number", "<u4"), ("how", "u1")])
REFERENCE = np.dtype([("target", "<u8"), ("name", "<u8"), ("how", "u1")])  # a name that leads to another title
RUN_TYPES: dict[str, Any] = {"entries": ENTRY, "references": REFERENCE, "near": np.dtype("<u8")}
MAX_DIGESTED, SAMPLE = 1 << 30, 1 << 20  # bytes
RANGE_ROWS = 1_000_000  # rows that are merged at once, about
MAX_RANGES = 256


# Hears how a build goes on: the step ("reading" or "merging"), articles or ranges done, and all of them if known.
Progress = Callable[[str, int, "int | None"], object]


def build_index(
    files: Sequence[str | Path] | Sequence[Article],
    folder: str | Path,
    settings: IndexSettings | None = None,
    batch_size: int = 20_000,
    progress: Progress | None = None,
) -> Path:
    """Build an index, or go on with a build that was stopped; a finished one of the same files is left as it is.

    The index appears under its name when it is finished. Until then everything is in `FOLDER.building`. A second
    process that builds the same index waits for the first.

    Args:
        files: what to read, see `read_articles`; or articles themselves.
        folder: the index.
        settings: see `IndexSettings`.
        batch_size: articles in memory at once, and what is read again after a kill at most.
        progress: see `Progress`.

    Raises:
        ValueError: if `folder` holds another index or something else, or a file is malformed or damaged.
        FileNotFoundError: if a file is missing.
    """
    settings = settings or IndexSettings()
    sources = [source if isinstance(source, Article) else Path(source) for source in files]
    digest = content_digest(sources, settings)
    folder = Path(folder)
    if is_built(folder, digest):  # asked without the lock, which a folder that is only read could not hold
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{folder}.lock")
    with FileLock(lock):
        if not is_built(folder, digest):
            with IndexBuild(folder.with_name(f"{folder.name}.building"), digest, settings, progress) as build:
                build.state["files"] = [source.name for source in sources if isinstance(source, Path)]
                build.read(sources, batch_size)
                build.merge()
                build.finish()
            os.replace(build.folder, folder)
    # Whoever waits for the lock, or makes it anew, finds the index. Windows keeps a file that somebody waits for.
    with suppress(OSError):
        lock.unlink()
    return folder


def is_built(folder: Path, digest: str) -> bool:
    """Tell whether a folder holds the finished index of these files; False if it is absent or empty.

    Raises:
        ValueError: if it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        held = EncyclopediaIndex(folder).meta["digest"]
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"{folder} exists and is no index that can be used; choose another folder or remove it. ({error})"
        ) from error
    if held != digest:
        raise ValueError(f"{folder} holds the index of other files or settings; choose another folder or remove it.")
    return True


def content_digest(sources: Sequence[Path | Article], settings: IndexSettings) -> str:
    """Return a digest of the settings and of the files (32 hexadecimal digits).

    Of a file of more than `MAX_DIGESTED` bytes it takes in the size, the time of the last change, and samples of the
    bytes.
    """
    hasher = xxhash.xxh3_128(json.dumps([FORMAT_VERSION, asdict(settings)]).encode())
    for source in sources:
        if isinstance(source, Article):
            hasher.update(repr(source).encode())
        elif not source.is_file():
            next(iter(read_articles(source)), None)  # raises: there is none
        else:
            update_with_file(hasher, source)
    return hasher.hexdigest()


def update_with_file(hasher: xxhash.xxh3_128, path: Path) -> None:
    """Add a file to a digest, see `content_digest`."""
    about = path.stat()
    is_large = about.st_size > MAX_DIGESTED
    changed = about.st_mtime_ns if is_large else 0
    hasher.update(f"{path.name} {about.st_size} {changed}".encode())
    samples = (0, about.st_size // 2, about.st_size - SAMPLE) if is_large else range(0, about.st_size, SAMPLE)
    with path.open("rb") as stream:
        for place in samples:
            stream.seek(place)
            hasher.update(stream.read(SAMPLE))


class IndexBuild:
    """A build in its folder. Its state is the record `meta` in the LMDB file, committed with each piece of work."""

    state: dict[str, Any]

    def __init__(self, folder: Path, digest: str, settings: IndexSettings, progress: Progress | None):
        self.folder, self.settings, self.progress = folder, settings, progress
        self._open()
        if self.state.get("digest") != digest:
            if self.state:
                self._env.close()
                raise ValueError(
                    f"{folder} holds the begun index of other files or settings ({self.state['articles']:,} articles"
                    " were read); give those again to go on with it, or remove it, or choose another folder."
                )
            self.state = {"format": FORMAT_VERSION, "digest": digest, "settings": asdict(settings)}
            self.state |= {"file": 0, "records": 0, "articles": 0, "runs": 0}
            self.state |= {"ranges": 0, "joined": 0, "merged": 0, "is_merged": False}
            with self._env.begin(write=True) as transaction:
                self._commit(transaction)
        elif self.state["records"] or self.state["file"]:
            logger.warning(
                "%s: going on with a build that was stopped: %d articles were read, %d ranges merged.",
                *(folder, self.state["articles"], self.state["merged"]),
            )

    def __enter__(self) -> IndexBuild:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the LMDB file, which one process must not have open twice."""
        self._env.close()

    def _open(self) -> None:
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        self._env = open_environment(self.folder, readonly=False)
        self._meta, self._articles, self._names = (self._env.open_db(name) for name in (META, ARTICLES, NAMES))
        with self._env.begin() as transaction:
            self.state = json.loads(transaction.get(b"meta", db=self._meta) or b"{}")

    def _commit(self, transaction: lmdb.Transaction, **changes: Any) -> None:
        self.state |= changes
        transaction.put(b"meta", json.dumps(self.state).encode(), db=self._meta)

    def _report(self, step: str, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(step, done, total)

    # ------------------------------------------------------------------------------------------------- reading
    def read(self, sources: Sequence[Path | Article], batch_size: int) -> None:
        """Read what was not read yet."""
        given = [source for source in sources if isinstance(source, Article)]
        files: list[Any] = [given] if given else list(sources)
        for position in range(self.state["file"], len(files)):
            source = files[position]
            skip = self.state["records"]
            articles = islice(source, skip, None) if isinstance(source, list) else read_articles(source, skip)
            while batch := list(islice(articles, batch_size)):
                self._read_batch(batch)
                self._report("reading", self.state["articles"], None)
            with self._env.begin(write=True) as transaction:
                self._commit(transaction, file=position + 1, records=0)

    def _read_batch(self, batch: Sequence[Article]) -> None:
        first, run = self.state["articles"], self.state["runs"]
        kept = [article for article in batch if not article.redirect and not article.meanings]
        stored = [indexed(article, self.settings) for article in kept]
        self._write_run(run, "entries", list(article_entries(kept, stored, first)))
        self._write_run(run, "references", [reference for article in batch for reference in references(article)])
        near = near_names(stored, first)
        self._write_run(run, "near", index_entries(list(near.values()), list(near)))
        with self._env.begin(write=True) as transaction:
            for place, article in enumerate(stored):
                key = ARTICLE_KEY.pack(first + place)
                transaction.put(key, encode_article(article), db=self._articles, append=True)
            self._commit(
                transaction, records=self.state["records"] + len(batch), articles=first + len(kept), runs=run + 1
            )

    def _run_path(self, run: int, what: str) -> Path:
        return self.folder / "runs" / f"{what}-{run:06d}.npy"

    def _write_run(self, run: int, what: str, rows: Any) -> None:
        """Write a run, sorted by its first field, so that it is there whole or not at all."""
        values = np.array(rows, dtype=RUN_TYPES[what])
        values = values[np.argsort(first_field(values), kind="stable")]
        with written_whole(self._run_path(run, what)) as stream:
            np.save(stream, values)

    # ------------------------------------------------------------------------------------------------- merging
    def merge(self) -> None:
        """Merge what was not merged yet."""
        if self.state["is_merged"]:
            return
        runs = range(self.state["runs"])
        num_references = self._count("references", runs)
        if not self.state["ranges"]:
            with self._env.begin(write=True) as transaction:
                self._commit(transaction, ranges=num_ranges(self._count("entries", runs) + num_references))
        self._bounds = range_bounds(self.state["ranges"])
        if num_references:
            self._join_references()
        for part in range(self.state["merged"], len(self._bounds) - 1):
            entries = self._range("entries", part, self._all_runs("entries"))
            with self._env.begin(write=True) as transaction:
                cursor = transaction.cursor(self._names)
                cursor.putmulti(grouped(entries), append=True)
                self._commit(transaction, merged=part + 1)
            self._report("merging", part + 1, len(self._bounds) - 1)
        self._merge_near()

    def _count(self, what: str, runs: range) -> int:
        """Return the number of rows in some runs."""
        return sum(len(np.load(self._run_path(run, what), mmap_mode="r")) for run in runs)

    def _join_references(self) -> None:
        """Turn redirects and meanings into entries: the article that has the title that each leads to."""
        for part in range(self.state["joined"], len(self._bounds) - 1):
            references_ = self._range("references", part, range(self.state["runs"]))
            titles = self._range("entries", part, range(self.state["runs"]))
            titles = titles[titles["how"] == WHOLE | TITLE]
            places = np.searchsorted(titles["name"], references_["target"])
            places = np.minimum(places, max(len(titles) - 1, 0))
            is_found = (
                titles["name"][places] == references_["target"] if len(titles) else np.zeros(len(references_), bool)
            )
            joined = np.zeros(int(is_found.sum()), ENTRY)
            target = titles[places[is_found]]
            joined["name"], joined["how"] = references_["name"][is_found], references_["how"][is_found]
            joined["renown"], joined["number"] = target["renown"], target["number"]
            self._write_run(self.state["runs"] + part, "entries", joined)
            with self._env.begin(write=True) as transaction:
                self._commit(transaction, joined=part + 1)

    def _all_runs(self, what: str) -> range:
        return range(self.state["runs"] + (self.state["joined"] if what == "entries" else 0))

    def _range(self, what: str, part: int, runs: range) -> NDArray[Any]:
        """Return the rows of one range of hashes from all runs, sorted by hash, the best-known first."""
        low, high = self._bounds[part], self._bounds[part + 1]
        pieces = []
        for run in runs:
            rows = np.load(self._run_path(run, what), mmap_mode="r")
            begin, end = (place_of(rows, bound) for bound in (low, high))
            pieces.append(np.array(rows[begin:end]))
        merged = np.concatenate(pieces) if pieces else np.empty(0, RUN_TYPES[what])
        if what == "entries":
            forms = merged["how"] & FORM_MASK
            return merged[np.lexsort((merged["number"], merged["how"], ~merged["renown"], forms, merged["name"]))]
        return merged[np.argsort(first_field(merged), kind="stable")]

    def _merge_near(self) -> None:
        """Write the arrays of `near_names`; a small part of a build, done again as a whole after a kill."""
        runs = self._all_runs("near")
        size = self._count("near", runs)
        bits = directory_bits(size)
        directory = np.zeros((1 << bits) + 1, np.uint64)
        with written_whole(self.folder / NEAR_FILE) as stream:  # a memory map on a full disk would kill the process
            header = {"descr": "<u8", "fortran_order": False, "shape": (max(size, 1),)}
            np.lib.format.write_array_header_1_0(stream, header)
            for part in range(len(self._bounds) - 1):
                rows = self._range("near", part, runs)
                stream.write(rows.tobytes())
                leading, counts = np.unique(rows >> np.uint64(64 - bits), return_counts=True)
                directory[leading.astype(np.int64) + 1] += counts.astype(np.uint64)
            if not size:
                stream.write(bytes(8))  # an empty file could not be mapped
        np.cumsum(directory, out=directory)
        with written_whole(self.folder / DIRECTORY_FILE) as stream:
            np.save(stream, directory)

    def finish(self) -> None:
        """Drop what only the build needed; a kill meanwhile leaves a build that says that it is merged."""
        with self._env.begin(write=True) as transaction:
            names = transaction.stat(self._names)["entries"]
            self._commit(transaction, names=names, is_merged=True)
        self._env.sync(True)
        # A file that is shorter than LMDB thinks is refused as cut off.
        data, size = self.folder / "data.mdb", file_bytes(self._env)
        if data.stat().st_size < size:
            os.truncate(data, size)
        shutil.rmtree(self.folder / "runs")


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name when it is whole and on the disk."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, path)


def num_ranges(num_rows: int) -> int:
    """Return the number of ranges of hashes that are merged one by one, of about `RANGE_ROWS` rows."""
    return min(max(-(-num_rows // RANGE_ROWS), 1), MAX_RANGES)


def range_bounds(ranges: int) -> list[int]:
    """Return the borders that divide the hashes into ranges of equal width."""
    return [part * (1 << 64) // ranges for part in range(ranges + 1)]


def place_of(rows: NDArray[Any], bound: int) -> int:
    """Return how many rows, sorted by their first field, are below a border; only some are read."""
    hashes = first_field(rows)
    return bisect_left(range(len(rows)), bound, key=lambda place: int(hashes[place]))


def first_field(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the first field of structured rows, or the numbers themselves."""
    return rows[rows.dtype.names[0]] if rows.dtype.names else rows


def grouped(entries: NDArray[Any]) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and postings of each name of sorted entries, each article once, at most `MAX_POSTINGS`."""
    if not len(entries):
        return
    starts = np.flatnonzero(np.r_[True, entries["name"][1:] != entries["name"][:-1]])
    keys = entries["name"][starts].astype(">u8").tobytes()
    ends = [*starts[1:].tolist(), len(entries)]
    postings = np.empty(len(entries), [("number", "<u4"), ("how", "u1")])
    postings["number"], postings["how"] = entries["number"], entries["how"]
    packed, size = postings.tobytes(), POSTING.size
    for place, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
        value = packed[start * size : end * size]
        yield keys[place * 8 : place * 8 + 8], value if end - start == 1 else pruned(value)


def pruned(postings: bytes) -> bytes:
    """Return postings with each article once in a form, at most `MAX_POSTINGS` of each form."""
    kept: dict[tuple[int, int], bytes] = {}
    counts: dict[int, int] = {}
    for number, how in POSTING.iter_unpack(postings):
        form = how & FORM_MASK
        if (number, form) not in kept and counts.get(form, 0) < MAX_POSTINGS:
            kept[number, form] = POSTING.pack(number, how)
            counts[form] = counts.get(form, 0) + 1
    return b"".join(kept.values())
