"""Model cards, rendered from a checkpoint's recipe and from the files that `hf-mner evaluate` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_mner.data import readers
from hf_mner.knowledge.registry import parse_spec
from hf_mner.models.base.modeling_base import COMPACT_WEIGHTS
from hf_mner.models.base.onnx_encoders import ONNX_FOLDER, is_onnx_checkpoint
from hf_mner.models.mmavk.configuration_mmavk import TEXT_FUSIONS
from hf_mner.models.scanner.configuration_scanner import NON_ENTITY
from hf_mner.pipelines import DEFAULT_CHECKPOINT

from .local_paths import publishable_recipe
from .training_cost import cost_sentence, training_cost
from .training_sources import KNOWLEDGE_SOURCES, WIKIPEDIA, find_facts

TEMPLATE = files("hf_mner.hub") / "model_card_template.md"
CITATIONS = files("hf_mner.hub") / "citations"

# The parts of knowledge that SCANNER and MMAVK read unless their recipe says otherwise.
DEFAULT_PARTS = {"scanner": ["encyclopedia", "caption", "objects"], "mmavk": ["auxiliary"]}
PART_SOURCES = {
    "encyclopedia": "Encyclopedia",
    "auxiliary": "AuxiliaryKnowledge",
    "caption": "ImageCaptioner",
    "objects": "ObjectDetector",
}
SYSTEM_NAMES = {"scanner": "SCANNER", "mmavk": "MMAVK", "mner_qg": "MNER-QG", "ham_learning": "HamLearning"}
IMAGE_MODELS = ("mner_qg", "ham_learning")  # systems with an image encoder, unless their `modality` is text
MAY_LACK_VALIDATION = ("folder", "yolo")
EXAMPLE_TEXTS = {
    "auxiliary": "The man in the suit is a coach of a basketball team.",
    "caption": "a man in a suit",
}
WITHOUT_IMPORT = """
Where `hf-mner` is installed and not imported, transformers opens it with the small file that this repository holds:

```python
from transformers import pipeline

recognize = pipeline("multimodal-ner", model="{repo_id}", trust_remote_code=True)
```
"""
SCORES = """\
Exact spans and types, conlleval reading. Label files (SHA-256): {label_files}. Every number below is copied from a
file that `hf-mner evaluate` wrote: {files}. `-` stands where there are no such entities, or where they were not
counted.

{scores}

F1 of each type:

