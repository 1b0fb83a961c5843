"""Model cards, rendered from a checkpoint's recipe and from the files that `hf-mner evaluate` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_mner.models.base.modeling_base import COMPACT_WEIGHTS
from hf_mner.models.scanner.configuration_scanner import NON_ENTITY
from hf_mner.pipelines import DEFAULT_CHECKPOINT

TEMPLATE = files("hf_mner.hub") / "model_card_template.md"
CITATIONS = files("hf_mner.hub") / "citations"

DATA_SOURCES = {
    "twitter2015": "tweets with annotations by Zhang et al. 2018 (no licence stated, Twitter's terms)",
    "twitter2017": "tweets with annotations by Lu et al. 2018 (no licence stated, Twitter's terms)",
    "twitter_gmner": "tweets with annotations by Yu et al. 2023 (no licence stated, Twitter's terms)",
    "twitter_fmnerg": "tweets with annotations by Wang et al. 2023 (no licence stated, Twitter's terms)",
    "conll2003": "CoNLL-2003 (Tjong Kim Sang and De Meulder 2003; text of Reuters, for research)",
    "wnut17": "WNUT-17 (Derczynski et al. 2017; CC BY 4.0)",
    "cp_mner": "CP-MNER, texts and images of Chinese paintings (no licence stated)",
}
KNOWLEDGE_SOURCES = {
    "blip2_captions": "BLIP-2 captions of their images",
    "chatgpt": "what ChatGPT wrote about each text and its caption (PGIM, Li et al. 2023)",
    "mplug_owl_captions": "what mPLUG-Owl wrote about each image",
    "encyclopedia": "encyclopedia entries from Wikipedia and Wikidata (CC BY-SA, CC0)",
}


def render_model_card(checkpoint: str | Path, results: Sequence[str | Path], licence: str = "apache-2.0") -> str:
    """Return the Markdown card of a checkpoint; every score in it is read from a results file.

    Args:
        checkpoint: folder with safetensors weights, `config.json` and `recipe.yaml`.
        results: JSON files of `hf-mner evaluate`, one row each in the card's table.
        licence: licence identifier of the weights.
    """
    checkpoint = Path(checkpoint)
    recipe = yaml.safe_load((checkpoint / "recipe.yaml").read_text(encoding="utf-8"))
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    scores = [json.loads(Path(path).read_text(encoding="utf-8")) for path in results]
    data = ModelCardData(
        model_name=checkpoint.name,
        license=licence,
        language="en",
        library_name="hf_mner",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "multimodal", recipe["system"]],
        base_model=recipe["backbone"],
        eval_results=[eval_result(row) for row in scores],
    )
    values = {
        "front_matter": data.to_yaml(),
        "name": checkpoint.name,
        "system": recipe["system"].upper(),
        "model": "" if checkpoint.name == DEFAULT_CHECKPOINT.name else f', model="{checkpoint.name}"',
        "backbone": recipe["backbone"],
        "dataset": recipe["dataset"],
        "seed": recipe["seed"],
        "recipe": yaml.safe_dump(recipe, sort_keys=False).rstrip(),
        "how": reading_sentence(recipe),
        "storage": storage_sentence(checkpoint),
        "types_found": ", ".join(entity_types(config)),
        "training_data": ", ".join(training_data(recipe)),
        "citation": (CITATIONS / f"{recipe['system']}.bib").read_text(encoding="utf-8").rstrip(),
        "boxes": grounding_sentence(config),
        "scores": score_table(scores),
        "types": type_table(scores),
        "label_files": ", ".join(sorted({f"`{row['label_files_sha256']}`" for row in scores})),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def entity_types(config: dict[str, Any]) -> list[str]:
    """Return the entity types among a model's classes: without `non-entity`, `O`, and the marks of BIO tags."""
    names = [name for name in config["id2label"].values() if name not in (NON_ENTITY, "O")]
    return list(dict.fromkeys(name.removeprefix("B-").removeprefix("I-") for name in names))


def reading_sentence(recipe: dict[str, Any]) -> str:
    """Say in one sentence how the system reads a post."""
    if recipe["system"] == "scanner":
        return "One stage finds spans; the other types each in a prompt with its knowledge."
    return f"It tags words with a CRF; the auxiliary text is read by `fusion: {recipe['fusion']}`."


def storage_sentence(checkpoint: Path) -> str:
    """Say how large the weights are, and what compacting did to them."""
    size = f"{sum(path.stat().st_size for path in checkpoint.glob('*.safetensors')) / 1e6:.1f} MB"
    if not (checkpoint / COMPACT_WEIGHTS).is_file():
        return f"The weights take {size}."
    return (
        f"`hf-mner compact` stored the matrices in\neight bits ({size}); they are loaded in single precision."
        " `docs/results.md` of the repository has what that costs."
    )


def training_data(recipe: dict[str, Any]) -> list[str]:
    """Name what a recipe trained on, with licences."""
    names = [*recipe.get("knowledge", []), *(["encyclopedia"] if recipe.get("encyclopedia") else [])]
    return [DATA_SOURCES.get(recipe["dataset"], recipe["dataset"]), *(KNOWLEDGE_SOURCES.get(n, n) for n in names)]


def grounding_sentence(config: dict[str, Any]) -> str:
    """Say whether the model proposes boxes."""
    if config.get("grounding_weight"):
        return "It grounds entities in the image's detected objects."
    return "It was not trained to ground: `boxes` is always empty."


def eval_result(row: dict[str, Any]) -> EvalResult:
    """Turn one results file to the Hub's format."""
    return EvalResult(
        task_type="token-classification",
        task_name="named entity recognition",
        dataset_type=row["dataset"],
        dataset_name=row["dataset"],
        dataset_split=row["split"],
        metric_type="f1",
        metric_value=percent(row["entities"]["f1"]),
        metric_name=f"entity F1, knowledge: {knowledge_names(row)}",
    )


def knowledge_names(row: dict[str, Any]) -> str:
    """Name the knowledge that a score was measured with."""
    return " + ".join(row["knowledge"]) or "none"


def percent(fraction: float) -> float:
    """Return a fraction as a percentage with two decimals."""
    return round(100 * float(fraction), 2)


def score_table(scores: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a row for each results file."""
    lines = [
        "| data, split | knowledge | precision | recall | F1 | seen F1 | unseen F1 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in scores:
        cells = [percent(row["entities"][name]) for name in ("precision", "recall", "f1")]
        cells += [percent(row["seen_unseen"][part]["f1"]) for part in ("seen", "unseen")]
        numbers = " | ".join(f"{cell:.2f}" for cell in cells)
        lines.append(f"| {row['dataset']}, {row['split']} | {knowledge_names(row)} | {numbers} |")
    return "\n".join(lines)


def type_table(scores: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the F1 of each type."""
    types = sorted({name for row in scores for name in row["entities"]["per_type"]})
    lines = ["| knowledge | " + " | ".join(types) + " |", "| --- |" + " ---: |" * len(types)]
    for row in scores:
        numbers = [f"{percent(row['entities']['per_type'][name]['f1']):.2f}" for name in types]
        lines.append(f"| {knowledge_names(row)} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)
