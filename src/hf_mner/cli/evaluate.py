"""`hf-mner evaluate`: score a checkpoint on a split of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    BatchSize,
    DataDir,
    IsCompiled,
    Model,
    PrecisionName,
    SourceNames,
    SourcesFile,
    StoreFile,
    Threshold,
)
from .scoring import DatasetName, IsTextOnly, JoinedKnowledge, Split, open_scoring, read_split, warn_of_unknown_types


def evaluate(
    model: Model = None,
    dataset: DatasetName = "twitter2017",
    split: Split = "test",
    data_dir: DataDir = None,
    knowledge: JoinedKnowledge = None,
    source: SourceNames = None,
    sources: SourcesFile = None,
    store: StoreFile = None,
    is_text_only: IsTextOnly = False,
    threshold: Threshold = 0.0,
    batch_size: BatchSize = 32,
    precision: PrecisionName = "float32",
    is_compiled: IsCompiled = False,
    output: Annotated[Path | None, typer.Option(help="JSON file for the scores.")] = None,
) -> None:
    """Score a checkpoint: entities, every stage, every type, seen and unseen, boxes."""
    from rich.progress import track

    from hf_mner.evaluation import evaluate_model
    from hf_mner.metrics import format_scores

    options: dict[str, Any] = {"precision": precision, "compiled": is_compiled}
    with open_scoring(
        model, dataset, split, data_dir, knowledge, source, sources, store, is_text_only, **options
    ) as scoring:
        data = read_split(scoring)
        scores = {
            **scoring.facts(),
            **({"precision": precision} if precision != "float32" else {}),
            "label_files_sha256": data.label_files_sha256,
            **evaluate_model(
                scoring.pipe.model,
                scoring.pipe.processor,
                data.examples,
                training_entities=data.training_entities,
                sources=scoring.sources,
                threshold=threshold,
                batch_size=batch_size,
                progress=lambda chunks: track(chunks, description="Scoring"),
            ),
        }
    warn_of_unknown_types(scoring, scores)
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
