"""The tables of `docs/results.md` on the annotation of collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.tables import read, table


def annotation_rates() -> str:
    """Rate and memory of each engine and number of workers, beside trainings."""
    return rates("collection")


def annotation_scaling() -> str:
    """Rate and memory of one and two workers on a machine that does nothing else."""
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


ANNOTATION_TABLES: dict[str, Callable[[], str]] = {
    "annotation_rates": annotation_rates,
    "annotation_scaling": annotation_scaling,
    "annotation_kills": annotation_kills,
}
