"""`kill -9` while an encyclopedia's index is built, at random moments: what is damaged, and what is done again.

    python -m benchmarks.encyclopedia_kills --output results/knowledge/encyclopedia_kills.json

"apart": each kill has a fresh build, and the run after it completes it; the moments are spread over the whole build.
"chain": one build whose runs are all killed, until a last one completes it. Pieces of work are batches of articles,
ranges of redirects, and ranges of names; each is written into a log before it is done. The program fails if a finished
index differs in one byte of its data or one look-up from that of a build without kills, if a piece that was finished
is done again, or if a kill loses more than one piece.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import synthetic_encyclopedia
from benchmarks.timing import report
from hf_mner.knowledge.encyclopedia import Encyclopedia, EncyclopediaIndex, build
from hf_mner.knowledge.encyclopedia.index import ARTICLES, META, NAMES

PAGE = "<page><title>{}</title><ns>0</ns><redirect title='{}'/><revision><text/></revision></page>\n"


def write_files(folder: Path, num_articles: int, seed: int) -> list[str]:
    """Write articles as Parquet and, for every fourth of them, a redirect in a dump; return all their titles."""
    rows = list(islice(synthetic_encyclopedia.articles(num_articles, seed), num_articles))
    titles, texts = zip(*rows, strict=True)
    pq.write_table(pa.table([titles, texts], names=["title", "text"]), folder / "a.parquet", row_group_size=1000)
    redirects = [f"Way To {title}" for title in titles[::4]]
    pages = "".join(PAGE.format(*pair) for pair in zip(redirects, titles[::4], strict=True))
    (folder / "b.xml").write_text(f"<mediawiki>\n{pages}</mediawiki>", encoding="utf-8")
    return [*titles, *redirects]


def build_logged(folder: str, log: str, batch_size: str, range_rows: str) -> None:
    """Build an index from the files beside it, until the end or the kill."""
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    read_batch, read_range, grouped = build.IndexBuild._read_batch, build.IndexBuild._range, build.grouped

    def write(piece: str) -> None:
        os.write(stream, f"{time.monotonic():.4f} {piece}\n".encode())

    def logged_batch(self: Any, batch: Any) -> None:
        write(f"batch {self.state['runs']}")
        read_batch(self, batch)

    def logged_range(self: Any, what: str, part: int, runs: range) -> Any:
        if what == "references" or (what == "near" and not part):
            write(f"{what} {part}")
        return read_range(self, what, part, runs)

    def logged_groups(entries: Any) -> Any:
        write(f"names {entries['name'][0]}")
        return grouped(entries)

    build.IndexBuild._read_batch, build.IndexBuild._range = logged_batch, logged_range  # type: ignore[method-assign]
    build.grouped, build.RANGE_ROWS = logged_groups, int(range_rows)
    beside = Path(folder).parent.parent
    build.build_index([beside / "a.parquet", beside / "b.xml"], folder, batch_size=int(batch_size))


class Trial:
    """One build with the log of its work."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        folder.mkdir()
        self.index, self.log, self.options = folder / "index", folder / "log", options

    def run(self, kill_after: tuple[int, float] | None = None) -> float:
        """Build in a process of its own.

        Args:
            kill_after: new pieces of work that are begun, and seconds from then on until `kill -9`; None = let it
                finish.

        Returns:
            When it ended, in seconds of the machine's clock.
        """
        numbers = [str(self.options.batch_size), str(self.options.range_rows)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.encyclopedia_kills",
            "--build",
            str(self.index),
            str(self.log),
            *numbers,
        ]
        begun = len(self.lines())
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        if kill_after is not None:
            while process.poll() is None and len(self.lines()) < begun + kill_after[0]:
                time.sleep(0.001)
            time.sleep(kill_after[1])
            process.kill()
        _, told = process.communicate()
        assert process.returncode in (0, -9), told
        return time.monotonic()

    def lines(self) -> list[tuple[float, str]]:
        """Return what is in the log: when each piece of work was begun. The last line may be cut off."""
        text = self.log.read_text() if self.log.exists() else ""
        lines = [line.split(maxsplit=1) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(float(moment), piece.strip()) for moment, piece in lines]

    def begun(self) -> Counter[str]:
        """Return how often each piece of work was begun."""
        return Counter(piece for _, piece in self.lines())

    def finished(self) -> int:
        """Open what is there and return the pieces of work that it holds."""
        folder = self.index if self.index.exists() else self.index.with_name("index.building")
        if not (folder / "data.mdb").exists():
            return 0
        with lmdb.open(str(folder), max_dbs=3, readonly=True, lock=False) as environment:
            try:
                meta = environment.open_db(META, create=False)
            except lmdb.NotFoundError:
                return 0
            with environment.begin() as transaction:
                state = json.loads(transaction.get(b"meta", b"{}", meta))
                for name in (ARTICLES, NAMES):  # reads every page
                    sum(len(value) for _, value in transaction.cursor(environment.open_db(name, transaction)))
        return sum(state.get(name, 0) for name in ("runs", "joined", "merged"))

    def kill(self, pieces_begun: int, seconds: float) -> dict[str, Any]:
        """Kill a run, see `run`, and tell what it left."""
        begun_before, before = self.begun(), self.finished()
        self.run((pieces_begun, seconds))
        after, new = self.finished(), self.begun() - begun_before
        pieces = sum(count for piece, count in new.items() if not piece.startswith("near"))
        assert max(new.values(), default=1) == 1, "a run did a piece twice"
        assert before <= after, "finished work is gone"
        assert pieces - (after - before) in (0, 1), f"{pieces} pieces were begun, {after - before} are finished"
        return {
            "step": list(new)[-1].split()[0] if new else "none",
            "finished_before": before,
            "begun": pieces,
            "finished_after": after,
            "lost": pieces - (after - before),
            "opens": True,  # `finished` raises otherwise
        }

    def complete(self, kills: list[dict[str, Any]], mentions: list[str], expected: dict[str, Any]) -> dict[str, Any]:
        """Let a last run finish, and compare its work and the index with those of a build without kills."""
        self.run()
        begun = self.begun()
        repeated = {piece: count for piece, count in begun.items() if count > 1}
        again = sum(count - 1 for piece, count in repeated.items() if not piece.startswith("near"))
        assert again == sum(kill["lost"] for kill in kills), "finished work was done again"
        assert describe(self.index, mentions) == expected, "the index is another one"
        return {"pieces_done_again": again, "arrays_written_again": repeated.get("near 0", 1) - 1, "is_equal": True}


