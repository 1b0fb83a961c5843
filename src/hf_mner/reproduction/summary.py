"""What a table's runs came to: means and deviations beside the paper's figures, tests, and which claims hold."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hf_mner.metrics import paired_bootstrap_interval, randomization_test

from .plan import Cell, Plan
from .tables import PaperTable, Scale
from .worker import scores_file

SIGNIFICANT = 0.05
DEVIATION = "deviation"


def summarise_table(
    name: str,
    table: PaperTable,
    scale: Scale,
    plan: Plan,
    output: Path,
    settings: Mapping[str, Any] | None = None,
    chosen: Plan | None = None,
) -> dict[str, Any]:
    """Collect the scores of a plan's finished runs.

    Args:
        name: of the table.
        table: the table.
        scale: see `plan_table`.
        plan: see `plan_table`.
        output: the folder of the runs.
        settings: values of all recipes that were replaced.
        chosen: the part of the plan that should be finished by now; `None` = all of it. What else is finished is
            reported as well.

    Returns:
        `rows`: for each row and data set the seeds, and for each column the seeds' `values`, `mean` and `deviation`
        (of the sample, `None` for one seed), as fractions, and what the `paper` prints, times 100; `comparisons` with
        the baseline and `claims`, each with the difference of F1 (fractions), its 95 % interval over texts and the
        p-value of a paired randomization test over texts, all seeds together that both rows have; `missing`: what
        could not be run.
    """
    scored = {cell: scores for cell in plan.cells if (scores := read_scores(cell, output))}
    groups = {key: list(cells) for key, cells in groupby(scored, key=lambda cell: (cell.row, cell.dataset))}
    rows = [summarise_row(table, cells, [scored[cell] for cell in cells]) for cells in groups.values()]
    counts = {
        key: {cell.seed: scored[cell]["counts"].get(table.measure) for cell in cells} for key, cells in groups.items()
    }
    datasets = [*dict.fromkeys(dataset for _, dataset in groups)]
    return {
        "table": name,
        "title": table.title,
        "note": table.note,
        "scale": scale,
        "split": table.split,
        "settings": dict(settings or {}),
        "measure": table.measure,
        "columns": list(table.columns),
        "devices": sorted({scores["device"] for scores in scored.values()}),
        "rows": rows,
        "comparisons": [
            {"dataset": dataset, "row": row.name, "with": table.baseline, **compared}
            for dataset in datasets
            for row in table.rows
            if table.baseline not in (None, row.name)
            and (compared := compare(counts.get((row.name, dataset)), counts.get((table.baseline, dataset))))
        ],
        "claims": [
            {"dataset": dataset, **vars(claim), **compared, "holds": verdict(compared)}
            for dataset in datasets
            for claim in table.claims
            if (compared := compare(counts.get((claim.better, dataset)), counts.get((claim.worse, dataset))))
        ],
        "missing": [vars(missing) | {"reasons": list(missing.reasons)} for missing in plan.missing],
        "unfinished": [
            f"{cell.row}, {cell.dataset}, seed {cell.seed}" for cell in (chosen or plan).cells if cell not in scored
        ],
    }


def earlier_seeds(file: Path, settings: Mapping[str, Any]) -> int:
    """Return how many seeds a results file has, 0 where there is none or its settings are others."""
    if not file.is_file():
        return 0
    summary = json.loads(file.read_text(encoding="utf-8"))
    return max((len(row["seeds"]) for row in summary["rows"]), default=0) if summary["settings"] == settings else 0


def read_scores(cell: Cell, output: Path) -> dict[str, Any] | None:
    """Return the scores of one seed of one row and data set, None while its run is not finished."""
    file = scores_file(output / cell.run, cell.evaluate_on, cell.split)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def summarise_row(table: PaperTable, cells: Sequence[Cell], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the seeds of one row on one data set."""
    row, dataset = table.row(cells[0].row), cells[0].dataset
    printed = table.printed(row, dataset)
    columns: dict[str, Any] = {}
    for column, place in table.columns.items():
        values = [find_score(run, place) for run in scores]
        known = [value for value in values if value is not None]
        columns[column] = {
            "values": values,
            "mean": statistics.fmean(known) if known else None,
            DEVIATION: statistics.stdev(known) if len(known) > 1 else None,
            "paper": printed.get(column),
        }
    return {
        "row": row.name,
        "note": row.note,
        "dataset": dataset,
        "evaluated_on": cells[0].evaluate_on,
        "seeds": [cell.seed for cell in cells],
        "runs": [cell.run for cell in cells],
        "label_files_sha256": scores[0]["label_files_sha256"],
        "columns": columns,
    }


