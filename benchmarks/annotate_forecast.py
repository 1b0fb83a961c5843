"""What 100 million posts take on 1, 8 and 64 machines, calculated from measured parts.

    python -m benchmarks.annotate_forecast --folder FOLDER --output results/annotation/forecast.json

FOLDER is that of `annotate_collection.py`, whose results/annotation/collection.json gives CPU seconds, memory and
bytes of a post. Measured here are the parts that one process does for all, whatever the number of machines: the digest
of the input and the counts of finished shards; further the opening of a model, and how many empty shards Ray Data
hands out in a second. It is a calculation, not a measurement. Posts are independent and a shard is the unit of work:

    seconds = driver + opening of the models + posts * CPU seconds / (cores * efficiency) + last shards

where efficiency is that of two workers against one in the collection (memory and caches are shared), and at the end
half of the workers wait for half a shard.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tables import read
from benchmarks.timing import report, seconds
from hf_mner.annotation.digests import file_digest
from hf_mner.annotation.shard_files import ShardFiles

POSTS = 100_000_000
MACHINES = (1, 8, 64)


class IdleActor:
    """An actor that does nothing with a shard's number."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch."""
        return batch


def ray_shards_per_s(count: int) -> float:
    """Return how many empty shards Ray Data hands out in a second, as `run_on_ray` does."""
    import ray.data

    from hf_mner.annotation.ray_engine import quiet_progress

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        quiet_progress(ray)

        def run(shards: int) -> None:
            numbers = ray.data.from_items([{"shard": number} for number in range(shards)], override_num_blocks=shards)
            pool = ray.data.ActorPoolStrategy(size=2)
            list(numbers.map_batches(IdleActor, batch_size=1, compute=pool).iter_rows())

        started = seconds(lambda: run(2))  # starts actors
        return count / max(seconds(lambda: run(count)) - started, 1e-9)
    finally:
        ray.shutdown()


def repeated(run: Callable[[], object]) -> float:
    """Return the median seconds of five runs after one to warm up: files come from the system's cache."""
    return statistics.median([seconds(run) for _ in range(6)][1:])


def open_model(options: argparse.Namespace) -> None:
    """Open a model as a worker does."""
    from hf_mner import pipeline

    pipeline(model=options.model, precision=options.precision)


def measure(options: argparse.Namespace, collection: dict[str, Any]) -> dict[str, float]:
    """Measure the parts that do not become less with more machines."""
    posts = options.folder / "posts.parquet"
    shards = ShardFiles(options.folder / "local-1", collection["rows"], collection["shard_size"])
    written = sum(shards.path(number).stat().st_size for number in range(shards.count))
    return {
        "digest_s_per_mb": repeated(lambda: file_digest(posts)) / (posts.stat().st_size / 1e6),
        "counts_s_per_shard": repeated(lambda: [shards.counts(i) for i in range(shards.count)]) / shards.count,
        "open_model_s": seconds(lambda: open_model(options)),
        "ray_shards_per_s": ray_shards_per_s(options.empty_shards),
        "read_bytes_per_post": posts.stat().st_size / collection["rows"],
        "written_bytes_per_post": written / collection["rows"],
    }


def forecast(
    parts: dict[str, float], collection: dict[str, Any], machines: int, options: argparse.Namespace
) -> dict[str, float]:
    """Calculate time, memory, cost and rates for a number of machines."""
    one = find_arm(collection, "local", 1)
    two = find_arm(collection, "local", 2)
    efficiency = min(two["rows_per_s"] / one["rows_per_s"] / 2, 1.0)
    cpu_s = one["cpu_s"] / one["rows"]  # of a post, with its share of the loading
    cores = machines * options.machine_cores
    shards = POSTS / options.shard_size
    driver = (
        POSTS * parts["read_bytes_per_post"] / 1e6 * parts["digest_s_per_mb"] + shards * parts["counts_s_per_shard"]
    )
    working = POSTS * cpu_s / (cores * efficiency)
    last = 0.5 * options.shard_size * cpu_s
    total = driver + parts["open_model_s"] + working + last
    return {
        "machines": machines,
        "hours": total / 3600,
        "posts_per_s": POSTS / total,
        "price": cores * total / 3600 * options.price_per_core_hour,
        "memory_gb_of_a_machine": options.machine_cores * one["peak_mb"] / 1024,
        "driver_share": driver / total,
        "last_shards_share": last / total,
        "read_mb_per_s": POSTS / working * parts["read_bytes_per_post"] / 1e6,
        "written_mb_per_s": POSTS / working * parts["written_bytes_per_post"] / 1e6,
        "shards_per_s": shards / working,
        "share_of_ray_shards": shards / working / parts["ray_shards_per_s"],
        "efficiency": efficiency,
    }


def find_arm(collection: dict[str, Any], engine: str, workers: int) -> dict[str, Any]:
    """Return an arm of the collection."""
    return next(arm for arm in collection["arms"] if (arm["engine"], arm["workers"]) == (engine, workers))


def main() -> None:
    """Measure, calculate and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, type=Path, help="of annotate_collection.py")
    parser.add_argument("--model", help="checkpoint; default: the embedded one")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--machine-cores", type=int, default=16)
    parser.add_argument("--price-per-core-hour", type=float, default=0.04, help="dollars; an assumption")
    parser.add_argument("--shard-size", type=int, default=5_000)
    parser.add_argument("--empty-shards", type=int, default=1_000, help="that Ray Data is timed with")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    collection = read("annotation/collection")
    parts = measure(options, collection)
    result = {
        "posts": POSTS,
        "parts": parts,
        "forecasts": [forecast(parts, collection, machines, options) for machines in MACHINES],
        **{name: getattr(options, name) for name in ("machine_cores", "price_per_core_hour", "shard_size")},
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
