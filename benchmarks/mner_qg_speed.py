"""What MNER-QG costs beside its bare encoder, and how that grows with the number of entity types.

    python -m benchmarks.mner_qg_speed --data-dir DATA --output results/mner_qg/speed.json

Tweets of Twitter-2017 with generated pictures of 256 x 256 pixels; a ResNet-18 with random weights, width 256. In each
row all arms take turns in one process: the bare encoder on the sentence alone; the text variant; the whole model; and
the whole model where every query encodes the image again. The median of the repeats counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ResNetConfig

from benchmarks.timing import compare, report, updates
from hf_mner import MnerQgForMultimodalNer, MnerQgProcessor, load_mner_dataset
from hf_mner.data.synthetic import PlantedSignal
from hf_mner.layers.losses import classification_loss
from hf_mner.training.run import examples_of

WIDTH = 256
WORDS = [
    *("person", "place", "company", "event", "product", "animal", "plant", "vehicle"),
    *("building", "award", "food", "disease", "law", "language", "weapon", "game"),
]


def build(backbone: str, num_types: int, is_multimodal: bool) -> tuple[MnerQgForMultimodalNer, MnerQgProcessor]:
    """Build a model with random heads for some types, and its processor."""
    types = WORDS[:num_types]
    labels = {"id2label": dict(enumerate(types)), "label2id": {name: index for index, name in enumerate(types)}}
    vision = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2] * 4, layer_type="basic")
    options: dict[str, Any] = {"has_feature_pyramid": True} if is_multimodal else {"modality": "text"}
    options["hidden_size"] = WIDTH
    model = MnerQgForMultimodalNer.from_backbones(backbone, vision if is_multimodal else None, **options, **labels)
    queries = {name: f"{name}: a name of one {name} or of several" for name in types}
    return model, MnerQgProcessor.from_backbones(backbone, types=types, queries=queries)


def batches_of(processor: MnerQgProcessor, examples: Sequence[Any], size: int) -> list[dict[str, torch.Tensor]]:
    """Make padded batches with labels, rows of like length together."""
    label2id = {name: index for index, name in enumerate(processor.queries)}
    rows = sorted(processor.rows(examples, "recognition", label2id), key=processor.row_length)
    return [dict(processor.pad(rows[first : first + size])) for first in range(0, len(rows), size)]


def bare_batches(processor: MnerQgProcessor, examples: Sequence[Any], size: int) -> list[dict[str, torch.Tensor]]:
    """Make batches of `[CLS] sentence [SEP]` alone."""
    before, after = processor.frame
    rows = sorted(processor.rows(examples, "recognition"), key=processor.row_length)
    framed = [[*before, *row["input_ids"], *after] for row in rows]
    tokenizer = processor.tokenizer
    chunks = [framed[first : first + size] for first in range(0, len(framed), size)]
    return [dict(tokenizer.pad({"input_ids": chunk}, return_tensors="pt")) for chunk in chunks]


def forward(model: nn.Module, batches: Sequence[dict], repeats: int = 0) -> Callable[[], None]:
    """Return a function that runs a model over batches; `repeats` more encodings of the images each time."""

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            for _ in range(repeats):
                model.encode_images(batch["pixel_values"])
            model(**{name: value for name, value in batch.items() if name not in ("labels", "box_labels")})

    return run


def plain_tagger(encoder: nn.Module, batches: Sequence[dict]) -> Callable[[], None]:
    """Return updates of the encoder with a linear layer on every token."""
    model = nn.ModuleDict({"encoder": encoder, "classifier": nn.Linear(encoder.config.hidden_size, 9)})

    def loss(batch: dict) -> torch.Tensor:
        states = encoder(**batch).last_hidden_state
        return classification_loss(model["classifier"](states), torch.zeros_like(batch["input_ids"]))

    return updates(model, loss, batches)


def count_images(model: MnerQgForMultimodalNer, batches: Sequence[dict]) -> int:
    """Count the images that the image encoder sees in one pass."""
    seen: list[int] = []
    hook = model.vision_model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    forward(model, batches)()
    hook.remove()
    return sum(seen)


def measure(num_types: int, examples: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Time all arms for a number of types; times are milliseconds for one text."""
    row: dict[str, Any] = {"types": num_types}
    for name, is_multimodal in (("text", False), ("whole", True)):
        model, processor = build(options.backbone, num_types, is_multimodal)
        batches = batches_of(processor, examples, options.batch_size)
        bare = bare_batches(processor, examples, options.batch_size)
        encoder = model.text_model
        model.eval()
        reading = forward(model, batches)
        bare_s, ours_s, ratio = compare(forward(encoder, bare), reading, options.repeats)
        row |= {"bare_ms": 1e3 * bare_s / len(examples), f"{name}_ms": 1e3 * ours_s / len(examples)}
        row[f"{name}_ratio"] = ratio
        if is_multimodal:
            again = forward(model, batches, repeats=num_types - 1)
            _, again_s, _ = compare(reading, again, options.repeats)
            row["unshared_ms"] = 1e3 * again_s / len(examples)
            row["images_encoded"], row["texts"] = count_images(model, batches), len(examples)
        if num_types <= options.most_trained_types:
            bare_s, ours_s, ratio = compare(
                plain_tagger(build(options.backbone, 1, False)[0].text_model, bare),
                updates(model, lambda batch, model=model: model(**batch).loss, batches),
                options.repeats,
            )
            row[f"{name}_training_ratio"] = ratio
            row |= {
                "bare_training_ms": 1e3 * bare_s / len(examples),
                f"{name}_training_ms": 1e3 * ours_s / len(examples),
            }
    return row


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--types", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--most-trained-types", type=int, default=8)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    tweets = examples_of(load_mner_dataset("twitter2017", options.data_dir)["test"])[: options.texts]
    signal = PlantedSignal()
    examples = [
        {"tokens": tweet["tokens"], "entities": [], "image": signal.example("test", number)["image"]}
        for number, tweet in enumerate(tweets)
    ]
    rows = [measure(count, examples, options) for count in options.types]
    report({"rows": rows, "batch_size": options.batch_size, "threads": options.threads}, options.output)


if __name__ == "__main__":
    main()
