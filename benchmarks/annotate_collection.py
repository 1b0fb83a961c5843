"""`hf-mner annotate` on many posts: rate, memory over time, `kill -9` of workers and of the whole, and equal bytes.

    python -m benchmarks.annotate_collection --data-dir DATA --rows 200000 --output results/annotation/collection.json

The posts are the tweets of Twitter-2015 and Twitter-2017 over and over, each time with other noise, so that none is
like another (`--alike`: without noise, to see what reading once saves). Each arm is a process of its own. Rows per
second are over all shards, with the loading of the models; CPU seconds are those of all processes of the arm, whatever
else the machine does. Memory is what the arm's processes hold alone (USS), summed.
The output of every arm, killed or not, must have the bytes of the first; the program fails if one has not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import report
from hf_mner import load_mner_dataset

SAMPLE_S = 2.0
BLOCK = 1_000
NOISE = ("haha", "omg", "so true", "via", "rt", "wow", "check this", "today", "live now", "lol")
Sample = dict[str, float]


def tweets(data_dir: Path) -> list[str]:
    """Return the texts of both data sets."""
    sets = [load_mner_dataset(name, data_dir, knowledge=[]) for name in ("twitter2017", "twitter2015")]
    return [" ".join(tokens) for loaded in sets for split in loaded.values() for tokens in split["tokens"]]


def make_posts(texts: list[str], rows: int, is_alike: bool) -> Iterator[dict[str, str]]:
    """Yield as many posts as rows; with noise, no two have the same text."""
    draw = random.Random(0)
    for number in range(rows):
        text = texts[number % len(texts)]
        if not is_alike and number >= len(texts):
            text = f"{draw.choice(NOISE)} {text} {draw.choice(NOISE)} {number}"
        yield {"id": f"post-{number}", "text": text}


def write_posts(posts: Iterator[dict[str, str]], path: Path) -> None:
    """Write posts as Parquet, a block at a time."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        block: list[dict[str, str]] = []
        for post in posts:
            block.append(post)
            if len(block) == BLOCK:
                writer.write_table(pa.Table.from_pylist(block, schema=schema))
                block = []
        if block:
            writer.write_table(pa.Table.from_pylist(block, schema=schema))


def digests(folder: Path) -> str:
    """Return one digest of all files of an output."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Arm:
    """One way to annotate the posts, and what was measured of it."""

    def __init__(self, options: argparse.Namespace, posts: Path, output: Path, engine: str, workers: int):
        self.options, self.posts, self.output, self.engine, self.workers = options, posts, output, engine, workers

    def start(self) -> subprocess.Popen[str]:
        """Start the command."""
        command = [sys.executable, "-m", "hf_mner.cli.main", "annotate", str(self.posts), str(self.output)]
        command += ["--engine", self.engine, "--workers", str(self.workers)]
        command += ["--shard-size", str(self.options.shard_size), "--precision", self.options.precision]
        if self.options.model:
            command += ["--model", self.options.model]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def shards(self) -> int:
        """Count the shards that are written."""
        return len(list(self.output.glob("data/train-*.parquet")))

    def run(self, interrupt: Callable[[Arm, subprocess.Popen[str]], bool] | None = None) -> dict[str, Any]:
        """Run the command to its end, or until `interrupt` says that it killed it.

        Returns:
            `samples` of memory, `cpu_s`, `output` (what it said), and `is_killed`.
        """
        job = self.start()
        samples: list[Sample] = []
        cpu: dict[int, float] = {}
        started = time.perf_counter()
        is_killed = False
        while job.poll() is None:
            samples.append({"s": time.perf_counter() - started, "mb": measure(job.pid, cpu), "shards": self.shards()})
            if interrupt is not None and interrupt(self, job):
                is_killed = True
                break
            time.sleep(SAMPLE_S)
        said, errors = job.communicate()
        if job.returncode and not is_killed and interrupt is None:
            raise SystemExit(f"{self.engine}, {self.workers} workers: {errors}")
        return {"samples": samples, "cpu_s": sum(cpu.values()), "output": said, "is_killed": is_killed}


def measure(pid: int, cpu: dict[int, float]) -> float:
    """Return the megabytes that a process and its children hold alone, and note their CPU seconds."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in family:
        try:
            total += process.memory_full_info().uss
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 1e6


def memory_by_quarter(samples: list[Sample]) -> list[float]:
    """Return the peak in each quarter of the time between the first shard and the last sample."""
    working = [sample for sample in samples if sample["shards"] >= 1]
    if not working:
        return []
    begin, end = working[0]["s"], working[-1]["s"]
    quarters: list[float] = [0.0] * 4
    for sample in working:
        place = min(int(4 * (sample["s"] - begin) / max(end - begin, 1e-9)), 3)
        quarters[place] = max(quarters[place], sample["mb"])
    return [round(peak) for peak in quarters]


