"""All measurements of speed in one run: throughput, fewer bits, and the cost of a step; prints their tables.

    python -m benchmarks.speed --data-dir DATA --output results

Writes `annotation/throughput.json`, `inference/precision.json` and `speed/step-SYSTEM-SIZE.json` below the output
folder, some forty minutes on one core; `--limit 16 --repeats 1` is a quick look. Collections are measured by
`annotate_collection.py`, which takes two hours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import tables
from benchmarks.random_encoders import SIZES
from benchmarks.speed_tables import SPEED_TABLES, SYSTEM_NAMES


def commands(options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the arguments of `python -m` for each measurement."""
    shared = ["--data-dir", str(options.data_dir), "--repeats", str(options.repeats)]
    limit = str(options.limit)
    throughput, precision = options.output / "annotation/throughput.json", options.output / "inference/precision.json"
    yield ["benchmarks.throughput", *shared, "--limit", limit, "--output", str(throughput)]
    compiling = ["--compile"] if options.compile else []
    yield ["benchmarks.precision", *shared, "--timed-tweets", limit, "--output", str(precision), *compiling]
    tweets = ["--tweets", str(options.data_dir / "twitter2017" / "test.txt"), "--limit", "64"]
    for system in SYSTEM_NAMES:
        for size in SIZES:
            result = options.output / "speed" / f"step-{system}-{size}.json"
            yield ["benchmarks.step", "--system", system, "--encoder-size", size, *tweets, "--json", str(result)]


def main() -> None:
    """Run all measurements one after another and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--limit", type=int, default=150, help="tweets that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument("--output", type=Path, default=tables.RESULTS)
    options = parser.parse_args()
    for command in commands(options):
        print(" ".join(command), file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    tables.RESULTS = options.output
    for name, render in SPEED_TABLES.items():
        print(f"\n{name}\n\n{render()}")


if __name__ == "__main__":
    main()