{types}"""
WANTED = "`dataset`, `split`, `knowledge`, `label_files_sha256`, and `entities` with the F1 of each type"


class Emissions(NamedTuple):
    """What the training cost in greenhouse gases; the package does not guess it.

    Args:
        grams: of CO2 equivalents.
        source: how that is known, such as `codecarbon` or a meter.
    """

    grams: float
    source: str


def render_model_card(
    checkpoint: str | Path,
    results: Sequence[str | Path],
    licence: str | None = None,
    repo_id: str | None = None,
    emissions: Emissions | None = None,
) -> str:
    """Return the Markdown card of a checkpoint; every score in it is read from a results file.

    Args:
        checkpoint: folder with safetensors weights, `config.json` and `recipe.yaml`.
        results: JSON files of `hf-mner evaluate`, one row each in the card's table.
        licence: licence identifier of the weights; `None` = the package's own for the checkpoint that it carries, else
            the card names none.
        repo_id: where the model is published; its code then loads it from there.
        emissions: what is known of the training's energy.

    Raises:
        ValueError: if a results file is none, or the model finds no entities.
    """
    checkpoint = Path(checkpoint)
    recipe = publishable_recipe(yaml.safe_load((checkpoint / "recipe.yaml").read_text(encoding="utf-8")))
    if recipe.get("task") == "grounding":
        raise ValueError(
            f"{checkpoint} grounds phrases and finds no entities (`task: grounding`); cards describe models that do."
            " Give the checkpoint of a recipe with `task: recognition`."
        )
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    scores = [read_results(Path(path)) for path in results]
    name = repo_id.rpartition("/")[2] if repo_id else checkpoint.name
    is_default = repo_id is None and name == DEFAULT_CHECKPOINT.name
    facts, published = find_facts(recipe["dataset"]), readers.find_facts(recipe["dataset"])
    data = ModelCardData(
        model_name=name,
        license=licence or ("apache-2.0" if is_default else None),
        language=published.language if published else None,
        library_name="hf_mner",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "multimodal", recipe["system"]],
        base_model=recipe["backbone"] if "/" in recipe["backbone"] else None,  # a folder is nobody's base
        eval_results=[result for row in scores for result in eval_results(row)] or None,
        **emission_metadata(emissions),
    )
    values = {
        "front_matter": data.to_yaml(),
        "name": name,
        "system": SYSTEM_NAMES[recipe["system"]],
        "model": "" if is_default else f', model="{repo_id or name}"',
        "without_import": WITHOUT_IMPORT.format(repo_id=repo_id) if repo_id else "",
        "backbone": recipe["backbone"] + image_encoder_clause(recipe),
        "seed": recipe["seed"],
        "recipe": yaml.safe_dump(recipe, sort_keys=False).rstrip(),
        "texts": facts.texts,
        "origin": facts.origin,
        "how": reading_sentence(recipe),
        "example": example_input(recipe, facts.example),
        "knowledge": knowledge_sentences(recipe),
        "splits": splits_phrase(recipe),
        "storage": storage_sentence(checkpoint, is_default),
        "types_found": ", ".join(entity_types(config)),
        "training_data": ", ".join(training_data(recipe)),
        "default": " and as a small default" if is_default else "",
        "unseen": unseen_clause(scores),
        "citation": (CITATIONS / f"{recipe['system']}.bib").read_text(encoding="utf-8").rstrip(),
        "boxes": grounding_sentence(config),
        "scores": score_section(scores, [results_name(Path(path)) for path in results]),
        "cost": cost_sentence(training_cost(checkpoint)),
        "energy": energy_sentence(emissions),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file of `hf-mner evaluate`.

    Raises:
        ValueError: if the file is none, naming it and what was expected.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Results file {path} is not JSON ({error}); give a file of `hf-mner evaluate`.") from error
    entities = row.get("entities") if isinstance(row, dict) else None
    has_scores = isinstance(entities, dict) and {"precision", "recall", "f1", "per_type"} <= entities.keys()
    if not has_scores or not {"dataset", "split", "knowledge", "label_files_sha256"} <= row.keys():
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"{path} is no results file of a whole system: it holds {found or 'nothing'}; expected {WANTED}, as"
            " `hf-mner evaluate --output` writes them."
        )
    return row


def knowledge_parts(recipe: dict[str, Any]) -> list[str]:
    """Name the parts of `knowledge` that a recipe's model reads in words."""
    if recipe["system"] in IMAGE_MODELS:
        return ["objects"] if recipe["system"] == "ham_learning" and reads_image(recipe) else []
    if recipe["system"] == "mmavk":
        reads_text = recipe.get("fusion", "word_level") in TEXT_FUSIONS
        return recipe.get("knowledge_parts", DEFAULT_PARTS["mmavk"]) if reads_text else []
    return recipe.get("recognition", {}).get("knowledge", DEFAULT_PARTS[recipe["system"]])


def reads_image(recipe: dict[str, Any]) -> bool:
    """Tell whether a recipe's model has an image encoder."""
    if recipe["system"] in IMAGE_MODELS:
        return recipe.get("model", {}).get("modality", "text_image") == "text_image"
    return recipe.get("fusion") == "prefix"


def image_encoder_clause(recipe: dict[str, Any]) -> str:
    """Name the image encoder, behind the name of the text encoder."""
    if not reads_image(recipe):
        return ""
    if recipe.get("vision_config"):
        return f" and an image encoder ({recipe['vision_config']['model_type']}) that started at random"
    return f" and the image encoder {recipe['vision_backbone']}" if recipe.get("vision_backbone") else ""


def example_input(recipe: dict[str, Any], opening: str) -> str:
    """Return an input of the usage snippet, with the kind of knowledge that the model reads."""
    if reads_image(recipe):
        return opening + ', "image": "post.jpg"}'
    part = next((part for part in knowledge_parts(recipe) if part in EXAMPLE_TEXTS), None)
    return opening + (f', "knowledge": {{"{part}": "{EXAMPLE_TEXTS[part]}"}}}}' if part else "}")


def knowledge_sentences(recipe: dict[str, Any]) -> str:
    """Say which knowledge the model reads, and which sources find it."""
    if recipe["system"] in IMAGE_MODELS and reads_image(recipe):
        read = "the knowledge's `objects` in it" if knowledge_parts(recipe) else "no knowledge"
        objects = " Give it the objects of the detector that it was trained with." if knowledge_parts(recipe) else ""
        return f"It reads the image itself, and {read}.{objects} A post without an image is read as text alone."
    if reads_image(recipe):
        return "It reads the image itself, and crops of the knowledge's `objects` where an input has them."
    parts = knowledge_parts(recipe)
    if not parts:
        return "It reads the text alone: neither image nor knowledge counts."
    sources = [f"`{PART_SOURCES[part]}`" for part in parts if part in PART_SOURCES]
    found = f" Sources that are passed as `knowledge=` find it: {', '.join(sources)}." if sources else ""
    weighed = similarity_sentence(recipe) if recipe["system"] == "mmavk" else ""
    return (
        f"Of an input's knowledge the model reads {', '.join(f'`{part}`' for part in parts)}.{found}{weighed}\n"
        "An image counts through this knowledge only; without any, the text alone decides."
    )


