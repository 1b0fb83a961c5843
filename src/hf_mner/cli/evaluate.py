"""`hf-mner evaluate`: score a checkpoint on a split of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import (
    BatchSize,
    DataDir,
    Model,
    SourceNames,
    SourcesFile,
    StoreFile,
    Threshold,
    open_pipeline,
    open_store,
    read_source_specs,
)


def evaluate(
    model: Model = None,
    dataset: Annotated[str, typer.Option(help="Name of the data set, see `hf-mner data list`.")] = "twitter2017",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    data_dir: DataDir = None,
    knowledge: Annotated[
        list[str] | None, typer.Option(help="Knowledge to join, as in a recipe; default: the recipe's own.")
    ] = None,
    source: SourceNames = None,
    sources: SourcesFile = None,
    store: StoreFile = None,
    is_text_only: Annotated[bool, typer.Option("--no-knowledge", help="Show the model the text alone.")] = False,
    threshold: Threshold = 0.0,
    batch_size: BatchSize = 32,
    output: Annotated[Path | None, typer.Option(help="JSON file for the scores.")] = None,
) -> None:
    """Score a checkpoint: entities, every stage, every type, seen and unseen, boxes."""
    from hf_mner.data.leakage import refuse_leakage
    from hf_mner.knowledge.base import source_name, sources_read
    from hf_mner.knowledge.registry import describe_spec, open_sources
    from hf_mner.metrics import format_scores

    pipe = open_pipeline(model)
    recipe = saved_recipe(model)
    if split == "test" and recipe:
        refuse_leakage(recipe["dataset"], dataset)
    known = recipe.get("knowledge", []) if recipe.get("dataset") == dataset else []
    names = [] if is_text_only else known if knowledge is None else knowledge
    granularity: Any = recipe.get("granularity", "coarse") if recipe.get("dataset") == dataset else "coarse"
    specs = read_source_specs(source or [], sources) or recipe.get("sources", [])
    specs = [] if is_text_only else specs
    with open_store(store) as kept:
        opened = open_sources(specs, data_dir, kept)
        read, idle = sources_read(opened, pipe.processor.knowledge_parts())
        for unread in idle:
            typer.echo(f"{source_name(unread)} is not asked: the model does not read it.", err=True)
        scores = {
            "model": model or "embedded default",
            "dataset": dataset,
            "split": split,
            "reading": "conlleval",
            "knowledge": [
                *names,
                *(describe_spec(spec) for spec, asked in zip(specs, opened, strict=True) if asked in read),
            ],
            **score(pipe, dataset, split, data_dir, names, read, threshold, batch_size, granularity),
        }
    if unknown := sorted(set(scores.get("entities", {}).get("per_type", {})) - set(pipe.model.entity_types)):
        typer.echo(f"The model has no class {', '.join(unknown)}; those entities count as missed.", err=True)
    typer.echo(f"knowledge: {', '.join(scores['knowledge']) or 'none'}")
    for stage, values in scores["stages"].items():
        typer.echo(f"spans of stage {stage}, whatever their type\n{format_scores(values)}")
    for part in ("entities", "seen_unseen", "grounded", "grounding"):
        if part in scores:
            typer.echo(f"{part}\n{format_scores(scores[part])}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        typer.echo(f"Scores: {output}")


def score(
    pipe: Any,
    dataset: str,
    split: str,
    data_dir: Path | None,
    knowledge: list[str],
    sources: list[Any],
    threshold: float,
    batch_size: int,
    granularity: Literal["coarse", "fine"],
) -> dict[str, Any]:
    """Load the split, score the pipeline's model on it, and add the hash of the label files."""
    from rich.progress import track

    from hf_mner.data.counting import label_file_hash
    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.evaluation import evaluate_model, spans_of
    from hf_mner.metrics import surface_forms
    from hf_mner.training.run import examples_of

    loaded = load_mner_dataset(dataset, data_dir, knowledge=knowledge, granularity=granularity)
    if split not in loaded:
        raise ValueError(f"`--split {split}` is not in {dataset}; it has {', '.join(loaded)}.")
    is_seen = "image" in pipe.model.input_modalities
    has_images = is_seen or any("image" in getattr(source, "reads", ("image",)) for source in sources)
    train = examples_of(loaded["train"]) if "train" in loaded else []
    forms = surface_forms([e["tokens"] for e in train], [spans_of(e) for e in train])
    scores = evaluate_model(
        pipe.model,
        pipe.processor,
        examples_of(loaded[split], has_images),
        training_entities=forms if train else None,
        sources=sources,
        threshold=threshold,
        batch_size=batch_size,
        progress=lambda chunks: track(chunks, description="Scoring"),
    )
    return {"label_files_sha256": label_file_hash(dataset, data_dir), **scores}


def saved_recipe(model: str | None) -> dict[str, Any]:
    """Return the recipe that lies beside a checkpoint (or beside the run of one stage), empty where there is none."""
    import yaml

    from hf_mner.pipelines import DEFAULT_CHECKPOINT

    folder = Path(model or str(DEFAULT_CHECKPOINT))
    path = next((path for path in (folder / "recipe.yaml", folder.parent / "recipe.yaml") if path.is_file()), None)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
