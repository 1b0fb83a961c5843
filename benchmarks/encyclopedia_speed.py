"""How fast mentions are looked up, and whether the size of the encyclopedia matters.

    python -m benchmarks.encyclopedia_speed --data-dir $HF_MNER_DATA --work-dir FOLDER \
        --output results/knowledge/encyclopedia_speed.json

Builds an index of the real 89,124 records, and of these with made-up articles added up to each of `--sizes`, each in a
process of its own, and keeps them in the work folder (6 GB for the default sizes; a second run finds them). Then, in a
new process for each index and on one thread, looks up all gold mentions of Twitter-2017 with their tweets:

- `first`: nothing is remembered from before, the files are in the page cache;
- `again`: the mentions were looked up before.

The plain baseline in the same run is BM25 (rank_bm25) over the titles and aliases of the real records.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.encyclopedia_coverage import read_mentions

SPLITS = ("train", "valid", "test")
PAPER_SENTENCES_PER_S = 1300  # Table 13 of SCANNER
BM25_QUERIES = 40


def status(name: str) -> float:
    """Return a line of this process' `/proc` status in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def build(data_dir: Path, work_dir: Path, size: int) -> dict[str, Any]:
    """Build an index and measure it."""
    from hf_mner.knowledge.encyclopedia import MINOR_SOURCES, IndexSettings, build_index

    files = [data_dir / "wikipedia" / "entities.jsonl.gz"]
    if size:
        files.append(work_dir / f"{size}.parquet")
    peak = PeakMemory()
    before, start = status("RssAnon"), time.perf_counter()
    peak.start()
    folder = build_index(files, work_dir / f"index-{size}", IndexSettings(minor_sources=MINOR_SOURCES))
    spent = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in folder.iterdir())
    return {"build_s": spent, "build_mb": peak.stop() - before, "disk_mb": disk / 2**20}


class PeakMemory(threading.Thread):
    """Watches the memory of this process that is its own: without the pages of files, which the system can drop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.is_over = 0.0, threading.Event()

    def run(self) -> None:
        """Look ten times a second."""
        while not self.is_over.wait(0.1):
            self.peak = max(self.peak, status("RssAnon"))

    def stop(self) -> float:
        """Return the most that was seen, in megabytes."""
        self.is_over.set()
        return self.peak


def look_up(data_dir: Path, work_dir: Path, size: int) -> dict[str, Any]:
    """Open an index and look up the mentions."""
    from hf_mner.knowledge.encyclopedia import Encyclopedia

    rows = [row for split in SPLITS for row in read_mentions(data_dir / "twitter2017" / f"{split}.txt")]
    mentions, contexts = [row[0] for row in rows], [row[2] for row in rows]
    before, start = status("RssFile"), time.perf_counter()
    encyclopedia = Encyclopedia(work_dir / f"index-{size}")
    opened = time.perf_counter() - start
    found = encyclopedia.lookup_detailed(mentions, contexts)
    first, again = [], []
    for _ in range(5):
        encyclopedia.forget()
        first.append(seconds(encyclopedia, mentions, contexts))
        again.append(seconds(encyclopedia, mentions, contexts))
    sentences = len(set(contexts))
    return {
        "articles": len(encyclopedia),
        "open_ms": 1000 * opened,
        "found": sum(match is not None for match in found) / len(found),
        "mentions": len(mentions),
        "sentences": sentences,
        "first_per_s": sentences / median(first),
        "again_per_s": sentences / median(again),
        "private_mb": status("RssAnon"),
        "shared_mb": status("RssFile") - before,
    }


def seconds(encyclopedia: Any, mentions: list[str], contexts: list[str]) -> float:
    """Return the processor time of looking up all mentions."""
    start = time.process_time()
    encyclopedia.lookup_detailed(mentions, contexts)
    return time.process_time() - start


def bm25(data_dir: Path, *_: object) -> dict[str, Any]:
    """Look up some mentions among the real records by BM25 over the words of titles and aliases."""
    from rank_bm25 import BM25Okapi

    from hf_mner.knowledge.encyclopedia import normalise_title, read_articles

    articles = list(read_articles(data_dir / "wikipedia" / "entities.jsonl.gz"))
    documents = [normalise_title(" ".join((article.title, *article.aliases))).split() for article in articles]
    start = time.process_time()
    ranking = BM25Okapi(documents)
    built = time.process_time() - start
    rows = read_mentions(data_dir / "twitter2017" / "test.txt")[:BM25_QUERIES]
    start = time.process_time()
    for mention, _, _ in rows:
        ranking.get_top_n(normalise_title(mention).split(), articles, n=1)
    spent = time.process_time() - start
    return {"build_s": built, "sentences_per_s": len({row[2] for row in rows}) / spent, "queries": len(rows)}


def in_child(step: str, options: argparse.Namespace, size: int) -> dict[str, Any]:
    """Run a step in a new process, so that it shares no memory with the others."""
    arguments = ["--data-dir", options.data_dir, "--work-dir", options.work_dir, "--step", step, "--sizes", size]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.encyclopedia_speed", *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure every index and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1_000_000, 7_000_000], help="made-up articles")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--step", choices=["build", "look_up", "bm25"])
    options = parser.parse_args()
    steps = {"build": build, "look_up": look_up, "bm25": bm25}
    if options.step:
        print(json.dumps(steps[options.step](options.data_dir, options.work_dir, options.sizes[0])))
        return
    options.work_dir.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in options.sizes:
        made_up, kept = options.work_dir / f"{size}.parquet", options.work_dir / f"build-{size}.json"
        if size and not made_up.exists():
            from benchmarks.synthetic_encyclopedia import write_parquet

            write_parquet(size, made_up)
        if not kept.exists():
            kept.write_text(json.dumps(in_child("build", options, size)))
        row = {**json.loads(kept.read_text()), **in_child("look_up", options, size)}
        rows.append(row)
        print(
            f"{row['articles']:>9,} articles: {row['first_per_s']:,.0f} sentences/s at first sight,"
            f" {row['again_per_s']:,.0f} again ({row['first_per_s'] / PAPER_SENTENCES_PER_S:.1f} and"
            f" {row['again_per_s'] / PAPER_SENTENCES_PER_S:.1f} times the paper's), opened in {row['open_ms']:.1f} ms,"
            f" built in {row['build_s']:.0f} s with {row['build_mb']:.0f} MB"
        )
    baseline = in_child("bm25", options, 0)
    print(f"BM25 over the real records: {baseline['sentences_per_s']:.1f} sentences/s")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        result = {"paper_sentences_per_s": PAPER_SENTENCES_PER_S, "indexes": rows, "bm25": baseline}
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