def measured(arm: Arm, reference: str | None) -> tuple[dict[str, Any], str]:
    """Run an arm once and return its numbers, and the digest of its output."""
    run = arm.run()
    rows, seconds = re.findall(r"; (\d+) rows in ([\d.]+) s", run["output"])[-1]
    digest = digests(arm.output)
    return {
        "engine": arm.engine,
        "workers": arm.workers,
        "rows": int(rows),
        "seconds": float(seconds),
        "rows_per_s": int(rows) / float(seconds),
        "cpu_s": run["cpu_s"],
        "peak_mb": round(max(sample["mb"] for sample in run["samples"])),
        "peak_mb_by_quarter": memory_by_quarter(run["samples"]),
        "is_same": reference is None or digest == reference,
    }, digest


def kill_whole(draw: random.Random) -> Callable[[Arm, subprocess.Popen[str]], bool]:
    """Return an interrupt that kills the command (`kill -9`) once another one or two shards are written."""
    goal: list[int] = []

    def interrupt(arm: Arm, job: subprocess.Popen[str]) -> bool:
        goal.append(arm.shards() + draw.randint(1, 2)) if not goal else None
        if arm.shards() < goal[0]:
            return False
        job.kill()
        return True

    return interrupt


def kill_worker(arm: Arm, job: subprocess.Popen[str], killed: list[int]) -> bool:
    """Kill (`kill -9`) one worker after the first new shard; say whether the command is expected to end."""
    marks = {"ray": "ShardActor", "local": "spawn_main"}
    if killed or arm.shards() < killed_after(arm):
        return False
    for child in psutil.Process(job.pid).children(recursive=True):
        if any(marks[arm.engine] in part for part in child.cmdline()):
            child.kill()
            killed.append(child.pid)
            break
    return False


def killed_after(arm: Arm) -> int:
    """Return after how many shards a worker is killed."""
    return max(1, arm.options.rows // arm.options.shard_size // 3)


def kills(options: argparse.Namespace, posts: Path, folder: Path, engine: str, reference: str) -> dict[str, Any]:
    """Kill the whole command some times, and one of its workers once; then let it end."""
    draw = random.Random(1)
    arm = Arm(options, posts, folder / f"killed-{engine}", engine, 2)
    times = 0
    for _ in range(options.kills):
        times += arm.run(kill_whole(draw))["is_killed"]
    workers: list[int] = []
    first = arm.run(lambda one, job: kill_worker(one, job, workers))
    needed_again = "rows in" not in first["output"]
    if needed_again:  # the local engine stops when a worker dies, Ray starts another one
        arm.run()
    return {
        "engine": engine,
        "kills_of_the_command": times,
        "kills_of_a_worker": len(workers),
        "was_started_again_after_the_worker": needed_again,
        "is_same": digests(arm.output) == reference,
    }


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shard-size", type=int, default=5_000)
    parser.add_argument("--model", help="checkpoint; default: the embedded one")
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or int8")
    parser.add_argument("--alike", action="store_true", help="no noise: most posts are like others")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kills", type=int, default=3, help="of the whole command, for each engine")
    parser.add_argument("--folder", type=Path, help="for posts and outputs; default: a temporary one")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        posts = folder / "posts.parquet"
        texts = tweets(options.data_dir)
        write_posts(make_posts(texts, options.rows, options.alike), posts)
        arms, killed = [], []
        reference: str | None = None
        for engine in options.engines:
            for workers in options.workers:
                arm = Arm(options, posts, folder / f"{engine}-{workers}", engine, workers)
                numbers, digest = measured(arm, reference)
                reference = reference or digest
                arms.append(numbers)
                print(json.dumps(numbers), flush=True)
        if options.kills:
            killed = [kills(options, posts, folder, engine, str(reference)) for engine in options.engines]
        result = {
            "rows": options.rows,
            "tweets": len(texts),
            "is_alike": options.alike,
            "model": Path(options.model).name if options.model else "embedded",
            "precision": options.precision,
            "shard_size": options.shard_size,
            "posts_mb": posts.stat().st_size / 1e6,
            "cpus": psutil.cpu_count(),
            "arms": arms,
            "kills": killed,
        }
    report(result, options.output)
    return int(not all(one["is_same"] for one in [*arms, *killed]))


if __name__ == "__main__":
    sys.exit(main())
