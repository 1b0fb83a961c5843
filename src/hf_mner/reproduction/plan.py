"""From a table to the runs that it needs: every training once, whatever the number of rows that use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hf_mner.training.recipes import ScannerRecipe, load_recipe

from .inputs import missing_inputs
from .tables import PaperTable, Scale

FIRST_SEED = 42
Kind = Literal["detection", "non_entities", "whole"]


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        key: name of its folder; runs with one key are the same.
        kind: `whole`, or of SCANNER only stage 1 (`detection`) or the cross-fitting (`non_entities`).
        recipe: what is trained, without the seed's place in other runs.
        needs: keys of the runs that come before, by what they give: `teacher`, `detection`, `non_entities`.
    """

    key: str
    kind: Kind
    recipe: Any = field(compare=False)
    needs: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Cell:
    """One row of a table on one data set with one seed: a run, and what it is scored on."""

    row: str
    dataset: str
    seed: int
    run: str
    evaluate_on: str
    split: str


@dataclass(frozen=True)
class Missing:
    """A row that cannot be run on a data set, and why: one reason for each thing that is missing."""

    row: str
    dataset: str
    reasons: tuple[str, ...]


@dataclass
class Plan:
    """What a table needs.

    Args:
        runs: by key, in an order in which none comes before what it needs.
        cells: in the order of rows, data sets and seeds.
        missing: what cannot be run.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @classmethod
    def merged(cls, plans: Iterable[Plan]) -> Plan:
        """Join the plans of several tables, each run once."""
        whole = cls()
        for plan in plans:
            whole.runs |= {key: run for key, run in plan.runs.items() if key not in whole.runs}
            whole.cells += plan.cells
            whole.missing += plan.missing
        return whole


def plan_table(
    table: PaperTable,
    scale: Scale,
    num_seeds: int,
    recipes_dir: Path,
    data_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    rows: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
) -> Plan:
    """List the runs of a table, and what is missing for others.

    Args:
        table: the table.
        scale: `mini` or `paper`: which recipes.
        num_seeds: runs of each row; the seeds are 42, 43, ...
        recipes_dir: the folder of recipes.
        data_dir: see `load_mner_dataset`.
        settings: values of all recipes to replace, by dotted key; those of the rows go before them.
        rows: the rows to run; `None` = all.
        datasets: the data sets to run; `None` = all.

    Raises:
        ValueError: for rows or data sets that the table does not have, and for settings that a recipe refuses.
        FileNotFoundError: if a recipe is not there.
    """
    for key, option in (("seed", "--seeds"), ("dataset", "--dataset")):
        if settings and key in settings:
            raise ValueError(f"`--set {key}={settings[key]}` would be lost, as each row says its own; use `{option}`.")
    check_chosen("--row", rows, [row.name for row in table.rows])
    check_chosen(
        "--dataset", datasets, sorted({name for row in table.rows for name in table.recipe_files(row, scale)})
    )
    plan = Plan()
    for row in table.rows:
        if rows is not None and row.name not in rows:
            continue
        for dataset, file in table.recipe_files(row, scale).items():
            if datasets is not None and dataset not in datasets:
                continue
            if reason := table.why_unavailable(row, scale):
                plan.missing.append(Missing(row.name, dataset, (reason,)))
                continue
            values = {**(settings or {}), "dataset": dataset, **table.settings(row, scale, dataset)}
            recipe = load_recipe(recipes_dir / file, values)
            evaluate_on = row.evaluate_on or dataset
            if reasons := missing_inputs(recipe, {dataset, evaluate_on}, data_dir, table.only):
                plan.missing.append(Missing(row.name, dataset, tuple(reasons)))
                continue
            for seed in range(FIRST_SEED, FIRST_SEED + num_seeds):
                key = add_run(plan.runs, replace(recipe, seed=seed), table.only)
                plan.cells.append(Cell(row.name, dataset, seed, key, evaluate_on, table.split))
    return plan


def check_chosen(option: str, chosen: Iterable[str] | None, known: Sequence[str]) -> None:
    """Refuse names that a table does not have."""
    for name in chosen or ():
        if name not in known:
            raise ValueError(f"`{option} {name}` is not in this table; choose of {', '.join(known)}.")


def add_run(runs: dict[str, Run], recipe: Any, only: Literal["detection"] | None) -> str:
    """Add a run, and before it those that it needs; return its key."""
    if not isinstance(recipe, ScannerRecipe):
        return put(runs, Run(run_key("", recipe, set_values(recipe)), "whole", recipe))
    detection = add_detection(runs, recipe)
    if only == "detection":
        return detection
    needs = {"detection": detection}
    if recipe.cross_fitting.folds:
        needs["non_entities"] = add_non_entities(runs, recipe)
    return put(runs, Run(run_key("", recipe, set_values(recipe)), "whole", recipe, needs))


def add_detection(runs: dict[str, Run], recipe: ScannerRecipe) -> str:
    """Add stage 1, and before it, where it distils and names no teacher, the same without distillation."""
    stage, needs = recipe.detection, {}
    if stage.distillation != "none" and stage.teacher is None:
        needs["teacher"] = add_detection(runs, replace(recipe, detection=replace(stage, distillation="none")))
    values = {**data_values(recipe), "detection": set_values(stage)}
    return put(runs, Run(run_key("detection", recipe, values), "detection", recipe, needs))


def add_non_entities(runs: dict[str, Run], recipe: ScannerRecipe) -> str:
    """Add the cross-fitting of stage 1, which no distillation changes."""
    plain = replace(recipe, detection=replace(recipe.detection, distillation="none", teacher=None))
    parts = {name: set_values(getattr(plain, name)) for name in ("detection", "cross_fitting")}
    values = {**data_values(recipe), **parts}
    return put(runs, Run(run_key("non-entities", plain, values), "non_entities", plain))


def data_values(recipe: Any) -> dict[str, Any]:
    """Return what stage 1 of a recipe reads, beside its own settings."""
    names = ("system", "dataset", "backbone", "seed", "granularity", "train_splits", "label_noise")
    values = set_values(recipe)
    return {name: values[name] for name in names if name in values}


def set_values(recipe: Any) -> dict[str, Any]:
    """Return the values of a recipe that are not the defaults: a key stays when recipes get another option."""
    values = {}
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if is_dataclass(value):
            values[item.name] = set_values(value)
        elif value != default:
            values[item.name] = value
    return values


def put(runs: dict[str, Run], run: Run) -> str:
    """Add a run unless it is there, and return its key."""
    runs.setdefault(run.key, run)
    return run.key


def run_key(part: str, recipe: Any, values: Mapping[str, Any]) -> str:
    """Name a run's folder after its system, data set and seed, and a hash of all that it depends on."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:10]
    names = [recipe.system, *([part] if part else []), recipe.dataset, str(recipe.seed), digest]
    return "-".join(names)
