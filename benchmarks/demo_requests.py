"""The demo under load: many requests at once, all answered, and the memory of its server round after round.

    python -m benchmarks.demo_requests --output results/demo/requests.json

The server is `hf-mner demo` with the embedded model, in a process of its own. Every second request has an image of
1280 x 960 pixels and a caption. Each waits in the queue and is then answered by the endpoint `/recognize`.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from PIL import Image

from benchmarks.timing import report

TEXT = "Steve Kerr and the #Warriors land in Oakland after beating the Cleveland Cavaliers"
CAPTION = "a man in a suit beside a basketball court"
MEGABYTE = 2**20


class Answer(NamedTuple):
    """How a request ended: `complete` with entities, `error`, or a refusal, and after how many seconds."""

    kind: str
    entities: int
    seconds: float


@contextmanager
def serving(port: int, queue_size: int, start_s: float) -> Iterator[psutil.Process]:
    """Run `hf-mner demo` until the block ends."""
    command = [sys.executable, "-m", "hf_mner.cli.main", "demo", "--port", str(port), "--queue-size", str(queue_size)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until_it_answers(port, server, start_s)
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(30)


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes], start_s: float) -> None:
    """Ask for the page until it is there.

    Raises:
        RuntimeError: if the server ended, or took longer than `start_s`.
    """
    limit = time.monotonic() + start_s
    while time.monotonic() < limit and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"The demo did not start within {start_s:g} s (exit code {server.poll()}).")


def encoded_image() -> str:
    """Return a picture of 1280 x 960 pixels as a `data:` address."""
    content = io.BytesIO()
    Image.linear_gradient("L").resize((1280, 960)).convert("RGB").save(content, format="JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def ask(port: int, image: str | None) -> Answer:
    """Send one request and wait for its answer."""
    started = time.perf_counter()
    route = f"http://127.0.0.1:{port}/gradio_api/call/recognize"
    body = json.dumps({"data": [TEXT, image, CAPTION if image else None, "scanner", 0.0, None]}).encode()
    try:
        request = urllib.request.Request(route, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as reply:
            event = json.load(reply)["event_id"]
        with urllib.request.urlopen(f"{route}/{event}", timeout=300) as reply:
            kind, data = reply.read().decode().strip().splitlines()[-2:]
    except urllib.error.HTTPError as error:
        return Answer(f"refused ({error.code})", 0, time.perf_counter() - started)
    found = json.loads(data.removeprefix("data: "))
    return Answer(
        kind.removeprefix("event: "), len(found[0]) if isinstance(found, list) else 0, time.perf_counter() - started
    )


def run_round(port: int, number: int, image: str) -> tuple[list[Answer], float]:
    """Send requests at once; return their answers and the seconds until the last one."""
    started = time.perf_counter()
    with ThreadPoolExecutor(number) as pool:
        answers = list(pool.map(lambda index: ask(port, image if index % 2 else None), range(number)))
    return answers, time.perf_counter() - started


def summarize(answers: list[Answer], seconds: float, memory: int) -> dict[str, Any]:
    """Return what a round says."""
    times = sorted(answer.seconds for answer in answers)
    return {
        "requests": len(answers),
        "answered": sum(answer.kind == "complete" and answer.entities > 0 for answer in answers),
        "seconds": seconds,
        "median_s": statistics.median(times),
        "slowest_s": times[-1],
        "server_mb": memory / MEGABYTE,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=50, help="sent at once")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--port", type=int, default=7893)
    parser.add_argument("--queue-size", type=int, default=64)
    parser.add_argument("--start-s", type=float, default=180, help="the server has this long to start")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    image = encoded_image()
    with serving(options.port, options.queue_size, options.start_s) as server:
        before = server.memory_info().rss
        rounds = []
        for _ in range(options.rounds):
            answers, seconds = run_round(options.port, options.requests, image)
            rounds.append(summarize(answers, seconds, server.memory_info().rss))
    report({"queue_size": options.queue_size, "server_mb_before": before / MEGABYTE, "rounds": rounds}, options.output)


if __name__ == "__main__":
    main()
