"""`hf-mner reproduce`: a paper's table rerun by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import DataDir, Settings, StoreFile
from .train import parse_setting


def reproduce(
    tables: Annotated[list[str] | None, typer.Argument(help="Such as scanner-table3; none lists all.")] = None,
    scale: Annotated[
        Literal["mini", "paper"], typer.Option(help="Recipes for a CPU, or with the paper's settings.")
    ] = "mini",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row; seeds are 42, 43, ...")] = 5,
    output: Annotated[Path, typer.Option(help="Folder of the runs; tables share them.")] = Path("runs/reproduction"),
    results: Annotated[
        Path | None, typer.Option(help="Folder of TABLE-SCALE.json; default: that of the runs.")
    ] = None,
    recipes: Annotated[Path, typer.Option(help="Folder of recipes.")] = Path("recipes"),
    row: Annotated[list[str] | None, typer.Option(help="Run this row alone (may be repeated).")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Run this data set alone (may be repeated).")] = None,
    data_dir: DataDir = None,
    settings: Settings = None,
    store: StoreFile = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, each in a process of its own.")] = 1,
    is_plan_only: Annotated[bool, typer.Option("--plan", help="Say what would run, and what is missing.")] = False,
    keeps_weights: Annotated[
        bool, typer.Option("--keep-weights/--drop-weights", help="Of runs that are scored.")
    ] = True,
) -> None:
    """Rerun tables and figures of the papers: plan, train what is not trained, score, test, write results files.

    Finished runs are not done again and killed ones go on when the command is given again. What cannot run here is
    listed with the files that are missing.
    """
    from hf_mner.reproduction.tables import load_table, table_names

    if not tables:
        for name in table_names():
            typer.echo(f"{name:22} {load_table(name).title}")
        return
    import logging

    from transformers.utils import logging as transformers_logging

    from hf_mner.reproduction.plan import Plan, plan_table
    from hf_mner.reproduction.runner import run_plan
    from hf_mner.reproduction.summary import earlier_seeds, summarise_table

    parsed = {name: load_table(name) for name in tables}
    if not recipes.is_dir():
        raise FileNotFoundError(
            f"`--recipes {recipes}` is no folder; run in a checkout of the repository, or name its folder of recipes."
        )
    if data_dir is not None and not data_dir.is_dir():
        raise FileNotFoundError(f"`--data-dir {data_dir}` is no folder; name that of the data sets.")
    changes = dict(map(parse_setting, settings or []))
    plans = {
        name: plan_table(table, scale, seeds, recipes, data_dir, changes, chosen_rows(table, row), dataset)
        for name, table in parsed.items()
    }
    if row and not any(plan.cells or plan.missing for plan in plans.values()):
        known = dict.fromkeys(item.name for table in parsed.values() for item in table.rows)
        raise ValueError(f"`--row {row[0]}` is in none of these tables; choose of {', '.join(known)}.")
    for plan in plans.values():
        tell_missing(plan.missing)
    whole = Plan.merged(plans.values())
    if is_plan_only:
        tell_plan(whole, output, data_dir)
        return
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("hf_mner").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        run_plan(whole, output, data_dir, store, jobs, keeps_weights, typer.echo)
    finally:  # what is finished is reported all the same, and so are rows and seeds of earlier commands
        for name, table in parsed.items():
            file = (results or output) / f"{name}-{scale}.json"
            every = plan_table(table, scale, max(seeds, earlier_seeds(file, changes)), recipes, data_dir, changes)
            report(summarise_table(name, table, scale, every, output, changes, plans[name]), file)


def chosen_rows(table: Any, names: list[str] | None) -> list[str] | None:
    """Return those of the chosen rows that a table has; of several tables, each may have some."""
    return names and [row.name for row in table.rows if row.name in names]


def tell_missing(missing: list[Any]) -> None:
    """Say what cannot run, and why; rows that lack the same are named together."""
    rows_of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for item in missing:
        rows_of.setdefault((item.dataset, item.reasons), []).append(item.row)
    for (dataset, reasons), rows in rows_of.items():
        typer.echo(f"cannot run on {dataset}: {'; '.join(rows)}", err=True)
        for reason in reasons:
            typer.echo(f"  {reason}", err=True)


def tell_plan(plan: Any, output: Path, data_dir: Path | None) -> None:
    """Say what would run: the rows and the seed of each run, what comes before it, and whether it is finished."""
    from hf_mner.reproduction.runner import is_done, make_job

    done = 0
    for key, run in plan.runs.items():
        is_finished = is_done(make_job(run, plan, output, data_dir, None, True))
        done += is_finished
        rows = dict.fromkeys(f"{cell.row} ({cell.evaluate_on})" for cell in plan.cells if cell.run == key)
        what = "; ".join(rows) or {"detection": "stage 1", "non_entities": "cross-fitting of stage 1"}[run.kind]
        after = f", after {' and '.join(run.needs.values())}" if run.needs else ""
        typer.echo(f"{key}: {what}, seed {run.recipe.seed}{after}{', finished' if is_finished else ''}")
    typer.echo(f"{len(plan.runs)} runs, {done} of them finished")


def report(summary: dict[str, Any], file: Path) -> None:
    """Write the results file and print it."""
    from hf_mner.reproduction.summary import markdown
    from hf_mner.training.fitting import write_whole

    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(summary, indent=1) + "\n")
    scale = summary["scale"]
    typer.echo(f"{summary['title']} ({scale}; mean ± deviation over seeds, in brackets the paper's figure)\n")
    typer.echo(markdown(summary))
    for left in summary["unfinished"]:
        typer.echo(f"not finished: {left}", err=True)
    typer.echo(f"\nResults: {file}")
