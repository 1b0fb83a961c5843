"""What a system costs for each tweet, training and reading, with an encoder of random weights: CPU and wall time.

    python -m benchmarks.step --system mmavk --encoder-size base --batch 8 --tweets FILE --json OUT

FILE is a BIO file (`word<TAB>label` lines, an empty line between tweets), or has one tweet of plain text on each line
(then every capitalised word is labelled as a name). So other libraries can be timed on the very same tweets.

Training is the package's own trainer: rows of similar length, AdamW, all of an update. Reading is all from words to
entities. Systems are the text variants; SCANNER trains and reads both stages, and its second stage reads the labelled
names, as random weights would propose any number of them. `parts` says where the time of reading goes: rows and
tensors, the encoder's forward, the rest (heads, decoding).
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

import hf_mner
from benchmarks.random_encoders import SIZES, write_encoder
from benchmarks.timing import encoders_alone, record_batches
from hf_mner.data.bio_files import BioFormat, iterate_bio_blocks, parse_bio_block
from hf_mner.data.labels import bio_labels, decode_bio
from hf_mner.models.base.recognition import run_rows
from hf_mner.training.fitting import fit_model
from hf_mner.training.recipes import JointRecipe, JointTaggingRecipe, StageRecipe, TaggingRecipe

PLAIN_TYPE = "NAME"
WARM_UP = 2  # updates that are not timed
REPEATS = 5  # of reading and its parts, by turns; the medians count
Example = dict[str, Any]


class Clock:
    """CPU and wall seconds from its making."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def per_tweet(self, tweets: int) -> dict[str, float]:
        """Return milliseconds for each tweet so far."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"cpu_ms_per_tweet": 1e3 * cpu / tweets, "wall_ms_per_tweet": 1e3 * wall / tweets}


class TimedUpdates(TrainerCallback):
    """Starts a clock after the first updates and reads it after the last whole one.

    Args:
        last: number of the last update whose rows are a whole batch.
    """

    def __init__(self, last: int):
        self.last = last
        self.clock: Clock | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 theirs
        """Start."""
        if state.global_step == WARM_UP:
            self.clock = Clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 theirs
        """Read."""
        if self.clock is not None and state.global_step <= self.last:
            self.spent = self.clock.per_tweet(1)


def read_tweets(path: Path, limit: int | None) -> list[Example]:
    """Read tweets with their names."""
    if any(b"\t" in line for line in path.read_bytes().splitlines()[:50]):
        blocks = (parse_bio_block(block, BioFormat()) for block in iterate_bio_blocks(path))
        pairs = [(block.tokens, block.tags) for block in blocks if block is not None]
    else:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [(w, [f"B-{PLAIN_TYPE}" if word[:1].isupper() else "O" for word in w]) for w in lines if w]
    return [
        {
            "id": str(number),
            "tokens": tokens,
            "entities": [span._asdict() | {"boxes": []} for span in decode_bio(tags)],
        }
        for number, (tokens, tags) in enumerate(pairs[:limit])
    ]


def build(system: str, encoder: str, types: list[str]) -> list[tuple[Any, Any, str, dict[str, int]]]:
    """Build a system's models: for each stage the model, its processor, the stage, and the classes of its rows."""
    tags, names = bio_labels(types), [*types, "non-entity"]
    if system == "scanner":
        processor = hf_mner.ScannerProcessor.from_backbones(encoder, knowledge=[])
        classes = class_fields(names)
        stages = (hf_mner.ScannerForSpanDetection, hf_mner.ScannerForEntityRecognition)
        return [
            (model.from_backbones(encoder, **classes), processor, model.stages[0], classes["label2id"])
            for model in stages
        ]
    if system == "mner_qg":
        classes = class_fields(types)
        model = hf_mner.MnerQgForMultimodalNer.from_backbones(encoder, modality="text", **classes)
        processor = hf_mner.MnerQgProcessor.from_backbones(
            encoder, types=types, queries={name: f"What are the names of the kind {name}?" for name in types}
        )
        return [(model, processor, "recognition", classes["label2id"])]
    classes = class_fields(tags)
    if system == "mmavk":
        model = hf_mner.MmavkForTokenClassification.from_backbones(encoder, fusion="none", **classes)
        processor = hf_mner.MmavkProcessor.from_backbones(encoder, fusion="none")
    else:
        model = hf_mner.HamLearningForTokenClassification.from_backbones(encoder, modality="text", **classes)
        processor = hf_mner.HamLearningProcessor.from_backbones(encoder)
    return [(model, processor, "recognition", classes["label2id"])]