def describe(folder: Path, mentions: list[str]) -> dict[str, Any]:
    """Return hashes of all data of an index and of the look-ups of many mentions, one letter of some left out."""
    index = EncyclopediaIndex(folder)
    data = sha1(index._near.tobytes() + index._directory.tobytes())
    with index._environment.begin() as transaction:
        for database in (index._articles, index._names):
            for key, value in transaction.cursor(database):
                data.update(key + value)
    asked = [
        *mentions,
        *("#" + name.replace(" ", "") for name in mentions),
        *(name[:5] + name[6:] for name in mentions),
    ]
    found = Encyclopedia(index).lookup_detailed(asked)
    return {
        "data": data.hexdigest(),
        "look_ups": len(found),
        "found": sum(match is not None for match in found),
        "answers": sha1(repr(found).encode()).hexdigest(),
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill in both ways."""
    generator = random.Random(options.seed)
    mentions = write_files(folder, options.articles, options.seed)
    whole = Trial(folder / "whole", options)
    end = whole.run()
    expected, pieces = describe(whole.index, mentions[::10]), whole.begun()
    moments = [moment for moment, _ in whole.lines()]
    whole_s = end - moments[0]

    def random_place(low_s: float, high_s: float) -> tuple[int, float]:
        """Return a random moment as pieces begun and seconds since, whatever else the machine does."""
        moment = moments[0] + generator.uniform(low_s, high_s)
        count = sum(other <= moment for other in moments)
        return count, moment - moments[count - 1]

    apart: list[dict[str, Any]] = []
    late = 0
    while len(apart) < options.kills:
        trial = Trial(folder / f"apart-{len(apart)}-{late}", options)
        part_s = whole_s / options.kills
        killed = trial.kill(*random_place(len(apart) * part_s, (len(apart) + 1) * part_s))
        if trial.index.exists():
            late += 1  # the kill came after the end
        else:
            apart.append({**killed, **trial.complete([killed], mentions[::10], expected)})
    chain = Trial(folder / "chain", options)
    most = 2 * len(moments) / options.kills
    kills = [chain.kill(int(generator.uniform(1, most)), generator.uniform(0, 0.02)) for _ in range(options.kills)]
    last = chain.complete(kills, mentions[::10], expected)
    steps = Counter(piece.split()[0] for piece in pieces.elements())
    return {"whole_s": round(whole_s, 3), "pieces": steps, "index": expected, "apart": apart} | {
        "chain": {"kills": kills, **last}
    }


def main() -> None:
    """Measure and write the result."""
    if sys.argv[1:2] == ["--build"]:
        build_logged(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--articles", type=int, default=16_000, help="and a redirect for every fourth")
    parser.add_argument("--batch-size", type=int, default=400)
    parser.add_argument("--range-rows", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    named = {name: getattr(options, name) for name in ("kills", "articles", "batch_size", "range_rows", "seed")}
    kills = [*result["apart"], *result["chain"]["kills"]]
    steps = Counter(kill["step"] for kill in kills)
    worst = max(kill["lost"] for kill in kills)
    report({**named, "most_pieces_lost_by_a_kill": worst, "kills_by_step": steps, **result}, options.output)


if __name__ == "__main__":
    main()
