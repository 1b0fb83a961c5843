"""What stage 2 makes of its knowledge: type accuracy on gold spans, by what is shown and by what could be looked up.

python -m benchmarks.scanner_knowledge_use RUN/recognition --data-dir DATA --output results/scanner/knowledge_use.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from hf_mner import Encyclopedia, ScannerForEntityRecognition, ScannerProcessor, load_mner_dataset
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import add_knowledge, entity_mentions
from hf_mner.models.base.recognition import run_rows
from hf_mner.training.run import examples_of

SHOWN = {
    "nothing": (),
    "caption": ("caption",),
    "encyclopedia": ("encyclopedia",),
    "caption + encyclopedia": ("caption", "encyclopedia"),
}


def keep_parts(example: MnerExample, parts: tuple[str, ...]) -> MnerExample:
    """Return the example with these parts of its knowledge alone."""
    given = example["knowledge"] or {}
    return {**example, "knowledge": {name: given.get(name) for name in parts}}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a trained stage 2")
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)

    model = ScannerForEntityRecognition.from_pretrained(options.model).eval()
    processor = ScannerProcessor.from_pretrained(options.model)
    encyclopedia = Encyclopedia.from_files(options.data_dir / "wikipedia" / "entities.jsonl.gz")
    dataset = load_mner_dataset("twitter2017", options.data_dir, knowledge=["blip2_captions"])
    examples = add_knowledge(examples_of(dataset[options.split]), [encyclopedia])
    found = [{entry["mention"] for entry in example["knowledge"]["encyclopedia"]} for example in examples]
    result = {}
    for name, parts in SHOWN.items():
        rows = processor.rows([keep_parts(example, parts) for example in examples], "recognition")
        right: dict[str, list[bool]] = {"with an entry": [], "without an entry": []}
        for row, output in zip(rows, run_rows(model, processor, rows, 64), strict=True):
            example, number = row["origin"]
            group = entity_mentions(examples[example])[number] in found[example]
            predicted = model.config.id2label[int(output["logits"].argmax())]
            gold = examples[example]["entities"][number]["type"]
            right["with an entry" if group else "without an entry"].append(predicted == gold)
        result[name] = {
            group: {"mentions": len(hits), "accuracy": sum(hits) / len(hits)} for group, hits in right.items()
        }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
