"""What MMAVK costs beside its bare encoder: a training step of `none`, and reading with cached knowledge.

    python -m benchmarks.mmavk_speed --data-dir DATA --model runs/mmavk-twitter2017 --output results/mmavk/speed.json

Training: an update of `fusion="none"` (encoder, linear layer, CRF) against the same encoder with a linear layer and
cross-entropy, over the same batches of 16 tweets. Inference: `recognize_entities` with word-level fusion and knowledge
that was encoded before (tokenisation, decoding and confidence included) against the encoder's forward over the same
batches. Both arms alternate in one process; the median of the repeats counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.timing import compare, report, updates
from hf_mner import MmavkForTokenClassification, MmavkProcessor, load_mner_dataset, recognize_entities
from hf_mner.data.labels import bio_labels
from hf_mner.layers.losses import classification_loss
from hf_mner.layers.pooling import gather_tokens
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.training.run import entity_types, examples_of


class LinearTagger(nn.Module):
    """The plain tagger that a CRF is compared with: the encoder, dropout, a linear layer, cross-entropy."""

    def __init__(self, encoder: nn.Module, num_tags: int):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(encoder.config.hidden_size, num_tags)

    def forward(self, input_ids, attention_mask, first_subword_index, labels, **_) -> torch.Tensor:
        """Return the loss."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        words = gather_tokens(states, first_subword_index)
        return classification_loss(self.classifier(self.dropout(words)), labels)


def training(backbone: str, examples: list[Any], types: list[str], options: argparse.Namespace) -> dict[str, float]:
    """Time updates of `none` and of the plain tagger."""
    tags = dict(enumerate(bio_labels(types)))
    label2id = {tag: index for index, tag in tags.items()}
    ours = MmavkForTokenClassification.from_backbones(backbone, fusion="none", id2label=tags, label2id=label2id)
    bare = MmavkForTokenClassification.from_backbones(backbone, fusion="none", id2label=tags, label2id=label2id)
    plain = LinearTagger(bare.text_model, len(tags))
    processor = MmavkProcessor.from_pretrained(options.model)
    processor.fusion = "none"
    rows = processor.rows(examples[: 16 * options.batches], label2id=label2id)
    rows.sort(key=processor.row_length)  # batches of like length, as in training
    batches = [dict(processor.pad(rows[first : first + 16])) for first in range(0, len(rows), 16)]
    bare_s, none_s, ratio = compare(
        updates(plain, lambda batch: plain(**batch), batches),
        updates(ours, lambda batch: ours(**batch).loss, batches),
        options.repeats,
    )
    return {
        "bare_step_ms": 1e3 * bare_s / len(batches),
        "none_step_ms": 1e3 * none_s / len(batches),
        "ratio": ratio,
        "updates": len(batches),
        "batch_size": 16,
    }


def inference(examples: list[Any], options: argparse.Namespace) -> dict[str, float]:
    """Time reading with cached knowledge, and the encoder alone over the same batches."""
    model = MmavkForTokenClassification.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = MmavkProcessor.from_pretrained(options.model)
    cache = EncodingCache()

    def read() -> None:
        recognize_entities(model, processor, examples, batch_size=options.batch_size, cache=cache)

    read()  # fills the cache
    batches: list[dict[str, torch.Tensor]] = []
    hook = model.text_model.register_forward_pre_hook(
        lambda _, __, kwargs: batches.append(dict(kwargs)), with_kwargs=True
    )
    read()
    hook.remove()

    @torch.inference_mode()
    def encode() -> None:
        for batch in batches:
            model.text_model(**batch)

    read_s, bare_s, ratio = compare(read, encode, options.repeats)
    return {
        "bare_tweets_per_second": len(examples) / bare_s,
        "word_level_tweets_per_second": len(examples) / read_s,
        "ratio": ratio,
        "tweets": len(examples),
        "batch_size": options.batch_size,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--model", required=True, help="a run of recipes/mmavk/twitter2017-mini.yaml")
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=20, help="updates in one repeat of the training arm")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    data = load_mner_dataset("twitter2017", options.data_dir, knowledge=["chatgpt"])
    result = {
        "training": training(options.backbone, examples_of(data["train"]), entity_types(data["train"]), options),
        "inference": inference(examples_of(data["test"]), options),
        "repeats": options.repeats,
        "threads": options.threads,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
