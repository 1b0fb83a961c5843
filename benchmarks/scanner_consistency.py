"""The same entities from a re-loaded checkpoint and from any batch size, on every test tweet.

python -m benchmarks.scanner_consistency --data-dir DATA --output results/scanner/consistency.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from hf_mner import load_mner_dataset, pipeline

Entities = list[list[dict[str, Any]]]


def compare(one: Entities, other: Entities) -> dict[str, float | int]:
    """Count the tweets whose entities differ in anything but the score, and give the largest difference of scores."""
    without_score = [[[{**e, "score": None} for e in tweet] for tweet in tweets] for tweets in (one, other)]
    differing = sum(a != b for a, b in zip(*without_score, strict=True))
    scores = [
        abs(a["score"] - b["score"])
        for pair in zip(one, other, strict=True)
        if len(pair[0]) == len(pair[1])
        for a, b in zip(*pair, strict=True)
    ]
    return {"tweets": len(one), "differing_tweets": differing, "largest_score_difference": max(scores)}


def main() -> None:
    """Compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--model", help="checkpoint; default: the embedded one")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)

    test = load_mner_dataset("twitter2017", options.data_dir, knowledge=["blip2_captions"])["test"]
    posts = [{"tokens": row["tokens"], "knowledge": row["knowledge"]} for row in test.remove_columns("image")]
    recognize = pipeline("multimodal-ner", model=options.model)
    batch_32 = recognize(posts, batch_size=32)
    with tempfile.TemporaryDirectory() as folder:
        recognize.save_pretrained(folder)
        reloaded = pipeline("multimodal-ner", model=folder)(posts, batch_size=32)
    result = {
        "saved and loaded again, batch 32": compare(batch_32, reloaded),
        "batch 1 against batch 32": compare(batch_32, recognize(posts, batch_size=1)),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
