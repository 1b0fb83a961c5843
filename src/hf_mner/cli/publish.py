"""`hf-mner compact` and `hf-mner card`: what a trained run needs before it is handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence identifier of the weights, such as apache-2.0.")
    ] = None,
) -> None:
    """Render a checkpoint's model card from its recipe and its results files."""
    from hf_mner.hub.model_card import render_model_card

    output.write_text(render_model_card(checkpoint, results, licence), encoding="utf-8")
    typer.echo(output)
