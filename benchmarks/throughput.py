"""Reading real tweets: each system against its bare text encoder, and MMAVK against transformers' own pipeline.

    python -m benchmarks.throughput --data-dir DATA --output results/annotation/throughput.json

The limit is the text encoder's forward alone over the very batches that the system runs. `share` is limit over system:
1 would be nothing but the encoder. The system's time has everything from words to entities in it: tokens, prompts,
heads, decoding. Knowledge and images are looked up and encoded beforehand. Arms alternate in one process; the median
of the repeats counts. Weights of MMAVK, HamLearning and MNER-QG are random but for the encoder's: they do not change
what is computed but for the number of entities (`entities_per_tweet`), which a bias of the tag O keeps down.
SCANNER is the embedded one, because its second stage reads what the first proposes. HamLearning's images are generated
ones with boxes at random, as in `ham_learning_speed.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
from transformers import pipeline as transformers_pipeline

import hf_mner
from benchmarks import ham_learning_speed
from benchmarks.random_encoders import write_encoder
from benchmarks.timing import compare, encoders_alone, record_batches, report
from hf_mner.data.labels import bio_labels
from hf_mner.inference.precision import set_precision
from hf_mner.knowledge.base import add_knowledge
from hf_mner.models.base.backbones import resolve_backbone
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import recognize_by_stage, recognize_entities
from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline
from hf_mner.training.run import entity_types, examples_of

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
O_BIAS = 0.5
OBJECTS = 5
PRECISIONS = ("float32", "bfloat16", "int8")
Reader = tuple[Any, Callable[[], list[Any]]]  # a model, and a function that reads all tweets with it


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
        model = rare(hf_mner.MmavkForTokenClassification.from_backbones(BACKBONE, fusion=fusion, **labels(data)))
        processor = hf_mner.MmavkProcessor.from_backbones(BACKBONE, fusion=fusion)
        return model, reader(model, processor, examples_of(data["test"]), options)

    return build


def ham_learning(size: str = "") -> Callable[[Any, argparse.Namespace], Reader]:
    """HamLearning's text variant; with `size`, on an encoder of random weights."""

    def build(data: Any, options: argparse.Namespace) -> Reader:
        with TemporaryDirectory() as folder:
            backbone = write_encoder(size, Path(folder)) if size else BACKBONE
            fields = {"modality": "text", **labels(data)}
            model = rare(hf_mner.HamLearningForTokenClassification.from_backbones(backbone, **fields))
            processor = hf_mner.HamLearningProcessor.from_backbones(backbone)
        return model, reader(model, processor, examples_of(data["test"]), options)

    return build


def ham_learning_with_images(data: Any, options: argparse.Namespace) -> Reader:
    """HamLearning with an image of `OBJECTS` objects for each tweet; the image encoder's work is done beforehand."""
    model, processor = ham_learning_speed.build(BACKBONE, bio_labels(entity_types(data["test"])), "encoded")
    examples = ham_learning_speed.with_objects(examples_of(data["test"]), OBJECTS)
    return rare(model), reader(model, processor, examples, options)


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
    "HamLearning, text": ham_learning(),
    "HamLearning, text, BERT-base size": ham_learning("base"),
    f"HamLearning, {OBJECTS} objects, images encoded": ham_learning_with_images,
    "MNER-QG, text": mner_qg,
}


def rare(model: Any) -> Any:
    """Let a tagger of random weights find fewer entities; without a bias, MMAVK's finds eleven in a tweet."""
    with torch.no_grad():
        model.classifier.bias[0] += O_BIAS
    return model.eval()


def labels(data: Any) -> dict[str, Any]:
    """Return the BIO tags of the data as fields of a configuration."""
    tags = bio_labels(entity_types(data["test"]))
    return {"id2label": dict(enumerate(tags)), "label2id": {tag: index for index, tag in enumerate(tags)}}


def reader(model: Any, processor: Any, examples: list[Any], options: argparse.Namespace) -> Callable[[], list[Any]]:
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
    found = sum(len(example["entities"]) for example in read())
    numbers = {"tweets_per_s": tweets / whole, "encoder_tweets_per_s": tweets / bare, "share": share}
    return numbers | {"entities_per_tweet": found / tweets}


def against_pipeline(data: Any, precision: Any, options: argparse.Namespace) -> dict[str, float]:
    """Time our pipeline with MMAVK `none` and the token-classification pipeline of transformers with its encoder."""
    model = rare(hf_mner.MmavkForTokenClassification.from_backbones(BACKBONE, fusion="none", **labels(data)))
    processor = hf_mner.MmavkProcessor.from_backbones(BACKBONE, fusion="none")
    ours = MultimodalNerPipeline(set_precision(model, precision), processor=processor)
    folder = resolve_backbone(BACKBONE)
    plain = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32, **labels(data))
    theirs = transformers_pipeline(
        "token-classification",
        model=rare(plain),
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
        "MMAVK, none, against the token-classification pipeline": {
            precision: against_pipeline(data, precision, options) for precision in PRECISIONS
        },
        "tweets": len(data["test"]),
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "threads": options.threads,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()