def class_fields(names: list[str]) -> dict[str, dict]:
    """Return classes as fields of a configuration."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


RECIPES = {"scanner": StageRecipe, "mmavk": TaggingRecipe, "mner_qg": JointRecipe, "ham_learning": JointTaggingRecipe}


def train(system: str, parts: list[Any], tweets: list[Example], batch: int, scratch: Path) -> dict[str, float]:
    """Train every stage on the tweets once; milliseconds for each tweet, the stages added up."""
    spent = {"cpu_ms_per_tweet": 0.0, "wall_ms_per_tweet": 0.0}
    for model, processor, stage, label2id in parts:
        rows = processor.rows(tweets, stage, label2id)
        last = len(rows) // batch
        if last <= WARM_UP:
            raise ValueError(
                f"`--batch {batch}` makes {last} updates of {len(rows)} rows, and the first {WARM_UP} are not timed;"
                f" give at least {(WARM_UP + 1) * batch} tweets, or a smaller `--batch`."
            )
        timed = TimedUpdates(last)
        settings = RECIPES[system](epochs=1, batch_size=batch, learning_rate=1e-5, weight_decay=0.01)
        fit_model(model, processor, scratch / stage, settings, rows, [], None, seed=0, callbacks=[timed])
        share = len(rows) / len(tweets)  # a tweet is several rows in SCANNER's second stage
        for name, seconds in timed.spent.items():
            spent[name] += seconds / ((last - WARM_UP) * batch) * share
    return spent


def read(parts: list[Any], tweets: list[Example], batch: int) -> dict[str, Any]:
    """Read the tweets from words to entities, and time the steps."""
    cost: dict[str, Any] = {"cpu_ms_per_tweet": 0.0, "wall_ms_per_tweet": 0.0}
    cost["parts"] = {"rows_ms": 0.0, "encoder_ms": 0.0, "heads_and_decoding_ms": 0.0}
    for model, processor, stage, _ in parts:
        model.eval()
        whole = reader(model, processor, stage, tweets, batch)
        bare = encoders_alone(record_batches(model, whole))
        rows = partial(processor.rows, tweets, stage)
        turns = [[spent(run, len(tweets)) for run in (whole, rows, bare)] for _ in range(REPEATS)]
        for name in ("cpu_ms_per_tweet", "wall_ms_per_tweet"):
            cost[name] += statistics.median(turn[0][name] for turn in turns)
        shares = [[one["cpu_ms_per_tweet"] for one in turn] for turn in turns]
        cost["parts"]["rows_ms"] += statistics.median(turn[1] for turn in shares)
        cost["parts"]["encoder_ms"] += statistics.median(turn[2] for turn in shares)
        cost["parts"]["heads_and_decoding_ms"] += statistics.median(turn[0] - turn[1] - turn[2] for turn in shares)
    return cost


def reader(model: Any, processor: Any, stage: str, tweets: list[Example], batch: int) -> Callable[[], object]:
    """Return a function that reads the tweets in one stage."""

    def run() -> object:
        rows = processor.rows(tweets, stage)
        outputs = run_rows(model, processor, rows, batch)
        return processor.post_process_entities(outputs, rows, tweets, stage, model.config.id2label)

    return run


def spent(run: Callable[[], object], tweets: int) -> dict[str, float]:
    """Time a run."""
    clock = Clock()
    run()
    return clock.per_tweet(tweets)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time one system."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    tweets = read_tweets(options.tweets, options.limit)
    types = sorted({entity["type"] for tweet in tweets for entity in tweet["entities"]})
    with tempfile.TemporaryDirectory() as scratch:
        parts = build(options.system, write_encoder(options.encoder_size, Path(scratch) / "encoder"), types)
        reading = read(parts, tweets, options.batch)
        training = train(options.system, parts, tweets, options.batch, Path(scratch))
    return {
        "system": options.system,
        "encoder_size": options.encoder_size,
        "batch": options.batch,
        "threads": options.threads,
        "tweets": len(tweets),
        "words": sum(len(tweet["tokens"]) for tweet in tweets),
        "training": training,
        "reading": reading,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__.splitlines()[0])
    parser.add_argument("--system", required=True, choices=list(RECIPES))
    parser.add_argument("--encoder-size", choices=list(SIZES), default="minilm")
    parser.add_argument("--batch", type=int, default=8, help="tweets in an update, and in a forward pass of reading")
    parser.add_argument("--tweets", type=Path, required=True, help="BIO file, or one tweet a line")
    parser.add_argument("--limit", type=int, help="read the first tweets alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the result is written")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    with redirect_stdout(sys.stderr):  # standard output has the result alone
        result = json.dumps(measure(options), indent=1)
    print(result)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(result + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
