"""Which library keeps the names of an encyclopedia: look-ups of a million names in SQLite, LMDB, marisa-trie, tantivy.

    pip install marisa-trie tantivy
    python -m benchmarks.encyclopedia_backends --output results/knowledge/encyclopedia_backends.json

Each backend maps made-up titles to eight bytes, in a process of its own and on one thread; half of the names that are
looked up are in it. The backends that find misspelt names are asked for names with one letter too many: tantivy by a
fuzzy term query each, ours by `near_names`, all at once as in a batch of posts.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.encyclopedia_speed import status
from benchmarks.synthetic_encyclopedia import articles
from benchmarks.timing import report

NUM_LOOKUPS, NUM_FUZZY = 100_000, 2_000

LookUp = Callable[[list[str]], list[bool]]


def sqlite(names: list[str], folder: Path) -> LookUp:
    """Keep names in a table without row ids, mapped into memory."""
    path = folder / "names.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table names(name text primary key, value blob) without rowid")
        connection.executemany("insert into names values(?, ?)", ((name, bytes(8)) for name in names))
    cursor = sqlite3.connect(path).cursor()
    cursor.execute("pragma mmap_size=4000000000")
    query = "select value from names where name = ?"
    return lambda asked: [bool(cursor.execute(query, (name,)).fetchone()) for name in asked]


def lmdb(names: list[str], folder: Path) -> LookUp:
    """Keep names as keys of a B-tree."""
    import lmdb

    with lmdb.open(str(folder), map_size=1 << 34) as environment, environment.begin(write=True) as transaction:
        transaction.cursor().putmulti(((name.encode(), bytes(8)) for name in names), append=True)
    transaction = lmdb.open(str(folder), readonly=True, lock=False, readahead=False).begin()
    return lambda asked: [transaction.get(name.encode()) is not None for name in asked]


def lmdb_hashes(names: list[str], folder: Path) -> LookUp:
    """Keep hashes of names as keys of a B-tree, as our index does."""
    import lmdb

    from hf_mner.knowledge.encyclopedia.index import name_key

    with lmdb.open(str(folder), map_size=1 << 34) as environment, environment.begin(write=True) as transaction:
        transaction.cursor().putmulti(((key, bytes(8)) for key in sorted(map(name_key, names))), append=True)
    transaction = lmdb.open(str(folder), readonly=True, lock=False, readahead=False).begin()
    return lambda asked: [transaction.get(name_key(name)) is not None for name in asked]


def marisa(names: list[str], folder: Path) -> LookUp:
    """Keep names in a compressed trie, which has to be built in memory."""
    import marisa_trie

    marisa_trie.BytesTrie((name, bytes(8)) for name in names).save(str(folder / "names.marisa"))
    trie = marisa_trie.BytesTrie()
    trie.mmap(str(folder / "names.marisa"))
    return lambda asked: [bool(trie.get(name)) for name in asked]


def tantivy_fuzzy(names: list[str], folder: Path) -> LookUp:
    """Keep names as raw terms, asked by a Levenshtein automaton."""
    import tantivy

    schema = tantivy.SchemaBuilder().add_text_field("name", stored=True, tokenizer_name="raw").build()
    index = tantivy.Index(schema, path=str(folder))
    writer = index.writer()
    for name in names:
        writer.add_document(tantivy.Document(name=name))
    writer.commit()
    index.reload()
    searcher = index.searcher()
    return lambda asked: [
        bool(searcher.search(tantivy.Query.fuzzy_term_query(schema, "name", name, distance=1), 5).hits)
        for name in asked
    ]


def near_names(names: list[str], folder: Path) -> LookUp:
    """Keep hashes of forms with one letter deleted, as our index does."""
    import numpy as np

    from hf_mner.knowledge.encyclopedia import near_names as near

    squashed = [(name.replace(" ", ""), number) for number, name in enumerate(names)]
    kept = [(name, number) for name, number in squashed if near.is_hashed(name)]
    np.save(folder / "near.npy", near.index_entries([name for name, _ in kept], [number for _, number in kept]))
    entries = np.load(folder / "near.npy", mmap_mode="r")
    bits = near.directory_bits(len(entries))
    bounds = np.arange((1 << bits) + 1, dtype=np.uint64)
    directory = np.searchsorted(entries >> np.uint64(64 - bits), bounds).astype(np.uint64)
    return lambda asked: list(map(bool, near.proposals([name.replace(" ", "") for name in asked], entries, directory)))


EXACT = {"SQLite": sqlite, "LMDB": lmdb, "LMDB, hashed names": lmdb_hashes, "marisa-trie": marisa}
FUZZY = {"tantivy": tantivy_fuzzy, "near_names": near_names}


def measure(backend: str, size: int) -> dict[str, Any]:
    """Build one backend and look names up."""
    names = sorted({title.lower() for title, _ in articles(size)})
    generator = random.Random(0)
    present = generator.sample(names, NUM_LOOKUPS // 2)
    is_fuzzy = backend in FUZZY
    asked = [f"{name}x" for name in present[:NUM_FUZZY]] if is_fuzzy else [*present, *(f"{n}x" for n in present)]
    generator.shuffle(asked)
    with tempfile.TemporaryDirectory() as temporary:
        before, start = status("RssAnon"), time.perf_counter()
        look_up = (FUZZY if is_fuzzy else EXACT)[backend](names, Path(temporary))
        built = time.perf_counter() - start
        built_mb = status("RssAnon") - before
        disk = sum(path.stat().st_size for path in Path(temporary).rglob("*") if path.is_file())
        look_up(asked)
        start = time.process_time()
        found = sum(look_up(asked))
        spent = time.process_time() - start
    return {
        "build_s": built,
        "kept_mb": built_mb,
        "disk_mb": disk / 2**20,
        "microseconds": 1e6 * spent / len(asked),
        "found": found / len(asked),
    }


def main() -> None:
    """Measure every backend in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--backend")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.backend:
        print(json.dumps(measure(options.backend, options.size)))
        return
    result: dict[str, Any] = {"names": options.size, "exact": {}, "fuzzy": {}}
    for kind, backends in (("exact", EXACT), ("fuzzy", FUZZY)):
        for backend in backends:
            command = [
                sys.executable,
                "-m",
                "benchmarks.encyclopedia_backends",
                "--size",
                str(options.size),
                "--backend",
                backend,
            ]
            result[kind][backend] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    report(result, options.output)


if __name__ == "__main__":
    main()
