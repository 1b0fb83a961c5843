"""The tables and figures of the papers as data: rows, their settings, and the figures that the paper prints."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from huggingface_hub.dataclasses import strict

from hf_mner.training.recipe_parsing import parse_recipe, require

Scale = Literal["mini", "paper"]
SCALES: tuple[str, ...] = get_args(Scale)
Measure = Literal["entities", "detection", "unseen", "grounded"]

FOLDER = Path(__file__).parent / "tables"


@strict
@dataclass(kw_only=True)
class TableRow:
    """One row of a table.

    Args:
        name: as the paper prints it.
        set: values of the recipe to replace, by dotted key.
        set_mini: further ones at mini scale.
        set_paper: further ones at paper scale.
        set_on: further ones on a data set.
        recipes: recipes of this row alone, see `PaperTable`.
        datasets: the row is about these alone; `None` = all of the table.
        evaluate_on: the data set that is scored; `None` = that of the training.
        paper: for each data set what the paper prints, in the order of the columns, times 100; `null` = nothing.
        is_difference: `paper` holds differences to the table's baseline.
        unavailable: for a scale, why nobody can run the row there.
        note: what a reader of the numbers must know.
    """

    name: str
    set: dict[str, Any] = field(default_factory=dict)
    set_mini: dict[str, Any] = field(default_factory=dict)
    set_paper: dict[str, Any] = field(default_factory=dict)
    set_on: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipes: dict[str, dict[str, str]] | None = None
    datasets: list[str] | None = None
    evaluate_on: str | None = None
    paper: dict[str, list[float | int | None]] = field(default_factory=dict)
    is_difference: bool = False
    unavailable: dict[str, str] = field(default_factory=dict)
    note: str | None = None


@strict
@dataclass(kw_only=True)
class Claim:
    """One row is better than another, says the paper (or we, where the text says so)."""

    better: str
    worse: str
    text: str


@strict
@dataclass(kw_only=True)
class PaperTable:
    """A table or figure of a paper.

    Args:
        title: paper, number and what it is about.
        system: the system whose paper it is.
        columns: for each column its place in a results file, parts parted by `/`.
        measure: what decides whether rows differ: typed `entities`, spans of `detection`, `unseen` entities, or
            `grounded` entities.
        recipes: for each scale and data set the recipe, below the folder of recipes. The recipe's `dataset` becomes
            the one that is named here.
        rows: the rows.
        claims: what the paper says of them.
        baseline: row that the others are compared with; `None` = no comparison.
        only: `detection`: stage 1 of SCANNER is trained and scored alone.
        split: the split that is scored.
        set: values of all rows, as in `TableRow`.
        set_mini: as in `TableRow`.
        set_paper: as in `TableRow`.
        unavailable: as in `TableRow`, for all rows.
        note: as in `TableRow`.
    """

    title: str
    system: str
    columns: dict[str, str]
    measure: Measure
    recipes: dict[str, dict[str, str]]
    rows: list[TableRow]
    claims: list[Claim] = field(default_factory=list)
    baseline: str | None = None
    only: Literal["detection"] | None = None
    split: Literal["validation", "test"] = "test"
    set: dict[str, Any] = field(default_factory=dict)
    set_mini: dict[str, Any] = field(default_factory=dict)
    set_paper: dict[str, Any] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    note: str | None = None

    def validate_rows(self):
        """Refuse names of rows that there are not, and figures that do not fit the columns."""
        names = [row.name for row in self.rows]
        require(len(set(names)) == len(names), "rows", names, "rows with names of their own")
        named = [self.baseline, *(name for claim in self.claims for name in (claim.better, claim.worse))]
        for name in named:
            require(name is None or name in names, "row", name, f"one of {', '.join(names)}")
        for row in self.rows:
            for dataset, printed in row.paper.items():
                fits = len(printed) == len(self.columns)
                require(fits, f"paper of {row.name}, {dataset}", printed, f"{len(self.columns)} figures")

    def row(self, name: str) -> TableRow:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)

    def settings(self, row: TableRow, scale: Scale, dataset: str) -> dict[str, Any]:
        """Return the values of the recipe that a row replaces at a scale on a data set."""
        parts = ("set", f"set_{scale}")
        values = {key: value for owner in (self, row) for part in parts for key, value in getattr(owner, part).items()}
        return {**values, **row.set_on.get(dataset, {})}

    def recipe_files(self, row: TableRow, scale: Scale) -> dict[str, str]:
        """Return the recipe of each data set that a row is about."""
        files = (row.recipes or self.recipes).get(scale, {})
        return {name: file for name, file in files.items() if row.datasets is None or name in row.datasets}

    def why_unavailable(self, row: TableRow, scale: Scale) -> str | None:
        """Return why nobody can run a row at a scale, or None."""
        return row.unavailable.get(scale) or self.unavailable.get(scale)

    def printed(self, row: TableRow, dataset: str) -> dict[str, float | None]:
        """Return what the paper prints for a row, by column, times 100; empty where it prints nothing."""
        figures = row.paper.get(dataset)
        if figures is None:
            return {}
        if row.is_difference and self.baseline is not None:
            base = self.row(self.baseline).paper[dataset]
            pairs = zip(base, figures, strict=True)
            figures = [None if a is None or b is None else round(a + b, 2) for a, b in pairs]
        return dict(zip(self.columns, figures, strict=True))


def table_names() -> list[str]:
    """Name all tables."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_table(name: str) -> PaperTable:
    """Read a table.

    Args:
        name: one of `table_names`, for example `scanner-table3`.

    Raises:
        ValueError: for another name.
    """
    if name not in table_names():
        raise ValueError(f"Table {name!r} is not known; choose one of {', '.join(table_names())}.")
    path = FOLDER / f"{name}.yaml"
    return parse_recipe(yaml.safe_load(path.read_text(encoding="utf-8")), PaperTable, path.name)
