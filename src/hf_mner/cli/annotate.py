"""`hf-mner annotate`: a large collection of posts in, shards of Parquet with entities out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import (
    DataDir,
    Model,
    PrecisionName,
    SourceNames,
    SourcesFile,
    StoreFile,
    Threshold,
    read_source_specs,
    resumable,
)
from .predict import OnError

if TYPE_CHECKING:
    from hf_mner.annotation import Summary


def annotate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Parquet or .jsonl (.gz): a file, a folder, or a pattern in quotes; a saved data set; a Hub name.",
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the output; the same command again goes on.")],
    model: Model = None,
    source: SourceNames = None,
    sources: SourcesFile = None,
    store: StoreFile = None,
    data_dir: DataDir = None,
    split: Annotated[str | None, typer.Option(help="Split of a data set that has several.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of texts; default: text.")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="Column of words, not texts; default: tokens.")] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Column of images (bytes or paths); default: image, if there.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that names rejects; default: id, if there.")] = None,
    knowledge_column: Annotated[
        list[str] | None, typer.Option(help="PART=COLUMN, such as caption=blip2 (may be repeated).")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column that is written again (may be repeated); default: all.")
    ] = None,
    entities_column: Annotated[str, typer.Option(help="Column that is added.")] = "entities",
    engine: Annotated[Literal["local", "ray"], typer.Option(help="ray: actors of Ray Data (hf-mner[ray]).")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes or actors, with a model each.")] = 1,
    address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster; default: start one.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of the model, such as cuda:0.")] = None,
    precision: PrecisionName = "float32",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    shard_size: Annotated[int, typer.Option(min=1, help="Rows that are written at once.")] = 5_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Most rows in one forward pass.")] = 128,
    batch_tokens: Annotated[
        int, typer.Option(min=16, help="Most tokens in one forward pass; give a GPU more.")
    ] = 2_048,
    threshold: Threshold = 0.0,
    on_error: Annotated[
        OnError, typer.Option(help="What a bad row does: stop, or go to rejects.jsonl and be left out.")
    ] = "raise",
) -> None:
    """Find the entities of a large collection of posts."""
    from hf_mner.annotation import annotate as run

    from .progress import ProgressLines

    specs = read_source_specs(source or [], sources)
    lines = ProgressLines()
    with resumable():
        summary = run(
            data,
            output,
            model=model,
            knowledge=specs,
            split=split,
            text_column=text_column,
            tokens_column=tokens_column,
            image_column=image_column,
            id_column=id_column,
            knowledge_columns=read_pairs(knowledge_column or []),
            columns=column,
            entities_column=entities_column,
            engine=engine,
            workers=workers,
            address=address,
            data_dir=data_dir,
            store=store,
            device=device,
            progress=lambda progress: lines("annotate", progress),
            precision=precision,
            threads=threads,
            shard_size=shard_size,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            threshold=threshold,
            on_error=on_error,
        )
    lines.results([])
    typer.echo(describe_summary(summary))


def describe_summary(summary: Summary) -> str:
    """Return in a line what became of a job."""
    rejects = f", {summary.rejected} rows left out (rejects.jsonl)" if summary.rejected else ""
    new = f"{summary.new_rows} rows in {summary.seconds:.1f} s"
    return f"{summary.rows} rows with {summary.entities} entities{rejects} -> {summary.folder}; {new}."


def read_pairs(pairs: list[str]) -> dict[str, str]:
    """Return `PART=COLUMN` as a mapping.

    Raises:
        ValueError: naming the one without `=`.
    """
    parts = {}
    for pair in pairs:
        part, sign, column = pair.partition("=")
        if not sign or not column:
            raise ValueError(f"`--knowledge-column {pair}` has no column; write PART=COLUMN, such as caption=blip2.")
        parts[part] = column
    return parts
