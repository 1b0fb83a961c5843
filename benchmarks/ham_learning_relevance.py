r"""Does HamLearning's relevance M tell pictures that show a key symbol from those that do not?

hf-mner data synthetic runs/half --train 4000 --uninformative-share 0.5 --knowledge
hf-mner train recipes/ham_learning/planted_signal-mini.yaml --set dataset=folder --set 'knowledge=[knowledge.jsonl]' \
  --data-dir runs/half --output runs/ham_learning-half
python benchmarks/ham_learning_relevance.py runs/ham_learning-half runs/half \
  --output results/ham_learning/relevance.json

The AUC is the share of pairs (one picture with a key symbol, one without) of which the former has the greater M: 0.5
is chance, 0 a score that is upside down.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from hf_mner import HamLearningForTokenClassification, HamLearningProcessor, load_mner_dataset
from hf_mner.data.synthetic_shapes import KEY_SHAPES
from hf_mner.models.base.recognition import run_rows
from hf_mner.training.run import examples_of


def area_under_curve(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the share of pairs in which the positive scores higher; equal ones count half."""
    above = scores[is_positive][:, None] - scores[~is_positive]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def measure(model_folder: Path, data_folder: Path, split: str) -> dict[str, Any]:
    """Score every picture of a split by every view."""
    model = HamLearningForTokenClassification.from_pretrained(model_folder).eval()
    processor = HamLearningProcessor.from_pretrained(model_folder)
    dataset = load_mner_dataset("folder", data_folder, knowledge=["knowledge.jsonl"])[split]
    examples = examples_of(dataset, has_images=True)
    shown = [{item["label"] for item in example["knowledge"]["objects"]} for example in examples]
    is_informative = np.array([bool(labels & set(KEY_SHAPES)) for labels in shown])
    outputs = run_rows(model, processor, processor.rows(examples), batch_size=32)
    relevance = np.stack([output["relevance"] for output in outputs])
    views = {}
    for position, view in enumerate(model.config.views):
        scores = relevance[:, position]
        views[view] = {
            "auc": area_under_curve(scores, is_informative),
            "mean_informative": float(scores[is_informative].mean()),
            "mean_uninformative": float(scores[~is_informative].mean()),
        }
    return {
        "model": f"runs/{model_folder.name}",
        "split": split,
        "informative": int(is_informative.sum()),
        "uninformative": int((~is_informative).sum()),
        "views": views,
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
