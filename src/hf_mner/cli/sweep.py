"""`hf-mner sweep`: one recipe trained and scored with every combination of some settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import DataDir, Settings
from .train import parse_setting, results_file, train


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see recipes/.")],
    output: Annotated[Path, typer.Option(help="Folder of the sweep: one run in each sub-folder, and `sweep.json`.")],
    over: Annotated[
        list[str],
        typer.Option(help="A key and its values: --over similarity_threshold=0,0.3,0.35 (may be repeated)."),
    ],
    data_dir: DataDir = None,
    settings: Settings = None,
    split: Annotated[str, typer.Option(help="Split that is scored: validation or test.")] = "test",
) -> None:
    """Train and score a recipe with every combination of settings; finished runs are not done again.

    Runs that differ in `seed` alone are averaged.
    """
    from hf_mner.training.recipes import load_recipe
    from hf_mner.training.run import claim_folder
    from hf_mner.training.sweep import grid, run_name, summarise

    runs: list[dict[str, Any]] = []
    planned = {output / run_name(combination): combination for combination in grid(dict(map(parse_values, over)))}
    shared = dict(map(parse_setting, settings or []))
    for folder, combination in planned.items():  # every setting is checked before the first run
        claim_folder(folder, load_recipe(recipe, {**shared, **combination}))
    for folder, combination in planned.items():
        file = results_file(folder, split)
        if not file.is_file():
            changes = [*(settings or []), *(f"{key}={json.dumps(value)}" for key, value in combination.items())]
            train(recipe, folder, data_dir, changes, has_evaluation=True, split=split)
        scores = json.loads(file.read_text(encoding="utf-8"))
        kept = {name: scores[name] for name in ("dataset", "label_files_sha256", "knowledge")}
        kept |= {name: scores[name] for name in ("grounding",) if name in scores}
        runs.append({"settings": combination, **kept, "train_seconds": train_seconds(folder), **scores["entities"]})
        report = {"recipe": recipe.as_posix(), "set": settings or [], "split": split, "runs": runs}
        (output / "sweep.json").write_text(
            json.dumps({**report, "summary": summarise(runs)}, indent=2) + "\n", encoding="utf-8"
        )
    print_summary(summarise(runs))


def parse_values(text: str) -> tuple[str, list[Any]]:
    """Split `key=value,value`; a bracket, as in `knowledge=[[],[chatgpt]]`, starts a YAML list of values."""
    import yaml

    key, value = parse_setting(text)
    if isinstance(value, list):
        return key, value
    return key, [yaml.safe_load(part) for part in text.partition("=")[2].split(",")]


def train_seconds(run: Path) -> float | None:
    """Return how long a run trained, from its log; `None` where the system keeps none at the top of its folder."""
    log = run / "log.json"
    return json.loads(log.read_text(encoding="utf-8"))[-1].get("train_runtime") if log.is_file() else None


def print_summary(summary: list[dict[str, Any]]) -> None:
    """Print one row for each combination."""
    from rich.console import Console
    from rich.table import Table

    table = Table("settings", "seeds", "precision", "recall", "F1")
    for row in summary:
        settings = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
        spread = "" if row["f1_deviation"] is None else f" ± {100 * row['f1_deviation']:.2f}"
        numbers = [f"{100 * row[name]:.2f}" for name in ("precision", "recall", "f1")]
        table.add_row(settings, str(row["seeds"]), *numbers[:2], numbers[2] + spread)
    Console().print(table)
