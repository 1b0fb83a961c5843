"""What HamLearning costs beside its bare encoder, how that grows with the objects, and what the relation graph costs.

    python -m benchmarks.ham_learning_speed --data-dir DATA --output results/ham_learning/speed.json

Tweets of Twitter-2017, each with a generated picture of its own and boxes at random; a ResNet-18 with random weights
reads 224 x 224 pixels. The arms: the text variant; the whole system on images that were encoded before
(`encode_shared`), as in a training with a frozen image encoder; and the whole system with pixels, in training with an
image encoder that learns. Each takes turns in one process with the bare encoder on the same sentences, in training
with a linear layer on every token. The median of the repeats counts.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ResNetConfig

from benchmarks.mner_qg_speed import plain_tagger
from benchmarks.timing import compare, report, updates
from hf_mner import HamLearningForTokenClassification, HamLearningProcessor, load_mner_dataset
from hf_mner.data.labels import bio_labels
from hf_mner.data.synthetic import PlantedSignal
from hf_mner.layers.relations import relation_graph
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.training.run import entity_types, examples_of

Batches = Sequence[dict[str, torch.Tensor]]
CLASSES = [f"class {number}" for number in range(100)]
OBJECTS = 15  # of the arm with pixels (paper)


def build(backbone: str, tags: Sequence[str], arm: str) -> tuple[HamLearningForTokenClassification, Any]:
    """Build a model with everything but the text encoder at random, and its processor."""
    vision = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2] * 4, layer_type="basic")
    options: dict[str, Any] = {"modality": "text"} if arm == "text" else {"is_vision_frozen": arm == "encoded"}
    model = HamLearningForTokenClassification.from_backbones(
        backbone,
        None if arm == "text" else vision,
        id2label=dict(enumerate(tags)),
        label2id={tag: index for index, tag in enumerate(tags)},
        object_labels=CLASSES,
        **options,
    )
    return model, HamLearningProcessor.from_backbones(backbone, object_labels=CLASSES, max_objects=1000)


def with_objects(tweets: Sequence[Mapping[str, Any]], num_objects: int) -> list[dict[str, Any]]:
    """Give each tweet a picture, and objects with boxes at random."""
    signal, numbers, examples = PlantedSignal(), random.Random(0), []
    for index, tweet in enumerate(tweets):
        image = signal.example("test", index)["image"]
        objects = [
            {"label": numbers.choice(CLASSES), "score": numbers.random(), "box": random_box(image.size, numbers)}
            for _ in range(num_objects)
        ]
        fields = {name: tweet[name] for name in ("id", "tokens", "entities")}
        examples.append({**fields, "image": image, "knowledge": {"objects": objects}})
    return examples


def random_box(size: tuple[int, int], numbers: random.Random) -> list[float]:
    """Return a box of a tenth to a half of an image's sides (pixels)."""
    sides = [side * numbers.uniform(0.1, 0.5) for side in size]
    corner = [numbers.uniform(0, side - own) for side, own in zip(size, sides, strict=True)]
    return [*corner, *(first + own for first, own in zip(corner, sides, strict=True))]


def batches_of(model: Any, processor: Any, examples: Sequence[Any], size: int, is_encoded: bool) -> Batches:
    """Make padded batches with labels, rows of like length together; images encoded before if wanted."""
    rows = processor.rows(examples, "recognition", model.config.label2id)
    if is_encoded:
        rows = model.encode_shared(rows, processor, size, EncodingCache())
    rows = sorted(rows, key=processor.row_length)
    return [dict(processor.pad(rows[first : first + size])) for first in range(0, len(rows), size)]


def forward(model: nn.Module, batches: Batches) -> Callable[[], None]:
    """Return a function that runs a model over batches."""

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            model(**{name: value for name, value in batch.items() if name != "labels"})

    return run


def graphs(batches: Batches) -> Callable[[], None]:
    """Return a function that builds the relation graphs of batches."""

    def run() -> None:
        for batch in batches:
            relation_graph(batch["object_boxes"], batch["object_mask"], batch["image_sizes"])

    return run


def measure(
    arm: str, num_objects: int, tweets: Sequence[Any], tags: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Time one arm beside the bare encoder; milliseconds for one text, those of the graphs for one batch."""
    model, processor = build(options.backbone, tags, arm)
    examples = with_objects(tweets, num_objects) if num_objects else [{**tweet, "image": None} for tweet in tweets]
    batches = batches_of(model, processor, examples, options.batch_size, arm == "encoded")
    bare = [{name: batch[name] for name in ("input_ids", "attention_mask")} for batch in batches]
    reading = forward(model.eval(), batches)
    bare_s, ours_s, ratio = compare(forward(model.text_model, bare), reading, options.repeats)
    row: dict[str, Any] = {"arm": arm, "objects": num_objects, "ratio": ratio}
    row |= {"bare_ms": 1e3 * bare_s / len(tweets), "ms": 1e3 * ours_s / len(tweets)}
    if arm == "encoded":
        _, graphs_s, share = compare(reading, graphs(batches), options.repeats)
        row |= {"graph_ms": 1e3 * graphs_s / len(batches), "graph_share": share}
    learning = updates(model, lambda batch: model(**batch).loss, batches)
    plain = plain_tagger(build(options.backbone, tags, "text")[0].text_model, bare)
    bare_s, ours_s, ratio = compare(plain, learning, options.repeats)
    row |= {"bare_training_ms": 1e3 * bare_s / len(tweets), "training_ms": 1e3 * ours_s / len(tweets)}
    row["training_ratio"] = ratio
    if arm == "encoded":
        row["graph_training_share"] = compare(learning, graphs(batches), options.repeats)[2]
    return row


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--objects", type=int, nargs="+", default=[5, 15, 50])
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    test = load_mner_dataset("twitter2017", options.data_dir)["test"]
    tweets = examples_of(test)[: options.texts]
    arms = [("text", 0), *(("encoded", count) for count in options.objects), ("whole", OBJECTS)]
    rows = [measure(arm, count, tweets, bio_labels(entity_types(test)), options) for arm, count in arms]
    settings = {name: getattr(options, name) for name in ("texts", "batch_size", "repeats", "threads")}
    report({"rows": rows, **settings}, options.output)


if __name__ == "__main__":
    main()
