"""One run of a plan, in a folder of its own: trained where it is not, scored on what its cells want."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from hf_mner.data.counting import label_file_hash
from hf_mner.data.loaders import load_mner_dataset
from hf_mner.data.schema import MnerExample
from hf_mner.evaluation import find_entities, grounded_of, score_found, spans_of
from hf_mner.file_locks import lock_file
from hf_mner.knowledge.registry import open_sources
from hf_mner.knowledge.store import KnowledgeStore
from hf_mner.metrics import count_grounded_entities, count_spans, select_seen, surface_forms
from hf_mner.training.fitting import PARAMETERS, device_name, is_finished, training_device, write_whole
from hf_mner.training.recipe_parsing import parse_recipe
from hf_mner.training.recipes import RECIPES, RecognitionRecipe, ScannerRecipe
from hf_mner.training.run import examples_of, open_training
from hf_mner.training.scanner import NON_ENTITIES, ScannerTraining

logger = logging.getLogger(__name__)

DETECTION, LOG = "detection", "log.json"


def execute(job: Mapping[str, Any]) -> None:
    """Train and score one run; what is finished is not done again, and two processes never do it at once.

    Args:
        job: `kind`, `recipe` (plain values), `folder`, `needs` (folders by what they give), `evaluate` (pairs of data
            set and split), `data_dir`, `store` and `keeps_weights`.
    """
    folder = Path(job["folder"])
    with locked(folder):
        recipe = parse_recipe(job["recipe"], RECIPES[job["recipe"]["system"]], str(folder))
        if job["kind"] != "whole":
            recipe = stage_one_recipe(recipe)
        if job["kind"] == "non_entities":
            return cross_fit(recipe, folder, job)
        left = [pair for pair in job["evaluate"] if not scores_file(folder, *pair).is_file()]
        if job["kind"] == "detection":
            if left or not is_finished(folder / DETECTION):
                model = open_training(recipe, folder, job["data_dir"]).run_detection()
                score_run(model, folder / DETECTION, folder, recipe, left, job)
        elif left:
            if (folder / LOG).is_file() and not is_finished(folder):
                logger.warning("%s was scored and its weights were dropped; it is trained again.", folder)
            with open_kept(job["store"]) as store:
                training = open_training(recipe, folder, job["data_dir"], store=store)
                if isinstance(training, ScannerTraining):
                    training.detection_dir = Path(job["needs"]["detection"])
                    training.non_entities_dir = Path(job["needs"].get("non_entities", folder))
                score_run(training.run().to(training_device()), folder, folder, recipe, left, job, store)
        if job["kind"] == "whole" and not job["keeps_weights"]:
            drop_weights(folder)


def stage_one_recipe(recipe: ScannerRecipe) -> ScannerRecipe:
    """Return a recipe without what stage 1 does not read, in which the rows that share it may differ."""
    schedule = {name: getattr(recipe.detection, name) for name in ("epochs", "batch_size", "learning_rate")}
    recognition = RecognitionRecipe(**schedule, weight_decay=0, knowledge=[])
    return replace(recipe, knowledge=[], sources=[], recognition=recognition)


def cross_fit(recipe: Any, folder: Path, job: Mapping[str, Any]) -> None:
    """Collect the non-entities of SCANNER's stage 1 in a folder."""
    if not (folder / NON_ENTITIES).is_file():
        open_training(recipe, folder, job["data_dir"]).non_entities()


def scores_file(folder: Path, dataset: str, split: str) -> Path:
    """Return where the scores of a run lie."""
    return folder / f"scores-{dataset}-{split}.json"


def score_run(
    model: Any,
    model_dir: Path,
    folder: Path,
    recipe: Any,
    pairs: Sequence[Sequence[str]],
    job: Mapping[str, Any],
    store: KnowledgeStore | None = None,
) -> None:
    """Score a model on data sets and splits; a file for each holds the scores and the counts of every text."""
    processor = AutoProcessor.from_pretrained(model_dir)
    is_detection = job["kind"] == "detection"
    sources = [] if is_detection else open_sources(recipe.sources, job["data_dir"], store)
    for dataset, split in pairs:
        knowledge = [] if is_detection else recipe.knowledge
        loaded = load_mner_dataset(dataset, job["data_dir"], knowledge=knowledge, granularity=recipe.granularity)
        examples = examples_of(loaded[split], recipe.reads_images and not is_detection)
        forms = training_forms(recipe, job["data_dir"])
        found = find_entities(model.eval(), processor, examples, sources=sources)
        scores = {
            "dataset": dataset,
            "split": split,
            "label_files_sha256": label_file_hash(dataset, job["data_dir"]),
            "device": device_name(),
            **parameter_count(model_dir),
            **score_found(found, processor, examples, forms),
            "counts": text_counts(found, examples, forms, processor.stages[-1]),
        }
        write_whole(scores_file(folder, dataset, split), json.dumps(scores))


def training_forms(recipe: Any, data_dir: str | None) -> set[str]:
    """Return the surface forms of the entities that a recipe trains on; spoilt labels do not count."""
    loaded = load_mner_dataset(recipe.dataset, data_dir, knowledge=[], granularity=recipe.granularity)
    train = [example for split in recipe.train_splits for example in examples_of(loaded[split])]
    return surface_forms([example["tokens"] for example in train], [spans_of(example) for example in train])


def parameter_count(model_dir: Path) -> dict[str, Any]:
    """Return how many parameters were trained, where a model of one stage says it."""
    file = model_dir / PARAMETERS
    return {"parameters": json.loads(file.read_text(encoding="utf-8"))} if file.is_file() else {}


def text_counts(
    found: Mapping[str, Sequence[MnerExample]], examples: Sequence[MnerExample], forms: set[str], last_stage: str
) -> dict[str, list[tuple[int, int, int]]]:
    """Return the counts `(correct, predicted, gold)` of each text by measure, for tests over texts.

    Args:
        found: what each stage found, see `find_entities`.
        examples: the gold.
        forms: surface forms of the training entities.
        last_stage: the stage that gives types.
    """
    gold = [spans_of(example) for example in examples]
    counts = {
        stage: count_spans([untyped(spans_of(example)) for example in part], [untyped(spans) for spans in gold])
        for stage, part in found.items()
        if stage == DETECTION
    }
    if last_stage not in found:
        return counts
    predicted, tokens = [spans_of(example) for example in found[last_stage]], [e["tokens"] for e in examples]
    counts["entities"] = count_spans(predicted, gold)
    counts["unseen"] = count_spans(*(select_seen(side, tokens, forms, is_seen=False) for side in (predicted, gold)))
    if any(entity["boxes"] for example in examples for entity in example["entities"]):
        regions = [grounded_of(example) for example in found[last_stage]]
        counts["grounded"] = count_grounded_entities(regions, [example["entities"] for example in examples])
    return counts


def untyped(spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return spans without their types."""
    return [(start, end, "") for start, end, _ in spans]


def drop_weights(folder: Path) -> None:
    """Remove the weights of a scored run, those of its stages and teachers too."""
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for one process; another waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        lock_file(file, waits=True)
        yield


@contextmanager
def open_kept(path: str | None) -> Iterator[KnowledgeStore | None]:
    """Open the knowledge store, if one is given."""
    if path is None:
        yield None
        return
    with KnowledgeStore(path) as store:
        yield store


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    execute(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
