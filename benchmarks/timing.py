"""Timing that all benchmarks share: arms that take turns in one process, so that a busy machine slows all alike."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def seconds(run: Callable[[], object]) -> float:
    """Time one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Time two arms by turns, after one run of each to warm up.

    Returns:
        The median seconds of each, and the median over the turns of the second's time in units of the first's.
    """
    one(), other()
    pairs = [(seconds(one), seconds(other)) for _ in range(repeats)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return first, second, statistics.median(right / left for left, right in pairs)


def updates(model: Any, loss: Callable[[dict], Any], batches: Sequence[dict]) -> Callable[[], None]:
    """Return a function that trains a model on all batches once."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def run() -> None:
        for batch in batches:
            loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print a result, and write it as JSON where asked."""
    text = json.dumps(result, indent=2)
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
