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


def record_batches(model: Any, run: Callable[[], object]) -> list[tuple[Any, dict[str, Any]]]:
    """Run once and keep the encoder and the inputs of every forward pass of a text encoder."""
    batches: list[tuple[Any, dict[str, Any]]] = []
    hooks = [
        encoder.register_forward_pre_hook(
            lambda module, _, kwargs: batches.append((module, dict(kwargs))), with_kwargs=True
        )
        for encoder in model.text_encoders()
    ]
    run()
    for hook in hooks:
        hook.remove()
    return batches


def encoders_alone(batches: Sequence[tuple[Any, dict[str, Any]]]) -> Callable[[], None]:
    """Return a function that runs the text encoders over recorded batches, and nothing else."""
    import torch

    def run() -> None:
        with torch.inference_mode():
            for encoder, inputs in batches:
                encoder(**inputs)

    return run


def report(result: dict[str, Any], output: Path | None) -> None:
    """Print a result, and write it as JSON where asked."""
    text = json.dumps(result, indent=2)
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
