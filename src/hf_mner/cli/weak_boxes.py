"""`hf-mner data weak-boxes`: a model that grounds phrases gives the entities of a data set their boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import BatchSize, DataDir, Granularity, Settings, check_file, resumable
from .train import parse_setting


def weak_boxes(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, see `hf-mner data list`.")],
    output: Annotated[Path, typer.Argument(help="New folder; a run that was stopped goes on there.")],
    data_dir: DataDir = None,
    granularity: Granularity = "coarse",
    model: Annotated[Path | None, typer.Option(help="Folder of a trained MnerQgForVisualGrounding.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="In its place, a recipe with `task: grounding`, trained in OUTPUT first.")
    ] = None,
    phrases_dir: Annotated[
        Path | None, typer.Option(help="Folder of the recipe's phrases; default: that of --data-dir.")
    ] = None,
    settings: Settings = None,
    is_fine_tuned: Annotated[
        bool, typer.Option("--fine-tune", help="Train further on the gold boxes of the data set's train split first.")
    ] = False,
    query: Annotated[
        Literal["type", "mention"], typer.Option(help="One query for each type in a text, or each entity's words.")
    ] = "type",
    query_style: Annotated[
        Literal["keyword", "template", "wikipedia", "annotation"], typer.Option(help="How a type becomes a query.")
    ] = "annotation",
    min_score: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out boxes of a lower confidence; 0: always one, as in the paper."),
    ] = 0.0,
    replaces_gold: Annotated[
        bool, typer.Option("--replace-gold", help="Write weak boxes in the place of gold ones.")
    ] = False,
    links_images: Annotated[bool, typer.Option("--link-images", help="Link the images, do not copy them.")] = False,
    on_error: Annotated[
        Literal["raise", "skip"], typer.Option(help="What a bad row or image does: stop, or be reported and skipped.")
    ] = "raise",
    batch_size: BatchSize = 32,
) -> None:
    """Write a data set with weak boxes as a folder of one's own (MNER-QG, "Dataset Construction").

    `load_mner_dataset("folder", OUTPUT)`, and every command that takes a folder, read it.
    """
    import logging

    from rich.console import Console
    from rich.progress import track
    from transformers.utils import logging as transformers_logging

    from hf_mner.data.counting import label_file_hash
    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.training.weak_boxes import WeakQueries, check_output, fine_tune, write_weak_boxes

    if (model is None) == (recipe is None):
        raise ValueError("Give one of `--model` (a trained model) and `--recipe` (one to train), not both or none.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("hf_mner").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    check_output(output)
    rows = load_mner_dataset(dataset, data_dir, granularity=granularity, knowledge=[], on_error=on_error)
    queries = WeakQueries(query, query_style)
    with resumable():
        folder, parsed = open_model(model, recipe, settings, phrases_dir or data_dir, output, is_fine_tuned)
        if is_fine_tuned:
            folder = fine_tune(folder, parsed, rows, queries, output)
        about = {
            "dataset": dataset,
            "granularity": granularity,
            "label_files_sha256": label_file_hash(dataset, data_dir),
            "recipe": parsed and {"file": (recipe or Path("recipe.yaml")).name, "dataset": parsed.dataset},
            "is_fine_tuned": is_fine_tuned,
        }
        report = write_weak_boxes(
            rows,
            output,
            folder,
            queries=queries,
            min_score=min_score,
            replaces_gold=replaces_gold,
            links_images=links_images,
            on_error=on_error,
            batch_size=batch_size,
            about=about,
            progress=lambda chunks: track(chunks, description="Grounding", console=Console(stderr=True)),
        )
    for split, part in report["splits"].items():
        typer.echo(describe(split, part))
    typer.echo(f"Data set: {output}")


def open_model(
    model: Path | None,
    recipe: Path | None,
    settings: list[str] | None,
    phrases_dir: Path | None,
    output: Path,
    needs_recipe: bool,
) -> tuple[Path, Any]:
    """Return the folder of the model, trained first where a recipe is given, and its recipe, None where unknown.

    Raises:
        FileNotFoundError: if the recipe is needed, and missing.
        ValueError: if `--set` is given without a recipe.
    """
    from hf_mner.training.recipes import load_recipe
    from hf_mner.training.weak_boxes import train_grounding

    if recipe is not None:
        parsed = load_recipe(recipe, dict(map(parse_setting, settings or [])))
        return train_grounding(parsed, output, phrases_dir), parsed
    assert model is not None, "one of both is given"
    if settings:
        raise ValueError("`--set` replaces values of a recipe; give `--recipe` in the place of `--model`.")
    path = model / "recipe.yaml"
    if needs_recipe:
        check_file(path, "--model", "a folder with its recipe, which says how `--fine-tune` trains")
    return model, load_recipe(path) if path.is_file() else None


def describe(split: str, part: dict[str, Any]) -> str:
    """Return the line of one split."""
    line = (
        f"{split}: {part['entities']} entities, {part['weak']} with a weak box and {part['gold']} with a gold one"
        f" ({part['share_with_box']:.1%}); {part['images']} images of {part['sentences']} texts"
    )
    if part["skipped"]:
        line += f"; {len(part['skipped'])} images could not be read"
    if (scores := part["agreement"]) is not None:
        line += (
            f"; agreement with gold: Accu@0.5 {scores['accu@0.5']:.1%}, Accu@0.75 {scores['accu@0.75']:.1%}, mIoU"
            f" {scores['miou']:.1%} of {scores['support']} queries"
        )
    return line