def find_score(scores: Mapping[str, Any], place: str) -> float | None:
    """Return the score at a place such as `entities/f1`, None where a run has none."""
    value: Any = scores
    for part in place.split("/"):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def compare(ours: Mapping[int, Any] | None, theirs: Mapping[int, Any] | None) -> dict[str, Any] | None:
    """Test the F1 of two rows, given the counts of each seed's texts; None where they share no seed with counts."""
    seeds = [seed for seed in ours or () if theirs and seed in theirs]
    first, second = ([row[seed] for seed in seeds] for row in (ours or {}, theirs or {}))
    if not seeds or None in [*first, *second]:
        return None
    difference = randomization_test(first, second)
    interval = paired_bootstrap_interval(first, second)
    return {"difference": difference.difference, "interval": list(interval), "p_value": difference.p_value}


def verdict(compared: Mapping[str, Any]) -> str:
    """Say whether a claim holds: `yes`, `no` (the opposite, significantly), or `undecided` (p of 0.05 or more)."""
    if compared["p_value"] >= SIGNIFICANT:
        return "undecided"
    return "yes" if compared["difference"] > 0 else "no"


def markdown(summary: Mapping[str, Any]) -> str:
    """Render a summary as tables of Markdown: scores beside the paper's, and the claims."""
    lines = ["| row | data set | seeds | " + " | ".join(summary["columns"]) + " |"]
    lines.append("| --- | --- | ---: |" + " ---: |" * len(summary["columns"]))
    for row in summary["rows"]:
        cells = [show_column(column) for column in row["columns"].values()]
        lines.append(f"| {row['row']} | {show_data(row)} | {len(row['seeds'])} | " + " | ".join(cells) + " |")
    if summary["claims"]:
        lines += [
            "",
            "| claim | data set | difference of F1 | 95 % interval | p | holds |",
            "| --- | --- | ---: | --- | ---: | --- |",
        ]
    for claim in summary["claims"]:
        low, high = (f"{100 * end:+.2f}" for end in claim["interval"])
        difference, p = f"{100 * claim['difference']:+.2f}", f"{claim['p_value']:.4f}"
        lines.append(
            f"| {claim['text']} | {claim['dataset']} | {difference} | {low} to {high} | {p} | {claim['holds']} |"
        )
    if summary["unfinished"]:
        lines += ["", f"Not finished: {'; '.join(summary['unfinished'])}."]
    if summary["missing"]:
        lines += ["", f"Not run: {'; '.join(map(show_missing, summary['missing']))}."]
    return "\n".join(lines)


def show_missing(missing: Mapping[str, Any]) -> str:
    """Say which row could not be run, and why."""
    return f"{missing['row']}, {missing['dataset']} ({'; '.join(missing['reasons'])})"


def show_data(row: Mapping[str, Any]) -> str:
    """Name the data set of a row, and the one it is scored on where that is another."""
    return row["dataset"] if row["evaluated_on"] == row["dataset"] else f"{row['dataset']} -> {row['evaluated_on']}"


def show_column(column: Mapping[str, Any]) -> str:
    """Show `mean ± deviation (paper)` times 100."""
    if column["mean"] is None:
        return "-"
    spread = "" if column[DEVIATION] is None else f" ± {100 * column[DEVIATION]:.2f}"
    paper = "" if column["paper"] is None else f" ({column['paper']:.2f})"
    return f"{100 * column['mean']:.2f}{spread}{paper}"