def similarity_sentence(recipe: dict[str, Any]) -> str:
    """Say what MMAVK does with knowledge of an image that does not fit its text."""
    threshold, weight = recipe.get("similarity_threshold", 0.35), recipe.get("low_similarity_weight", 0)
    return (
        f" Where it also has the `similarity` of image and text, knowledge of one below {threshold:g} counts"
        f" {weight:g} of its weight."
    )


def splits_phrase(recipe: dict[str, Any]) -> str:
    """Say which splits were trained on, and which one chose the epochs."""
    dataset, trained = recipe["dataset"], recipe.get("train_splits", ["train"])
    if "validation" in trained:
        return f"the splits {' and '.join(trained)} of {dataset}; the last epoch was kept"
    where = ", where there is one," if dataset in MAY_LACK_VALIDATION else ""
    return f"the training split of {dataset}; the validation split{where} chose the epochs"


def unseen_clause(scores: Sequence[dict[str, Any]]) -> str:
    """Point to the scores of unseen entities where they show the loss."""
    pairs = [[part_f1(row, part) for part in ("seen", "unseen")] for row in scores]
    is_shown = any(seen is not None and unseen is not None and unseen < seen for seen, unseen in pairs)
    return " (unseen entities: see the scores)" if is_shown else ""


def entity_types(config: dict[str, Any]) -> list[str]:
    """Return the entity types among a model's classes: without `non-entity`, `O`, and the marks of BIO tags."""
    names = [name for name in config["id2label"].values() if name not in (NON_ENTITY, "O")]
    return list(dict.fromkeys(name.removeprefix("B-").removeprefix("I-") for name in names))


def reading_sentence(recipe: dict[str, Any]) -> str:
    """Say in one sentence how the system reads a post."""
    if recipe["system"] == "scanner":
        return "One stage finds spans; the other types each in a prompt with its knowledge."
    if recipe["system"] == "mner_qg":
        style = recipe.get("query_style", "annotation")
        return f"It asks the text one query for each type (`query_style: {style}`) and answers with spans."
    if recipe["system"] == "ham_learning":
        return "It tags words with a CRF, after text and image have read each other."
    fusion = recipe["fusion"]
    readings = {"none": "no knowledge is read", "prefix": "the image is read"}
    return f"It tags words with a CRF; {readings.get(fusion, 'the auxiliary text is read')} (`fusion: {fusion}`)."


def storage_sentence(checkpoint: Path, is_default: bool) -> str:
    """Say how large the weights are, and what compacting did to them."""
    files = [*checkpoint.glob("*.safetensors"), *checkpoint.glob(f"{ONNX_FOLDER}/*")]
    size = f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
    if is_onnx_checkpoint(checkpoint):
        return f"The encoders run in ONNX Runtime, on CPUs (`hf-mner[onnx]`); all takes {size}."
    if not (checkpoint / COMPACT_WEIGHTS).is_file():
        return f"The weights take {size}."
    cost = " `docs/results.md` of the repository has what that costs." if is_default else ""
    return f"`hf-mner compact` stored the matrices in eight bits ({size}); they are loaded in single precision.{cost}"


def training_data(recipe: dict[str, Any]) -> list[str]:
    """Name what a recipe trained on, with licences."""
    sources = [find_facts(recipe["dataset"]).source]
    sources += [KNOWLEDGE_SOURCES.get(name, name) for name in recipe.get("knowledge", [])]
    return sources + [source_phrase(spec) for spec in recipe.get("sources", []) if not is_similarity(spec)]


def source_phrase(spec: Any) -> str:
    """Say what a knowledge source of a recipe brought in."""
    name, settings = parse_spec(spec)
    if name == "encyclopedia":
        files = settings["files"] if isinstance(settings["files"], list) else [settings["files"]]
        is_wikipedia = all(Path(file).parts[0] == "wikipedia" for file in files)
        return (
            WIKIPEDIA if is_wikipedia else f"encyclopedia entries of `{', '.join(Path(file).name for file in files)}`"
        )
    made_by = settings.get("model") or (Path(settings["path"]).name if "path" in settings else "the default model")
    return f"{name.replace('_', ' ')} of their images by {made_by}"


def is_similarity(spec: Any) -> bool:
    """Tell whether a source compares what is there and brings in nothing."""
    return parse_spec(spec)[0].endswith("similarity")


def grounding_sentence(config: dict[str, Any]) -> str:
    """Say whether the model proposes boxes."""
    if config.get("model_type") == "mner_qg":
        if config.get("modality") == "text_image" and config.get("grounding_weight"):
            return "Each has the box that answers its type's query in the image."
    elif config.get("grounding_weight"):
        return "It grounds entities in the image's detected objects."
    return "It was not trained to ground: `boxes` is always empty."


