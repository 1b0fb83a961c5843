"""The tables of `docs/results.md` on the annotation of collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.tables import read, table


def annotation_rates() -> str:
    """Rate and memory of each engine and number of workers, at 200,000 posts."""
    return rates("collection")


def annotation_scaling() -> str:
    """Rate and memory of one and two workers with the embedded SCANNER."""
    return rates("scaling")


def rates(name: str) -> str:
    """Rate and memory of the arms of a results file."""
    measured = read(f"annotation/{name}")
    rows = [arm_row(arm) for arm in measured["arms"]]
    header = [f"{measured['rows']:,} posts, shards of {measured['shard_size']:,}", "posts/s", "CPU s for 1,000 posts"]
    header += ["peak MB", "peak MB by quarter of the run", "bytes as in the first line"]
    return table(header, rows)


def arm_row(arm: dict[str, Any]) -> list[str]:
    """One line of the rates."""
    quarters = ", ".join(f"{peak:,}" for peak in arm["peak_mb_by_quarter"])
    return [
        f"{arm['engine']}, {arm['workers']} worker{'s' if arm['workers'] > 1 else ''}",
        f"{arm['rows_per_s']:.1f}",
        f"{1000 * arm['cpu_s'] / arm['rows']:.1f}",
        f"{arm['peak_mb']:,}",
        quarters,
        "yes" if arm["is_same"] else "no",
    ]


def annotation_kills() -> str:
    """Jobs that were killed and went on."""
    rows = [
        [
            f"{one['engine']}, 2 workers",
            str(one["kills_of_the_command"]),
            str(one["kills_of_a_worker"]),
            "yes" if one["was_started_again_after_the_worker"] else "no",
            "yes" if one["is_same"] else "no",
        ]
        for one in read("annotation/collection")["kills"]
    ]
    header = ["`kill -9`", "of the command", "of a worker", "worker's kill stopped the job", "bytes as undisturbed"]
    return table(header, rows)


def annotation_parts() -> str:
    """The measured parts of the forecast that the collection itself does not show."""
    parts = read("annotation/forecast")["parts"]
    rows = [
        ["digest of the input, for each 100 MB, s", f"{100 * parts['digest_s_per_mb']:.3f}"],
        ["counts of a finished shard, ms", f"{1e3 * parts['counts_s_per_shard']:.2f}"],
        ["opening a model, s", f"{parts['open_model_s']:.1f}"],
        ["empty shards that Ray Data hands out in a second", f"{parts['ray_shards_per_s']:.0f}"],
        ["bytes of a post, read and written (compressed)", byte_pair(parts)],
    ]
    return table(["part", "measured"], rows)


def byte_pair(parts: dict[str, float]) -> str:
    """Bytes of a post in the input and in the output."""
    return f"{parts['read_bytes_per_post']:.0f}, {parts['written_bytes_per_post']:.0f}"


def annotation_forecast() -> str:
    """Time, memory, cost and loads of 100 million posts."""
    measured = read("annotation/forecast")
    lines: dict[str, Callable[[dict[str, float]], str]] = {
        "hours": lambda one: f"{one['hours']:.2f}",
        "posts/s": lambda one: f"{one['posts_per_s']:,.0f}",
        "dollars": lambda one: f"{one['price']:.2f}",
        "memory of a machine, GB": lambda one: f"{one['memory_gb_of_a_machine']:.0f}",
        "share of the time that the driver works alone": lambda one: f"{100 * one['driver_share']:.1f} %",
        "share that goes into the last shards": lambda one: f"{100 * one['last_shards_share']:.1f} %",
        "input, output, MB/s": lambda one: f"{one['read_mb_per_s']:.1f}, {one['written_mb_per_s']:.1f}",
        "shards/s": lambda one: f"{one['shards_per_s']:.1f}",
        "of what Ray Data can hand out": lambda one: f"{100 * one['share_of_ray_shards']:.1f} %",
    }
    rows = [[label, *(write(one) for one in measured["forecasts"])] for label, write in lines.items()]
    columns = [f"{one['machines']} x {measured['machine_cores']} cores" for one in measured["forecasts"]]
    return table([f"{measured['posts']:,} posts", *columns], rows)


ANNOTATION_TABLES: dict[str, Callable[[], str]] = {
    "annotation_rates": annotation_rates,
    "annotation_scaling": annotation_scaling,
    "annotation_kills": annotation_kills,
    "annotation_parts": annotation_parts,
    "annotation_forecast": annotation_forecast,
}
