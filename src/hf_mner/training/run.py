"""From a recipe and a data folder to a trained checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from transformers import PreTrainedModel, TrainerCallback

from hf_mner.data.loaders import load_mner_dataset
from hf_mner.data.noise import corrupt_labels
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.registry import open_sources
from hf_mner.knowledge.store import KnowledgeStore

from .fitting import write_whole
from .ham_learning import HamLearningTraining
from .mmavk import MmavkTraining
from .mner_qg import MnerQgTraining
from .options import AS_USUAL, RunOptions
from .recipes import load_recipe
from .scanner import ScannerTraining

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

TRAININGS: dict[str, type[Any]] = {
    "scanner": ScannerTraining,
    "mmavk": MmavkTraining,
    "mner_qg": MnerQgTraining,
    "ham_learning": HamLearningTraining,
}


def train_from_recipe(
    recipe: Any,
    output_dir: str | Path,
    data_dir: str | Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    store: KnowledgeStore | None = None,
    options: RunOptions = AS_USUAL,
) -> PreTrainedModel:
    """Train what a recipe describes; a run that was stopped goes on where it was.

    Args:
        recipe: see `load_recipe`.
        output_dir: receives the checkpoint, every stage, and the recipe as it was run (`recipe.yaml`).
        data_dir: see `load_mner_dataset`.
        callbacks: passed to every trainer.
        store: keeps what the recipe's sources find, so that another run does not ask again.
        options: how it runs here.

    Raises:
        ValueError: if `output_dir` already holds the run of another recipe.
    """
    return open_training(recipe, output_dir, data_dir, callbacks, store, options).run()


def open_training(
    recipe: Any,
    output_dir: str | Path,
    data_dir: str | Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    store: KnowledgeStore | None = None,
    options: RunOptions = AS_USUAL,
) -> Any:
    """Load the data of a recipe, claim its folder and return its `Training`; see `train_from_recipe`."""
    claim_folder(Path(output_dir), recipe)
    dataset = load_mner_dataset(recipe.dataset, data_dir, granularity=recipe.granularity, knowledge=recipe.knowledge)
    if "train" not in dataset:
        raise ValueError(f"Data set {recipe.dataset!r} has no split `train` here, only {', '.join(dataset)}.")
    has_choice = "validation" in dataset and "validation" not in recipe.train_splits  # else the last epoch is kept
    types = entity_types(dataset["train"])
    train = [example for split in recipe.train_splits for example in examples_of(dataset[split], recipe.reads_images)]
    if recipe.label_noise:
        train, spoilt = corrupt_labels(train, recipe.label_noise, recipe.seed, types)
        logger.info("Labels of %d training entities were spoilt on purpose: %s", sum(spoilt.values()), spoilt)
    return TRAININGS[recipe.system](
        recipe,
        train=train,
        validation=examples_of(dataset["validation"], recipe.reads_images) if has_choice else [],
        types=types,
        output_dir=output_dir,
        sources=open_sources(recipe.sources, data_dir, store),
        callbacks=callbacks,
        options=options,
    )


def claim_folder(folder: Path, recipe: Any) -> None:
    """Write the recipe into its output folder, or refuse a folder that holds the run of another recipe.

    A folder that holds nothing but a recipe (the run failed before it trained) is free.
    """
    path = folder / "recipe.yaml"
    is_used = path.is_file() and any(entry != path for entry in folder.iterdir())
    if is_used and load_recipe(path) != recipe:
        raise ValueError(f"{folder} holds the run of another recipe (see {path}); choose another output folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(recipe_values(recipe), sort_keys=False))


def recipe_values(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain nested dictionaries."""
    return {
        name: recipe_values(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in vars(recipe).items()
    }


def examples_of(dataset: Dataset, has_images: bool = False) -> list[MnerExample]:
    """Return the rows of a data set as examples; their images, if wanted, not yet decoded."""
    from datasets import Image

    if not has_images:
        return dataset.remove_columns("image").to_list()
    return dataset.cast_column("image", Image(decode=False)).to_list()


def entity_types(dataset: Dataset) -> list[str]:
    """Return the entity types of a data set in the order of its labels."""
    names = dataset.features["ner_tags"].feature.names
    return [name[2:] for name in names if name.startswith("B-")]
