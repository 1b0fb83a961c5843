"""LLM rationales of real tweets over an endpoint that fails now and then, with a store and budgets that end.

    python -m benchmarks.llm_endpoint --output results/knowledge/llm_endpoint.json

The endpoint is the scripted server of the tests, on this machine. It answers fixed shares of the requests, drawn by a
seed, with 429, too late, with a malformed rationale or with 500, and the rest with what ChatGPT said of the tweet. So
this measures the client and the bookkeeping, no language model. Three parts, each with tweets of the test split of
Twitter-2017 and their BLIP-2 captions:

- `failures`: all of them at once; every tweet gets its answer.
- `resume`: with failures, runs whose budget of requests ends, until all is in the store. A batch that a budget broke
  off is asked again; a tweet of a finished batch never.
- `threads`: without failures, for 0.2 s an answer, how long it takes by the number of requests at the same time.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import report, seconds
from hf_mner.data import load_mner_dataset
from hf_mner.knowledge import BudgetReached, KnowledgeStore, LlmRationales, Stored, parse_rationale

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "knowledge"))
from chat_server import ChatServer, Reply, Request, answer, failure

SHARES = {"429": 0.10, "timeout": 0.05, "malformed answer": 0.05, "500": 0.03}
TIMEOUT_S = 0.5
BATCH = 8


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="the data folder; default: HF_MNER_DATA")
    parser.add_argument("--posts", type=int, default=200)
    parser.add_argument("--requests", type=int, default=70, help="budget of each run of the part `resume`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    os.environ.pop("OPENAI_API_KEY", None)
    posts, answers = load_posts(options.data_dir, options.posts)
    result = {
        "posts": len(posts),
        "shares_of_failures": SHARES,
        "seed": options.seed,
        "failures": measure_failures(posts, answers, options.seed),
        "resume": measure_resume(posts, answers, options.seed, options.requests),
        "threads": measure_threads(posts[:40], answers),
    }
    report(result, options.output)


def load_posts(data_dir: Path | None, count: int) -> tuple[list[Any], dict[str, str]]:
    """Return distinct tweets with their captions alone, and what ChatGPT said of each text."""
    posts, answers = [], {}
    for example in load_mner_dataset("twitter2017", data_dir)["test"]:
        text, said = " ".join(example["tokens"]), example["knowledge"]["auxiliary"]
        if text not in answers and said and parse_rationale(said) and len(posts) < count:
            answers[text] = " ".join(said.split())
            posts.append({**example, "knowledge": {"caption": example["knowledge"]["caption"]}})
    return posts, answers


def posted(request: Request) -> str:
    """Return the text of the tweet that a request asks about."""
    return re.findall(r"^Text: (.*)$", request.content, re.MULTILINE)[-1]


def failing(answers: dict[str, str], seed: int) -> Callable[[Request], Reply]:
    """Return a script that fails in the given shares; which one fails depends on the text and how often it came."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def script(request: Request) -> Reply:
        text = posted(request)
        with lock:
            seen[text] += 1
            draw = random.Random(f"{seed} {seen[text]} {text}").random()
        for kind, share in SHARES.items():
            draw -= share
            if draw < 0:
                return {
                    "429": failure(429, "slow down", retry_after="0.2"),
                    "timeout": answer(answers[text], delay_s=4 * TIMEOUT_S),
                    "malformed answer": answer("I am sorry, but I cannot see the image."),
                    "500": failure(500),
                }[kind]
        return answer(answers[text], delay_s=0.02)

    return script


def make_source(server: ChatServer, **settings: Any) -> LlmRationales:
    """Return the source that is measured, with packaged examples."""
    return LlmRationales("scripted", server.base_url, **{"timeout_s": TIMEOUT_S, "concurrency": 8, **settings})


def right(texts: Sequence[str | None], posts: Sequence[Any], answers: dict[str, str]) -> int:
    """Count the tweets that got their own answer."""
    return sum(text == answers[" ".join(post["tokens"])] for text, post in zip(texts, posts, strict=True))


def measure_failures(posts: list[Any], answers: dict[str, str], seed: int) -> dict[str, Any]:
    """Ask for all tweets at once."""
    with ChatServer(failing(answers, seed)) as server:
        source = make_source(server)
        texts: list[Any] = []
        time_s = seconds(lambda: texts.extend(source(posts)))
        spent = source.endpoint.spent
        return {
            "requests": len(server.requests),
            "requests_counted": spent.requests,
            "failures": dict(sorted(source.endpoint.failures.items())),
            "right_answers": right(texts, posts, answers),
            "seconds": round(time_s, 2),
        }


def measure_resume(posts: list[Any], answers: dict[str, str], seed: int, requests: int) -> dict[str, Any]:
    """Ask in runs whose budget ends, with a store, until it holds all."""
    runs = []
    with tempfile.TemporaryDirectory() as folder, ChatServer(failing(answers, seed)) as server:
        finished: set[str] = set()
        repeated_finished = repeated = 0
        texts = None
        while texts is None:
            before = len(server.requests)
            with KnowledgeStore(Path(folder) / "knowledge.sqlite") as store:
                source = make_source(server, max_requests=requests)
                stored = Stored(source, store, batch_size=BATCH)
                try:
                    texts = stored(posts)
                    ended = "all there"
                except BudgetReached:
                    ended = "budget reached"
                kept = Stored(source, store, compute=False)(posts)
            asked = {posted(request) for request in server.requests[before:]}
            repeated_finished += len(asked & finished)
            repeated += len(asked & {posted(request) for request in server.requests[:before]})
            finished = {" ".join(post["tokens"]) for post, text in zip(posts, kept, strict=True) if text is not None}
            runs.append({"requests": len(server.requests) - before, "kept": len(finished), "ended": ended})
        return {
            "budget_requests": requests,
            "batch_size": BATCH,
            "runs": runs,
            "posts_of_finished_batches_asked_again": repeated_finished,
            "posts_of_broken_batches_asked_again": repeated,
            "right_answers": right(texts, posts, answers),
        }


def measure_threads(posts: list[Any], answers: dict[str, str]) -> dict[str, Any]:
    """Time calls of several widths, with an endpoint that takes 0.2 s for an answer."""
    times = {}
    for concurrency in (1, 2, 4, 8):
        with ChatServer(lambda request: answer(answers[posted(request)], delay_s=0.2)) as server:
            source = make_source(server, concurrency=concurrency, timeout_s=30)
            time_s = seconds(lambda source=source: source(posts))
            assert server.most_at_once <= concurrency, "more requests at the same time than allowed"
        times[str(concurrency)] = {"seconds": round(time_s, 2), "posts_per_second": round(len(posts) / time_s, 1)}
    return {"posts": len(posts), "seconds_an_answer": 0.2, "concurrency": times}


if __name__ == "__main__":
    main()
