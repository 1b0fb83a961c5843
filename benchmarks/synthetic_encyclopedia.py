"""Articles that nobody wrote, as many as wanted: titles of made-up words with Zipf's frequencies, and short texts.

    python -m benchmarks.synthetic_encyclopedia 7000000 articles.parquet

writes what `wikimedia/wikipedia` on the Hub looks like: a Parquet file with `title` and `text`. Titles are distinct.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CONSONANTS = tuple("bcdfghjklmnprstvwz") + ("ch", "sh", "th", "br", "st", "tr")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
ENDS = ("", "n", "r", "s", "t", "l", "nd", "rk")
KINDS = ("city", "village", "river", "singer", "footballer", "politician", "film", "album", "novel", "company", "team")
NUM_WORDS = 60_000
CHUNK = 50_000


def make_words(generator: np.random.Generator) -> np.ndarray:
    """Return distinct pronounceable words in a random order, so that frequency and length have nothing to do."""
    words: dict[str, None] = {}
    while len(words) < NUM_WORDS:
        syllables = generator.integers(1, 4)
        parts = [generator.choice(CONSONANTS) + generator.choice(VOWELS) for _ in range(syllables)]
        words["".join(parts).capitalize() + generator.choice(ENDS)] = None
    return np.array(list(words), dtype=object)


def articles(size: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield distinct titles with their texts."""
    generator = np.random.default_rng(seed)
    words = make_words(generator)
    seen: set[int] = set()
    while True:
        counts = generator.choice([1, 2, 3, 4], size=CHUNK, p=[0.02, 0.5, 0.3, 0.18])
        picked = (NUM_WORDS * generator.random((CHUNK, 4)) ** 2).astype(int)
        others = generator.integers(0, NUM_WORDS, (CHUNK, 12))
        kinds = generator.integers(0, len(KINDS), CHUNK)
        for row in range(CHUNK):
            title = " ".join(words[picked[row, : counts[row]]])
            if hash(title) in seen:
                continue
            seen.add(hash(title))
            names = words[others[row]]
            kind, year = KINDS[kinds[row]], 1800 + others[row, 7] % 220
            yield (
                title,
                f"{title} is a {kind} in {names[0]}, {names[1]}. It is known for its {names[2].lower()} and for the"
                f" {names[3]} of {names[4]}, which {names[5]} {names[6]} founded in {year}.\n\nThe name comes from"
                f" {names[8]} {names[9]} of {names[10]}.",
            )
            if len(seen) == size:
                return


def write_parquet(size: int, path: Path, seed: int = 0) -> None:
    """Write articles as a Parquet file."""
    rows = articles(size, seed)
    schema = pa.schema([("title", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, CHUNK)):
            titles, texts = zip(*chunk, strict=True)
            writer.write_table(pa.table([list(titles), list(texts)], schema=schema))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    write_parquet(options.size, options.output)
