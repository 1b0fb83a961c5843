"""`hf-mner data`: what data sets there are, what they hold, and writing them as Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import DataDir, Granularity

app = typer.Typer(no_args_is_help=True, help="List, count and publish data sets.")
Name = Annotated[str, typer.Argument(help="Name of the data set, see `hf-mner data list`.")]


@app.command("list")
def list_names() -> None:
    """List the data sets that can be loaded."""
    from hf_mner.data.readers import DATASET_NAMES

    for name in DATASET_NAMES:
        typer.echo(name)


@app.command()
def count(name: Name, data_dir: DataDir = None, granularity: Granularity = "coarse") -> None:
    """Count sentences, entities and boxes of each split, as JSON."""
    from hf_mner.data.counting import count_dataset, label_file_hash
    from hf_mner.data.loaders import load_mner_dataset

    dataset = load_mner_dataset(name, data_dir, granularity=granularity)
    counts = {"label_files_sha256": label_file_hash(name, data_dir), **count_dataset(dataset)}
    typer.echo(json.dumps(counts, indent=2))


@app.command()
def build(
    name: Name,
    output: Annotated[Path, typer.Argument(help="New folder for the Parquet files and the card.")],
    data_dir: DataDir = None,
    granularity: Granularity = "coarse",
) -> None:
    """Write a data set as Parquet with a dataset card; `datasets.load_dataset(OUTPUT)` reads it."""
    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.data.publishing import write_parquet_dataset

    typer.echo(write_parquet_dataset(load_mner_dataset(name, data_dir, granularity=granularity), output, name))
