"""`hf-mner data`: what data sets there are, what they hold, writing them as Parquet, generating one, and boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import UPLOAD_MESSAGE, CreatePr, DataDir, Granularity, Message, Private, RepoId, Revision
from .weak_boxes import weak_boxes

app = typer.Typer(no_args_is_help=True, help="List, count, publish, generate and ground data sets.")
app.command("weak-boxes")(weak_boxes)
Granularities = Annotated[
    list[str] | None,
    typer.Option("--granularity", help="coarse or fine (FMNERG); both = two configurations.", show_default="coarse"),
]
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
    granularity: Granularities = None,
) -> None:
    """Write a data set as Parquet with a dataset card; `datasets.load_dataset(OUTPUT)` reads it."""
    from hf_mner.data.publishing import write_parquet_configurations

    typer.echo(write_parquet_configurations(load_configurations(name, data_dir, granularity), output, name))


@app.command()
def push(
    name: Name,
    repo: RepoId,
    data_dir: DataDir = None,
    granularity: Granularities = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of your own texts and images, such as cc-by-4.0.")
    ] = None,
    private: Private = False,
    message: Message = UPLOAD_MESSAGE,
    revision: Revision = None,
    create_pr: CreatePr = False,
) -> None:
    """Publish a data set on the Hub as Parquet with a dataset card; `datasets.load_dataset(REPO)` reads it.

    Mind the licence of texts and images: `hf-mner data build` writes the same files to look at.
    """
    from hf_mner.hub.push import push_dataset

    configurations = load_configurations(name, data_dir, granularity)
    options = {"private": private or None, "message": message, "revision": revision, "create_pr": create_pr}
    typer.echo(push_dataset(configurations, repo, name, licence, **options))


def load_configurations(name: str, data_dir: Path | None, granularities: list[str] | None) -> dict[str, Any]:
    """Load a data set once for each granularity; one alone is the configuration `default`."""
    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.data.publishing import DEFAULT

    wanted: list[Any] = list(dict.fromkeys(granularities or ["coarse"]))
    return {
        DEFAULT if len(wanted) == 1 else granularity: load_mner_dataset(name, data_dir, granularity=granularity)
        for granularity in wanted
    }


@app.command()
def synthetic(
    output: Annotated[Path, typer.Argument(help="New folder for label files, images and boxes.")],
    train: Annotated[int, typer.Option(min=0, help="Training examples; 0 leaves the split out.")] = 2000,
    validation: Annotated[int, typer.Option(min=0, help="Validation examples; 0 leaves the split out.")] = 300,
    test: Annotated[int, typer.Option(min=0, help="Test examples; 0 leaves the split out.")] = 500,
    seed: Annotated[int, typer.Option(help="Sets of different seeds share no example.")] = 0,
    uninformative_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of examples whose picture does not tell the type.")
    ] = 0.0,
    knowledge: Annotated[
        bool, typer.Option("--knowledge/--no-knowledge", help="Write what the pictures show as knowledge.jsonl.")
    ] = False,
    signal: Annotated[
        Literal["symbol", "relation"],
        typer.Option(help="What tells the type: a key symbol, or where a circle lies seen from a square."),
    ] = "symbol",
    misleading_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of examples whose picture tells a random type; every post then ends with a topic, a shape that"
            " such a picture does not show.",
        ),
    ] = 0.0,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="Entity type (may be repeated; default: PER, LOC, ORG, MISC).", show_default=False
        ),
    ] = None,
) -> None:
    """Write a planted-signal set, whose types only the pictures tell, as a folder of one's own.

    `load_mner_dataset("folder", OUTPUT)`, and every command that takes a folder, read it.
    """
    from hf_mner.data.synthetic import PlantedSignal
    from hf_mner.data.synthetic_folder import write_planted_folder

    settings: dict[str, Any] = {"types": tuple(types)} if types else {}
    settings |= {"uninformative_share": uninformative_share, "misleading_share": misleading_share}
    settings |= {"with_knowledge": knowledge, "signal": signal}
    planted = PlantedSignal(seed=seed, **settings)
    sizes = {"train": train, "validation": validation, "test": test}
    typer.echo(write_planted_folder(planted, {split: size for split, size in sizes.items() if size}, output))
