r"""Does HamLearning's relevance M tell pictures that belong to their post from those that do not?

Pictures without a key symbol, which tell nothing and do no harm:

hf-mner data synthetic runs/half --train 4000 --uninformative-share 0.5 --knowledge
hf-mner train recipes/ham_learning/planted_signal-mini.yaml --set dataset=folder --set 'knowledge=[knowledge.jsonl]' \
  --data-dir runs/half --output runs/ham_learning-half
python -m benchmarks.ham_learning_relevance runs/ham_learning-half runs/half \
  --output results/ham_learning/relevance.json

Pictures that mislead, which only their post's topic tells (docs/planted_signal.md); posts with a topic are such a set:

hf-mner data synthetic runs/misleading --train 4000 --misleading-share 0.5 --knowledge
hf-mner train recipes/ham_learning/planted_signal-mini.yaml --set dataset=folder --set 'knowledge=[knowledge.jsonl]' \
  --data-dir runs/misleading --output runs/ham_learning-misleading
python -m benchmarks.ham_learning_relevance runs/ham_learning-misleading runs/misleading \
  --output results/ham_learning/relevance-misleading.json

An AUC is the share of pairs (one relevant or informative picture, one other) of which the former scores higher: 0.5
is chance, 0 a score that is upside down. Equal scores count half; `ties` is the share of pairs that are equal. Of each
view there are those of M as the model computes it, of the argument of its tanh (recomputed in 64 bits, so that a
saturated M hides nothing), and of the two terms of that argument (Eq. 9). `confidence` is the same for the mean
probability of the entities that were found: what the model as a whole knows, by whatever way. `entities` is the F1 of
span and type in each half.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_mner import HamLearningForTokenClassification, HamLearningProcessor, load_mner_dataset
from hf_mner.data import MnerExample
from hf_mner.data.synthetic_shapes import KEY_SHAPES
from hf_mner.data.synthetic_topics import read_topic
from hf_mner.evaluation import spans_of
from hf_mner.metrics import score_spans
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import unbatch
from hf_mner.models.ham_learning.modeling_ham_learning import Relevance
from hf_mner.training.run import examples_of

BATCH_SIZE = 32


def area_under_curve(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the share of pairs in which the positive scores higher; equal ones count half."""
    above = scores[is_positive][:, None] - scores[~is_positive]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def describe(scores: np.ndarray, is_positive: np.ndarray, names: tuple[str, str]) -> dict[str, float]:
    """Return AUC, share of ties, and the mean of each half."""
    positive, negative = scores[is_positive], scores[~is_positive]
    return {
        "auc": area_under_curve(scores, is_positive),
        "ties": float((positive[:, None] == negative).mean()),
        f"mean_{names[0]}": float(positive.mean()),
        f"mean_{names[1]}": float(negative.mean()),
    }


def is_to_be_trusted(example: MnerExample) -> tuple[bool, bool]:
    """Say whether a picture shows its post's topic, or where there is none a key symbol; and whether there is one."""
    labels = {item["label"] for item in (example["knowledge"] or {})["objects"]}
    topic = read_topic(example["tokens"])
    return (bool(labels & set(KEY_SHAPES)) if topic is None else topic in labels), topic is not None


def argument_terms(relevance: Relevance, sentence: torch.Tensor, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what Eq. 8 and 9 add up before the outer tanh, and the sum: `b` each, in 64 bits."""
    text_term, image_term = deepcopy(relevance).double().terms(sentence.double(), image.double())
    return {"argument": text_term + image_term, "text_term": text_term, "image_term": image_term}


@torch.inference_mode()
def run_in_order(
    model: HamLearningForTokenClassification, processor: HamLearningProcessor, rows: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]]]:
    """Return each row's output, and of each view the terms of M's argument, in the rows' order."""
    found: dict[str, dict[str, list[torch.Tensor]]] = {view: defaultdict(list) for view in model.config.views}

    def keep(view: str) -> Any:
        def hook(relevance: Relevance, given: tuple[torch.Tensor, torch.Tensor], _: torch.Tensor) -> None:
            for name, values in argument_terms(relevance, *given).items():
                found[view][name].append(values)

        return hook

    hooks = [model.image_views[view].relevance.register_forward_hook(keep(view)) for view in found]
    shared, outputs = model.encode_shared(rows, processor, BATCH_SIZE, EncodingCache()), []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = processor.pad([shared[at] for at in range(start, min(start + BATCH_SIZE, len(rows)))])
        outputs.extend(unbatch(model(**batch.to(model.device))))
    for hook in hooks:
        hook.remove()
    return outputs, {
        view: {name: torch.cat(values).cpu().numpy() for name, values in terms.items()}
        for view, terms in found.items()
    }


def score_halves(
    found: Sequence[MnerExample], gold: Sequence[MnerExample], halves: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Score span and type in each half."""
    scores = {}
    for name, chosen in halves.items():
        indices = np.flatnonzero(chosen)
        scores[name] = score_spans([spans_of(found[at]) for at in indices], [spans_of(gold[at]) for at in indices])
    return scores


def measure(model_folder: Path, data_folder: Path, split: str) -> dict[str, Any]:
    """Score every picture of a split by every view."""
    model = HamLearningForTokenClassification.from_pretrained(model_folder).eval()
    if not model.config.has_relevance:
        raise ValueError(f"The model in '{model_folder}' measures no relevance; train it with `has_relevance: true`.")
    processor = HamLearningProcessor.from_pretrained(model_folder)
    dataset = load_mner_dataset("folder", data_folder, knowledge=["knowledge.jsonl"])[split]
    examples = examples_of(dataset, has_images=True)
    is_trusted, has_topic = map(np.array, zip(*map(is_to_be_trusted, examples), strict=True))
    names = ("relevant", "irrelevant") if has_topic.all() else ("informative", "uninformative")
    rows = processor.rows(examples)
    if len(rows) != len(examples):
        raise ValueError(f"{len(examples)} posts make {len(rows)} rows; a planted post is short enough for one.")
    outputs, terms = run_in_order(model, processor, rows)
    relevance = np.stack([output["relevance"] for output in outputs])
    answers = processor.post_process_entities(outputs, rows, examples, "recognition", model.config.id2label)
    has_answer = np.array([bool(answer["entities"]) for answer in answers])
    confidence = np.array([np.mean([e["score"] for e in a["entities"]]) for a in answers if a["entities"]])
    return {
        "model": f"runs/{model_folder.name}",
        "split": split,
        names[0]: int(is_trusted.sum()),
        names[1]: int((~is_trusted).sum()),
        "views": {
            view: {
                **describe(relevance[:, position], is_trusted, names),
                **{name: describe(values, is_trusted, names) for name, values in terms[view].items()},
            }
            for position, view in enumerate(model.config.views)
        },
        "confidence": describe(confidence, is_trusted[has_answer], names) if has_answer.any() else None,
        "entities": score_halves(answers, examples, {names[0]: is_trusted, names[1]: ~is_trusted}),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="Folder of `hf-mner data synthetic --knowledge`.")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    result = measure(options.model, options.data, options.split)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
