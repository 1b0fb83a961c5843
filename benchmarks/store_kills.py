"""`kill -9` while a knowledge store is filled, at random moments: what is lost, and what is done again.

    python -m benchmarks.store_kills --output results/knowledge/store_kills.json

"apart": each kill has a fresh store, from its first byte on, and the run after it completes it. "chain": one store
whose runs are all killed, until a last one completes it. After each kill the file is checked, and the finished items
are counted. The program fails if a file is damaged, more than a batch is lost, or a finished item is computed again.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.timing import report
from hf_mner.knowledge.store import KnowledgeStore, Stored, describe_source, example_keys


class LoggedSource:
    """Writes each item it is asked for into a log before it answers."""

    column, needs_entities, reads = "caption", False, ("tokens",)
    identity = {"source": "LoggedSource", "model": "", "revision": "", "prompt": "", "settings": "{}"}

    def __init__(self, log: Path, batch_s: float):
        self.log, self.batch_s = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), batch_s

    def __call__(self, examples: list[dict[str, Any]]) -> list[str]:
        """Answer after a while."""
        os.write(self.log, "".join(f"{example['id']}\n" for example in examples).encode())
        time.sleep(self.batch_s)
        return [f"caption {example['id']}: " + "a man in a red hat " * 15 for example in examples]


def make_examples(count: int) -> list[dict[str, Any]]:
    """Return posts of two words."""
    return [{"id": str(number), "tokens": ["word", str(number)]} for number in range(count)]


class Trial:
    """One store with the log of what was computed for it."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        folder.mkdir()
        self.store, self.log, self.options = folder / "knowledge.sqlite", folder / "log", options

    def run(self, kill_after_s: float | None = None, is_at_work: bool = False) -> tuple[float, str]:
        """Fill the store in a process of its own.

        Args:
            kill_after_s: seconds until `kill -9`; None = let it finish.
            is_at_work: count the seconds from the first batch on, not from the start of Python.

        Returns:
            The seconds it ran, and what it wrote to standard error.
        """
        numbers = [str(number) for number in (self.options.items, self.options.batch_size, self.options.batch_s)]
        command = [sys.executable, "-m", "benchmarks.store_kills", "--fill", str(self.store), str(self.log), *numbers]
        started = time.perf_counter()
        done = self.asked()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while is_at_work and process.poll() is None and self.asked() == done:
            time.sleep(0.001)
        try:
            _, told = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            _, told = process.communicate()
        assert process.returncode in (0, -9), told
        return time.perf_counter() - started, told

    def asked(self) -> Counter[str]:
        """Return how often each item was computed."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def finished(self) -> set[str]:
        """Check the file and return the items that it holds."""
        if not self.store.exists():
            return set()
        examples = make_examples(self.options.items)
        with KnowledgeStore(self.store) as store:
            store.check()
            keys = example_keys(store, describe_source(LoggedSource(self.log, 0.0)), examples)
            held = store.get_many(keys)
        return {example["id"] for key, example in zip(keys, examples, strict=True) if key in held}

    def kill(self, moment_s: float, is_at_work: bool = False) -> dict[str, Any]:
        """Kill a run and tell what it left; see `run`."""
        before = self.finished()
        asked_before = self.asked()
        self.run(moment_s, is_at_work)
        after = self.finished()
        lost = {item for item, count in (self.asked() - asked_before).items() if count} - after
        again = [item for item in before if self.asked()[item] > asked_before[item]]
        assert before <= after, "a finished item is gone"
        assert not again, f"{len(again)} finished items were computed again"
        assert len(lost) <= self.options.batch_size, f"{len(lost)} items were lost"
        calls = self.asked().total() - asked_before.total()
        return {
            "moment_s": round(moment_s, 4),
            "finished_before": len(before),
            "computed": calls,
            "finished_after": len(after),
            "lost": len(lost),
            "integrity": "ok",  # `finished` raises otherwise
        }

    def complete(self, kills: int) -> dict[str, Any]:
        """Let a last run finish, and compare the computed items with the limit."""
        before, asked_before = self.finished(), self.asked()
        _, told = self.run()
        new = self.asked() - asked_before
        assert not before & set(new), "finished items were computed again"
        assert len(self.finished()) == self.options.items, "items are lacking"
        total, limit = self.asked().total(), self.options.items + kills * self.options.batch_size
        assert total <= limit, f"{total} items were computed, the limit is {limit}"
        return {
            "computed_by_the_last_run": new.total(),
            "computed_in_all": total,
            "limit": limit,
            "told": re.sub(r"process \d+ on .*? UTC", "process ..., begun ...", told.strip()),
        }


def fill(store: str, log: str, items: str, batch_size: str, batch_s: str) -> None:
    """Fill a store, until the end or the kill."""
    with KnowledgeStore(store) as opened:
        Stored(LoggedSource(Path(log), float(batch_s)), opened, int(batch_size))(make_examples(int(items)))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill in both ways."""
    generator = random.Random(options.seed)
    whole_s = min(Trial(folder / f"whole-{number}", options).run()[0] for number in range(3))
    apart: list[dict[str, Any]] = []
    for number in itertools.count():
        if len(apart) == options.kills:
            break
        trial = Trial(folder / f"apart-{number}", options)
        killed = trial.kill(generator.uniform(0, whole_s))
        if killed["finished_after"] < options.items:  # else the kill came too late
            apart.append({**killed, **trial.complete(kills=1)})
    chain = Trial(folder / "chain", options)
    part_s = 1.5 * options.batch_s * options.items / options.batch_size / options.kills  # the last leaves work, too
    kills = [chain.kill(generator.uniform(0, part_s), is_at_work=True) for _ in range(options.kills)]
    last = chain.complete(options.kills)
    return {"whole_s": round(whole_s, 3), "apart": apart, "chain": {"kills": kills, **last}}


def main() -> None:
    """Measure and write the result."""
    if sys.argv[1:2] == ["--fill"]:
        fill(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batch-s", type=float, default=0.002, help="seconds that a batch takes to compute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    named = {name: getattr(options, name) for name in ("kills", "items", "batch_size", "batch_s", "seed")}
    worst = max(kill["lost"] for kill in [*result["apart"], *result["chain"]["kills"]])
    report({**named, "most_lost_by_a_kill": worst, **result}, options.output)


if __name__ == "__main__":
    main()
