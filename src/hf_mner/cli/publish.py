"""`hf-mner compact`, `card` and `push`: what a trained run needs before it is handed on, and handing it on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import UPLOAD_MESSAGE, CreatePr, Message, Private, RepoId, Revision

if TYPE_CHECKING:
    from hf_mner.hub.model_card import Emissions

Licence = Annotated[
    str | None, typer.Option("--license", help="Licence identifier of the weights, such as apache-2.0.")
]
Co2 = Annotated[float | None, typer.Option(min=0, help="Grams of CO2 equivalents of the training, if you know them.")]
Co2Source = Annotated[str | None, typer.Option(help="How they are known: codecarbon, a meter, ...")]


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
    repo: Annotated[str | None, typer.Option(help="Name on the Hub that the card's code opens.")] = None,
    co2: Co2 = None,
    co2_source: Co2Source = None,
) -> None:
    """Render a checkpoint's model card from its recipe and its results files."""
    from hf_mner.hub.model_card import render_model_card
    from hf_mner.hub.repository import check_repo_id

    if repo is not None:
        check_repo_id(repo)
    text = render_model_card(checkpoint, results, licence, repo, known_emissions(co2, co2_source))
    output.write_text(text, encoding="utf-8")
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
    co2: Co2 = None,
    co2_source: Co2Source = None,
    output: Annotated[
        Path | None, typer.Option(help="Write what would be published into this new folder, and upload nothing.")
    ] = None,
) -> None:
    """Publish a model on the Hub: weights, processor, recipe, knowledge list, results and card, in one commit.

    It asks for no token: log in with `hf auth login`, or set HF_TOKEN.
    """
    from hf_mner.hub.push import push_model
    from hf_mner.hub.repository import write_model_repository

    emissions = known_emissions(co2, co2_source)
    if output is not None:
        typer.echo(write_model_repository(checkpoint, output, repo, results or (), licence, emissions))
        return
    options: dict[str, Any] = {"private": private or None, "message": message}
    options |= {"revision": revision, "create_pr": create_pr}
    typer.echo(push_model(checkpoint, repo, results or (), licence, emissions, **options))


def known_emissions(co2: float | None, source: str | None) -> Emissions | None:
    """Return what the options say of the training's energy.

    Raises:
        ValueError: for a number without its source, or a source without a number.
    """
    from hf_mner.hub.model_card import Emissions

    if (co2 is None) != (source is None):
        raise ValueError("Give `--co2` and `--co2-source` together: a number needs to say where it is from.")
    return None if co2 is None else Emissions(co2, source or "")
