"""`hf-mner compact`, `card` and `push`: what a trained run needs before it is handed on, and handing it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import UPLOAD_MESSAGE, CreatePr, Message, Private, RepoId, Revision

Licence = Annotated[
    str | None, typer.Option("--license", help="Licence identifier of the weights, such as apache-2.0.")
]


def compact(
    run: Annotated[Path, typer.Argument(help="Folder of a finished `hf-mner train`.")],
    output: Annotated[Path, typer.Argument(help="New folder for the compact checkpoint.")],
) -> None:
    """Write a run's model with 8-bit matrices, without training state."""
    from hf_mner.hub.compact import write_compact_checkpoint

    typer.echo(write_compact_checkpoint(run, output))


def card(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder with its recipe.yaml.")],
    output: Annotated[Path, typer.Argument(help="Markdown file to write.")],
    results: Annotated[
        list[Path], typer.Option("--results", help="JSON file of `hf-mner evaluate`; repeat for more.")
    ],
    licence: Licence = None,
) -> None:
    """Render a checkpoint's model card from its recipe and its results files."""
    from hf_mner.hub.model_card import render_model_card

    output.write_text(render_model_card(checkpoint, results, licence), encoding="utf-8")
    typer.echo(output)


def push(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a finished `hf-mner train` or `hf-mner compact`.")],
    repo: RepoId,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="JSON file of `hf-mner evaluate` for the card; repeat for more."),
    ] = None,
    licence: Licence = None,
    private: Private = False,
    message: Message = UPLOAD_MESSAGE,
    revision: Revision = None,
    create_pr: CreatePr = False,
    co2: Annotated[
        float | None, typer.Option(min=0, help="Grams of CO2 equivalents of the training, if you know them.")
    ] = None,
    co2_source: Annotated[str | None, typer.Option(help="How they are known: codecarbon, a meter, ...")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write what would be published into this new folder, and upload nothing.")
    ] = None,
) -> None:
    """Publish a model on the Hub: weights, processor, recipe, knowledge list, results and card, in one commit.

    It asks for no token: log in with `hf auth login`, or set HF_TOKEN.
    """
    from hf_mner.hub.model_card import Emissions
    from hf_mner.hub.push import push_model
    from hf_mner.hub.repository import write_model_repository

    if (co2 is None) != (co2_source is None):
        raise ValueError("Give `--co2` and `--co2-source` together: a number needs to say where it is from.")
    emissions = None if co2 is None else Emissions(co2, co2_source or "")
    if output is not None:
        typer.echo(write_model_repository(checkpoint, output, repo, results or (), licence, emissions))
        return
    options: dict[str, Any] = {"private": private or None, "message": message}
    options |= {"revision": revision, "create_pr": create_pr}
    typer.echo(push_model(checkpoint, repo, results or (), licence, emissions, **options))
