"""The embedded default with fewer bits, compiled, and in ONNX Runtime: speed and F1 on Twitter-2017's test split.

    python -m benchmarks.precision --data-dir DATA --output results/inference/precision.json

Captions and encyclopedia entries are looked up beforehand. Every arm reads all tweets once for its F1; then the arms
take turns over the first tweets, and the median of their CPU times counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import hf_mner
from benchmarks.timing import report
from hf_mner.evaluation import spans_of
from hf_mner.inference.onnx_export import export_onnx
from hf_mner.knowledge.base import add_knowledge
from hf_mner.metrics import score_spans
from hf_mner.models.base.recognition import recognize_by_stage, recognize_entities
from hf_mner.pipelines import DEFAULT_CHECKPOINT
from hf_mner.training.run import examples_of


def open_arms(scratch: Path, with_compiler: bool) -> dict[str, Any]:
    """Open the model in every way; ONNX files are written first."""
    arms: dict[str, Any] = {"float32": hf_mner.pipeline()}
    for name, int8 in (("ONNX Runtime, float32", False), ("ONNX Runtime, int8", True)):
        folder = export_onnx(str(DEFAULT_CHECKPOINT), scratch / ("int8" if int8 else "float32"), int8)
        arms[name] = hf_mner.pipeline(model=str(folder))
    arms["bfloat16"] = hf_mner.pipeline(precision="bfloat16")
    arms["int8"] = hf_mner.pipeline(precision="int8")
    if with_compiler:
        arms["float32, compiled"] = hf_mner.pipeline(compiled=True)
    return arms


def read_with(pipe: Any, examples: list[Any], batch_size: int) -> Callable[[], list[Any]]:
    """Return a function that reads the examples."""
    return lambda: recognize_entities(pipe.model, pipe.processor, examples, batch_size=batch_size)


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a run, all threads together."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--timed-tweets", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = hf_mner.load_mner_dataset("twitter2017", options.data_dir, knowledge=["blip2_captions"])
    examples = examples_of(data["test"])
    gold = [spans_of(example) for example in examples]
    source = hf_mner.Encyclopedia.from_files(options.data_dir / "wikipedia" / "entities.jsonl.gz")
    with tempfile.TemporaryDirectory() as scratch:
        arms = open_arms(Path(scratch), options.compile)
        plain = arms["float32"]
        candidates = list(recognize_by_stage(plain.model, plain.processor, examples))[0][1]
        looked_up = add_knowledge(candidates, [source])
        ready = [{**one, "knowledge": found["knowledge"]} for one, found in zip(examples, looked_up, strict=True)]
        scores, times = {}, {name: [] for name in arms}
        for name, pipe in arms.items():
            found = read_with(pipe, ready, options.batch_size)()
            scores[name] = score_spans([spans_of(one) for one in found], gold)["f1"]
        few = ready[: options.timed_tweets]
        for _ in range(options.repeats):
            for name, pipe in arms.items():
                times[name].append(cpu_seconds(read_with(pipe, few, options.batch_size)))
    base = times["float32"]
    result = {
        "arms": {
            name: {
                "f1": scores[name],
                "cpu_ms_per_tweet": 1e3 * statistics.median(times[name]) / len(few),
                "speed_up": statistics.median(one / other for one, other in zip(base, times[name], strict=True)),
            }
            for name in arms
        },
        "scored_tweets": len(ready),
        "timed_tweets": len(few),
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "threads": options.threads,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
