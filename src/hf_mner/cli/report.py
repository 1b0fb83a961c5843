"""`hf-mner report`: what a model gets wrong on a split of a data set, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import BatchSize, DataDir, Model, SourceNames, SourcesFile, StoreFile, Threshold
from .scoring import DatasetName, IsTextOnly, JoinedKnowledge, Split, open_scoring, read_split, warn_of_unknown_types


def report(
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
    max_mistakes: Annotated[int, typer.Option(min=0, help="Mistakes that are shown, the most confident first.")] = 50,
    output: Annotated[Path, typer.Option(help="HTML file for the report.")] = Path("report.html"),
    predictions: Annotated[
        Path | None, typer.Option(help="JSON lines file for all predictions beside the gold.", show_default=False)
    ] = None,
) -> None:
    """Write what a checkpoint gets wrong: scores, kinds of errors, types, calibration, and its mistakes."""
    check_outputs(output, predictions)
    from rich.progress import track

    from hf_mner.evaluation import find_entities, score_found
    from hf_mner.reports import build_error_report, prediction_lines, render_error_report

    with open_scoring(model, dataset, split, data_dir, knowledge, source, sources, store, is_text_only) as scoring:
        processor, stages = scoring.pipe.processor, scoring.pipe.model.stages or scoring.pipe.processor.stages
        if processor.stages[-1] not in stages:
            raise ValueError(
                f"`--model` is {scoring.model}, which stops after the stage {', '.join(stages)} and finds no typed"
                " entities; give the folder of a whole model."
            )
        data = read_split(scoring)
        found = find_entities(
            scoring.pipe.model,
            processor,
            data.examples,
            sources=scoring.sources,
            threshold=threshold,
            batch_size=batch_size,
            progress=lambda chunks: track(chunks, description="Scoring"),
        )
    scores = score_found(found, processor, data.examples, data.training_entities)
    warn_of_unknown_types(scoring, scores)
    last = found[processor.stages[-1]]
    facts = {
        **{name: scoring.facts()[name] for name in ("model", "dataset", "split")},
        "texts": str(scores["examples"]),
        "knowledge": ", ".join(scoring.knowledge) or "none",
        "threshold": f"{threshold:g}",
        "label files, SHA-256": data.label_files_sha256 or "none",
    }
    page = render_error_report(build_error_report(last, data.examples, scores, facts, data.image_names, max_mistakes))
    write_text(output, page)
    typer.echo(f"Report: {output}")
    if predictions is not None:
        write_text(
            predictions, "".join(f"{line}\n" for line in prediction_lines(last, data.examples, data.image_names))
        )
        typer.echo(f"Predictions: {predictions}")


def check_outputs(output: Path, predictions: Path | None) -> None:
    """Refuse files whose names say that they are something else, before the model reads anything.

    Raises:
        ValueError: naming the option and the ending that was expected.
    """
    check_ending(output, "--output", ".html", ".htm")
    if predictions is not None:
        check_ending(predictions, "--predictions", ".jsonl")


def check_ending(path: Path, option: str, *endings: str) -> None:
    """Refuse a file whose name ends in nothing that is expected; the first ending is the one that is asked for.

    Raises:
        ValueError: naming the option and the ending.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(f"`{option}` is '{path}'; expected a file that ends in {endings[0]}. Rename it.")


def write_text(path: Path, text: str) -> None:
    """Write a file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
