"""Two-stage SCANNER against its two bare encoders over the same tokens, in one process.

    python -m benchmarks.scanner_throughput --data-dir DATA --output results/scanner/throughput.json

The limit is what the encoders alone need for the very batches that the two stages run. The ratio is limit time over
two-stage time, tokenisation, prompt building and decoding included; the knowledge is looked up beforehand. The median
of the repeats counts; both arms alternate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.timing import compare, encoders_alone, record_batches, report
from hf_mner import load_mner_dataset, pipeline, recognize_entities
from hf_mner.knowledge.base import add_knowledge
from hf_mner.knowledge.encyclopedia import Encyclopedia
from hf_mner.models.base import recognition
from hf_mner.training.run import examples_of


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--model", help="checkpoint; default: the embedded one")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    pipe = pipeline("multimodal-ner", model=options.model)
    test = load_mner_dataset("twitter2017", options.data_dir, knowledge=["blip2_captions"])["test"]
    encyclopedia = Encyclopedia.from_files(options.data_dir / "wikipedia" / "entities.jsonl.gz")
    examples = examples_of(test)
    candidates = next(recognition.recognize_by_stage(pipe.model, pipe.processor, examples))[1]
    looked_up = add_knowledge(candidates, [encyclopedia])
    ready = [{**gold, "knowledge": found["knowledge"]} for gold, found in zip(examples, looked_up, strict=True)]

    def two_stages() -> None:
        for first in range(0, len(ready), options.batch_size):
            chunk = ready[first : first + options.batch_size]
            recognize_entities(pipe.model, pipe.processor, chunk, batch_size=options.batch_size)

    batches = record_batches(pipe.model, two_stages)

    whole, bare, ratio = compare(two_stages, encoders_alone(batches), options.repeats)
    result = {
        "tweets": len(ready),
        "batch_size": options.batch_size,
        "threads": options.threads,
        "forward_passes": len(batches),
        "encoders_alone_s": bare,
        "two_stages_s": whole,
        "ratio": ratio,
        "tweets_per_s": len(ready) / whole,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
