"""A demo with tiny models, served from a thread, for the tests that talk to one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tiny import TINY_SYSTEMS

from hf_mner.demo.interface import build_demo, launch_demo
from hf_mner.demo.requests import Limits

LIMITS = Limits(text_characters=200, image_pixels=10_000, file_bytes=40_000, queue_size=4)


class DemoServer(NamedTuple):
    """Where it listens, what it serves, and the folder of each model by its name."""

    url: str
    demo: Any
    models: dict[str, str]


@contextmanager
def serve_demo(scanner_folder: Path, folder: Path) -> Iterator[DemoServer]:
    """Serve a grounded tiny SCANNER and a tiny MNER-QG with random weights, and small limits."""
    grounded = TINY_SYSTEMS["mner_qg"]
    grounded.model().save_pretrained(folder)
    grounded.processor().save_pretrained(folder)
    models = {"scanner": str(scanner_folder), "grounded": str(folder)}
    demo = build_demo(models, limits=LIMITS)
    _, url, _ = launch_demo(demo, "127.0.0.1", None, LIMITS, prevent_thread_lock=True, quiet=True)
    try:
        yield DemoServer(url.rstrip("/"), demo, models)
    finally:
        demo.close(verbose=False)
