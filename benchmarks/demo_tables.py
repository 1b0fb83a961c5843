"""Tables of `docs/results.md` about the demo and the start of a process."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables import read, table


def demo_requests() -> str:
    """Rounds of requests sent at once, and the memory of the server after each."""
    measured = read("demo/requests")
    rows = [["before", "-", "-", "-", "-", f"{measured['server_mb_before']:.0f}"]]
    for number, row in enumerate(measured["rounds"], start=1):
        answered = f"{row['answered']} / {row['requests']}"
        times = [f"{row[name]:.1f}" for name in ("seconds", "median_s", "slowest_s")]
        rows.append([str(number), answered, *times, f"{row['server_mb']:.0f}"])
    header = ["round", "answered / sent at once", "all, s", "median wait, s", "longest wait, s", "server, MiB"]
    return table(header, rows)


def start_time() -> str:
    """Imports in both orders, and the way to the first entity."""
    measured = read("demo/start_time")
    names = {"first entity": "import to the first entity, embedded model"}
    added = measured["added_to_transformers_s"]
    rows = [
        [names.get(name, f"import {name}"), f"{seconds:.2f}", f"{added[name]:.2f}" if name in added else "-"]
        for name, seconds in measured["seconds"].items()
    ]
    return table(["fresh process", "seconds", "more than transformers alone, s"], rows)


DEMO_TABLES: dict[str, Callable[[], str]] = {"demo_requests": demo_requests, "start_time": start_time}
