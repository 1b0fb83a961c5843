"""What 100 million posts take on 1, 8 and 64 machines, from the measured parts of `annotate_collection.py`.

    python benchmarks/annotate_forecast.py --machine-cores 16 --price-per-core-hour 0.04

It is a calculation, not a measurement. Posts are independent and a shard is the unit of work, so that the time is the
CPU time of all posts over all cores, plus the loading of the models, plus the last shards that run while others wait.
What could saturate first is compared with that rate: the reading of the input, the writing of the output, and the one
process that hands out shards.
"""

from __future__ import annotations

import argparse
from typing import Any

from tables import read, table

POSTS = 100_000_000
MACHINES = (1, 8, 64)


def forecast(measured: dict[str, Any], machines: int, options: argparse.Namespace) -> dict[str, float]:
    """Calculate time, cost and rates for a number of machines."""
    arm = next(arm for arm in measured["arms"] if arm["workers"] == 1)
    cpu_s = arm["cpu_s"] / arm["rows"]  # for a post, with its share of the loading
    cores = machines * options.machine_cores
    shards = POSTS / options.shard_size
    waiting = 0.5 * options.shard_size * cpu_s  # at the end, half of the workers wait for half a shard
    seconds = POSTS * cpu_s / cores + waiting
    rate = POSTS / seconds
    return {
        "hours": seconds / 3600,
        "posts_per_s": rate,
        "price": cores * seconds / 3600 * options.price_per_core_hour,
        "memory_gb_of_a_machine": options.machine_cores * arm["peak_mb"] / 1024,
        "read_mb_per_s": rate * measured["posts_mb"] / measured["rows"],
        "written_mb_per_s": rate * options.bytes_out / 1e6,
        "shards_per_s": shards / seconds,
    }


def main() -> None:
    """Print the calculation as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine-cores", type=int, default=16)
    parser.add_argument("--price-per-core-hour", type=float, default=0.04)
    parser.add_argument("--shard-size", type=int, default=5_000)
    parser.add_argument("--bytes-out", type=float, default=200.0, help="of a post in the output, compressed")
    options = parser.parse_args()
    measured = read("annotation/collection")
    names = {
        "hours": "hours",
        "posts_per_s": "posts/s",
        "price": "price",
        "memory_gb_of_a_machine": "memory of a machine, GB",
        "read_mb_per_s": "input read, MB/s",
        "written_mb_per_s": "output written, MB/s",
        "shards_per_s": "shards handed out, 1/s",
    }
    columns = [forecast(measured, machines, options) for machines in MACHINES]
    rows = [[label, *(f"{column[key]:,.2f}" for column in columns)] for key, label in names.items()]
    print(table([f"{POSTS:,} posts", *(f"{machines} machines" for machines in MACHINES)], rows))


if __name__ == "__main__":
    main()