def emission_metadata(emissions: Emissions | None) -> dict[str, Any]:
    """Return what is known of the training's energy as the Hub's metadata."""
    if emissions is None:
        return {}
    return {"co2_eq_emissions": {"emissions": float(emissions.grams), "source": emissions.source}}


def energy_sentence(emissions: Emissions | None) -> str:
    """Say what is known of the training's energy."""
    if emissions is None:
        return "Its energy was not measured."
    return f"It emitted {emissions.grams:g} g of CO2 equivalents ({emissions.source})."


def eval_results(row: dict[str, Any]) -> list[EvalResult]:
    """Turn one results file to the Hub's format: all scores of all entities, and the F1 of each type with any."""
    results = [eval_result(row, name, "entity", row["entities"][name]) for name in ("f1", "precision", "recall")]
    types = sorted(row["entities"]["per_type"].items())
    return results + [eval_result(row, "f1", name, part["f1"]) for name, part in types if part.get("support") != 0]


def eval_result(row: dict[str, Any], metric: str, of: str, score: float) -> EvalResult:
    """Turn one score of a results file to the Hub's format."""
    return EvalResult(
        task_type="token-classification",
        task_name="named entity recognition",
        dataset_type=row["dataset"],
        dataset_name=row["dataset"],
        dataset_split=row["split"],
        metric_type=metric,
        metric_value=percent(score),
        metric_name=f"{of} {'F1' if metric == 'f1' else metric}, knowledge: {knowledge_names(row)}",
    )


def knowledge_names(row: dict[str, Any]) -> str:
    """Name the knowledge that a score was measured with."""
    return " + ".join(row["knowledge"]) or "none"


def percent(fraction: float) -> float:
    """Return a fraction as a percentage with two decimals."""
    return round(100 * float(fraction), 2)


def f1_of(scores: dict[str, Any] | None) -> float | None:
    """Return the F1 of some entities, `None` where there are none in the gold data or they were not counted."""
    return None if scores is None or scores.get("support") == 0 else scores["f1"]


def part_f1(row: dict[str, Any], part: str) -> float | None:
    """Return the F1 of `seen` or `unseen` entities; see `f1_of`."""
    return f1_of(row.get("seen_unseen", {}).get(part))


def cell(fraction: float | None) -> str:
    """Write a fraction as a cell of a table."""
    return "-" if fraction is None else f"{percent(fraction):.2f}"


def score_section(scores: Sequence[dict[str, Any]], files: Sequence[str]) -> str:
    """Return the tables of scores with what they are read from."""
    if not scores:
        return "No scores were given with this model."
    hashes = ", ".join(sorted({f"`{row['label_files_sha256']}`" for row in scores}))
    return SCORES.format(
        label_files=hashes,
        files=", ".join(f"`{file}`" for file in files),
        scores=score_table(scores),
        types=type_table(scores) + box_section(scores),
    )


def results_name(path: Path) -> str:
    """Name a results file as it lies below the folder `results`, elsewhere by its own name."""
    parts = path.parts
    return "/".join(parts[parts.index("results") + 1 :]) if "results" in parts[:-1] else path.name


def score_table(scores: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a row for each results file."""
    lines = [
        "| data, split | knowledge | precision | recall | F1 | seen F1 | unseen F1 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in scores:
        cells = [row["entities"][name] for name in ("precision", "recall", "f1")]
        cells += [part_f1(row, part) for part in ("seen", "unseen")]
        numbers = " | ".join(map(cell, cells))
        lines.append(f"| {row['dataset']}, {row['split']} | {knowledge_names(row)} | {numbers} |")
    return "\n".join(lines)


def type_table(scores: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the F1 of each type."""
    types = sorted({name for row in scores for name in row["entities"]["per_type"]})
    lines = ["| knowledge | " + " | ".join(types) + " |", "| --- |" + " ---: |" * len(types)]
    for row in scores:
        numbers = [cell(f1_of(row["entities"]["per_type"].get(name))) for name in types]
        lines.append(f"| {knowledge_names(row)} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def box_section(scores: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown section on the boxes of queries, nothing where no results file has any."""
    rows = [row for row in scores if row.get("grounding", {}).get("support")]
    if not rows:
        return ""
    lines = [
        "| data, split | knowledge | queries | Accu@0.5 | Accu@0.75 | mIoU | F1 with box |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        found = row["grounding"]
        numbers = " | ".join(
            map(cell, [*(found[n] for n in ("accu@0.5", "accu@0.75", "miou")), f1_of(row.get("grounded"))])
        )
        lines.append(f"| {row['dataset']}, {row['split']} | {knowledge_names(row)} | {found['support']} | {numbers} |")
    said = "Boxes: the best box of each query that has gold boxes; and entities whose span, type and box are right:"
    return "\n\n".join(["", said, "\n".join(lines)])
