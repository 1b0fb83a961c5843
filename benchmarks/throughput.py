"""Reading real tweets: each system against its bare encoder, and MMAVK against transformers' own pipeline.

    python benchmarks/throughput.py --data-dir DATA --output results/annotation/throughput.json

The limit is the text encoder's forward alone over the very batches that the system runs. `share` is limit over system:
1 would be nothing but the encoder. The system's time has everything from words to entities in it: tokens, prompts,
heads, decoding. Knowledge and images are looked up and encoded beforehand. Arms alternate in one process; the median
of the repeats counts. Weights of MMAVK, HamLearning and MNER-QG are random but for the encoder's: they do not change
what is computed. SCANNER is the embedded one, because its second stage reads what the first proposes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import compare, encoders_alone, record_batches, report
from transformers import AutoModelForTokenClassification, AutoTokenizer
from transformers import pipeline as transformers_pipeline

import hf_mner
from hf_mner.data.labels import bio_labels
from hf_mner.knowledge.base import add_knowledge
from hf_mner.models.base.backbones import resolve_backbone
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import recognize_by_stage, recognize_entities
from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline
from hf_mner.training.run import entity_types, examples_of

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
Reader = tuple[Any, Callable[[], object]]  # a model, and a function that reads all tweets with it


def scanner(data: Any, options: argparse.Namespace) -> Reader:
    """SCANNER, both stages, captions and encyclopedia looked up."""
    pipe = hf_mner.pipeline()
    examples = examples_of(data["test"])
    candidates = list(recognize_by_stage(pipe.model, pipe.processor, examples))[0][1]
    source = hf_mner.Encyclopedia.from_files(options.data_dir / "wikipedia" / "entities.jsonl.gz")
    looked_up = add_knowledge(candidates, [source])
    ready = [{**gold, "knowledge": found["knowledge"]} for gold, found in zip(examples, looked_up, strict=True)]
    return pipe.model, reader(pipe.model, pipe.processor, ready, options)


def mmavk(fusion: str) -> Callable[[Any, argparse.Namespace], Reader]:
    """MMAVK with a fusion; auxiliary texts are encoded beforehand."""

    def build(data: Any, options: argparse.Namespace) -> Reader:
        model = hf_mner.MmavkForTokenClassification.from_backbones(BACKBONE, fusion=fusion, **labels(data)).eval()
        processor = hf_mner.MmavkProcessor.from_backbones(BACKBONE, fusion=fusion)
        return model, reader(model, processor, examples_of(data["test"]), options)

    return build


def ham_learning(data: Any, options: argparse.Namespace) -> Reader:
    """HamLearning's text variant."""
    fields = {"modality": "text", **labels(data)}
    model = hf_mner.HamLearningForTokenClassification.from_backbones(BACKBONE, **fields).eval()
    processor = hf_mner.HamLearningProcessor.from_backbones(BACKBONE)
    return model, reader(model, processor, examples_of(data["test"]), options)


def mner_qg(data: Any, options: argparse.Namespace) -> Reader:
    """MNER-QG's text variant: four queries about each tweet."""
    types = entity_types(data["test"])
    names = {"id2label": dict(enumerate(types)), "label2id": {name: index for index, name in enumerate(types)}}
    model = hf_mner.MnerQgForMultimodalNer.from_backbones(BACKBONE, modality="text", **names).eval()
    processor = hf_mner.MnerQgProcessor.from_backbones(BACKBONE, types=types)
    return model, reader(model, processor, examples_of(data["test"]), options)


SYSTEMS: dict[str, Callable[[Any, argparse.Namespace], Reader]] = {
    "SCANNER, captions + encyclopedia": scanner,
    "MMAVK, none": mmavk("none"),
    "MMAVK, word level, texts encoded": mmavk("word_level"),
    "HamLearning, text": ham_learning,
    "MNER-QG, text": mner_qg,
}


def labels(data: Any) -> dict[str, Any]:
    """Return the BIO tags of the data as fields of a configuration."""
    tags = bio_labels(entity_types(data["test"]))
    return {"id2label": dict(enumerate(tags)), "label2id": {tag: index for index, tag in enumerate(tags)}}


def reader(model: Any, processor: Any, examples: list[Any], options: argparse.Namespace) -> Callable[[], object]:
    """Return a function that reads all examples; what they share is encoded in its first run."""
    cache = EncodingCache()
    return lambda: recognize_entities(model, processor, examples, batch_size=options.batch_size, cache=cache)


def against_encoder(build: Callable[..., Reader], data: Any, options: argparse.Namespace) -> dict[str, float]:
    """Time a system and its bare encoder."""
    model, read = build(data, options)
    read()
    batches = record_batches(model, read)
    whole, bare, share = compare(read, encoders_alone(batches), options.repeats)
    tweets = len(data["test"])
    return {"tweets_per_s": tweets / whole, "encoder_tweets_per_s": tweets / bare, "share": share}


def against_pipeline(data: Any, options: argparse.Namespace) -> dict[str, float]:
    """Time our pipeline with MMAVK `none` and the token-classification pipeline of transformers with its encoder."""
    model = hf_mner.MmavkForTokenClassification.from_backbones(BACKBONE, fusion="none", **labels(data)).eval()
    ours = MultimodalNerPipeline(model, processor=hf_mner.MmavkProcessor.from_backbones(BACKBONE, fusion="none"))
    folder = resolve_backbone(BACKBONE)
    plain = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32, **labels(data)).eval()
    theirs = transformers_pipeline(
        "token-classification",
        model=plain,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        aggregation_strategy="simple",
        device="cpu",
    )
    texts = [" ".join(tokens) for tokens in data["test"]["tokens"]]
    ours_s, theirs_s, ratio = compare(
        lambda: list(ours(texts, batch_size=options.batch_size)),
        lambda: list(theirs(texts, batch_size=options.batch_size)),
        options.repeats,
    )
    return {"tweets_per_s": len(texts) / ours_s, "transformers_tweets_per_s": len(texts) / theirs_s, "ratio": ratio}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, help="read the first tweets alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = hf_mner.load_mner_dataset("twitter2017", options.data_dir, knowledge=["blip2_captions", "chatgpt"])
    if options.limit is not None:
        data["test"] = data["test"].take(options.limit)
    result: dict[str, Any] = {
        "systems": {name: against_encoder(build, data, options) for name, build in SYSTEMS.items()},
        "MMAVK, none, against the token-classification pipeline": against_pipeline(data, options),
        "tweets": len(data["test"]),
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "threads": options.threads,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
