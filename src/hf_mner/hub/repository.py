"""The folder that a published model is: weights, configuration, processor, recipe, knowledge, results and card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.utils import validate_repo_id

from hf_mner.auto import SYSTEMS, load_class
from hf_mner.knowledge.model_identity import model_revision

from .local_paths import publishable_recipe, without_local_paths
from .model_card import Emissions, knowledge_parts, read_results, render_model_card
from .remote_code import MODULE, add_remote_code, read_json, write_json
from .training_cost import COST, training_cost

PUBLISHED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "onnx.json",
    "onnx/*",
    "adapter/*",
)
OWN_FILES = [*PUBLISHED, "recipe.yaml", "knowledge.json", COST, "results/*", f"{MODULE}.py"]
NEEDED = ("config.json", "processor_config.json")


def write_model_repository(
    checkpoint: str | Path,
    output: str | Path,
    repo_id: str,
    results: Sequence[str | Path] = (),
    licence: str | None = None,
    emissions: Emissions | None = None,
) -> Path:
    """Write everything that is uploaded for a model into a folder; paths of this machine are shortened to names.

    Args:
        checkpoint: folder of a finished `hf-mner train` or `hf-mner compact`.
        output: new or empty folder.
        repo_id: where it will be published, such as `me/my-model`; the card's code uses it.
        results: JSON files of `hf-mner evaluate`; the card's scores are read from them.
        licence: licence identifier of the weights.
        emissions: what is known of the training's energy.

    Returns:
        The output folder.

    Raises:
        FileNotFoundError: if the checkpoint lacks a file that is needed, naming it.
        FileExistsError: if the output folder is not empty.
        ValueError: if the model is of no system, a results file is none or of another model, or `repo_id` is no name.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    check_repo_id(repo_id)
    check_checkpoint(checkpoint)
    for path in results:
        check_results(Path(path), checkpoint)
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty; choose a new folder, so that nothing else is published.")
    output.mkdir(parents=True, exist_ok=True)
    for pattern in PUBLISHED:
        for file in checkpoint.glob(pattern):
            copy = output / file.relative_to(checkpoint)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)  # not the rights: what is published can be read by all
    recipe = publishable_recipe(yaml.safe_load(recipe_file(checkpoint).read_text(encoding="utf-8")))
    (output / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_json(output / "config.json", without_local_paths(read_json(checkpoint / "config.json")))
    write_json(output / "knowledge.json", knowledge_list(recipe))
    if cost := training_cost(checkpoint):
        write_json(output / COST, cost)
    copies = [copy_results(Path(path), output / "results", repo_id) for path in results]
    add_remote_code(output)
    card = render_model_card(output, copies, licence, repo_id=repo_id, emissions=emissions)
    (output / "README.md").write_text(card, encoding="utf-8")
    return output


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no `OWNER/NAME`."""
    validate_repo_id(repo_id)
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} has no owner; write OWNER/NAME, such as me/{repo_id}.")


def check_results(file: Path, checkpoint: Path) -> None:
    """Refuse a results file that is none, or that another model's scores are in.

    Files of this version know the weights; of older ones the stages of the system must be those of the checkpoint.
    """
    row = read_results(file)
    digest, stages = row.get("model_revision"), row.get("stages")
    model_type = read_json(checkpoint / "config.json").get("model_type")
    is_other = stages is not None and model_type in SYSTEMS and not set(stages) <= set(stages_of(model_type))
    if is_other or (digest is not None and digest != model_revision(str(checkpoint))):
        raise ValueError(
            f"`--results {file}` holds scores of another model ({row.get('model')!r}), not of {checkpoint}; give a"
            f" file of `hf-mner evaluate --model {checkpoint}`."
        )


def stages_of(model_type: str) -> tuple[str, ...]:
    """Name the stages of a system."""
    processor: Any = load_class(model_type, "processing", SYSTEMS[model_type].processor)
    return processor.stages


def check_checkpoint(folder: Path) -> None:
    """Refuse a folder that is no finished checkpoint with its recipe."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not recipe_file(folder).is_file():
        missing.append("recipe.yaml")
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; give the folder of a finished `hf-mner train` or `hf-mner compact`."
        )


def recipe_file(checkpoint: Path) -> Path:
    """Return the recipe of a checkpoint, that of its run for a part of one (adapters, a stage)."""
    own = checkpoint / "recipe.yaml"
    return own if own.is_file() else checkpoint.parent / "recipe.yaml"


def copy_results(file: Path, folder: Path, repo_id: str) -> Path:
    """Copy a results file; the model in it is the published one.

    Raises:
        FileExistsError: if two files have the same name.
    """
    copy = folder / file.name
    if copy.exists():
        raise FileExistsError(f"`--results {file}`: another results file is called {file.name}; rename one of them.")
    folder.mkdir(exist_ok=True)
    write_json(copy, without_local_paths({**read_results(file), "model": repo_id}))
    return copy


def knowledge_list(recipe: dict[str, Any]) -> dict[str, Any]:
    """List the knowledge that a model reads, and the files and sources that its training's knowledge came from."""
    parts = knowledge_parts(recipe)
    is_weighed = recipe["system"] == "mmavk" and (parts or recipe.get("fusion") == "prefix")
    return {
        "reads": [*parts, "similarity"] if is_weighed else parts,
        "trained_with": {"files": recipe.get("knowledge", []), "sources": recipe.get("sources", [])},
    }
