"""Scores as a plain text table, for the command line and logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FRACTIONS = ("precision", "recall", "f1")
COUNTS = ("support", "tp", "fp", "fn")


def format_scores(scores: Mapping[str, Any]) -> str:
    """Write the result of any score function of this package as a table.

    Args:
        scores: what `score_tags`, `score_spans`, `score_grounded_entities`, `score_seen_unseen` or `score_grounding`
            returned.

    Returns:
        Lines of aligned columns: a row for the whole and for each part. Fractions are printed times 100, counts as
        they are.
    """
    rows = list(score_rows(scores))
    columns = [key for key in (*FRACTIONS, *COUNTS) if any(key in row for _, row in rows)]
    cells = [["", *columns]] if columns else []
    cells += [[name, *(_cell(row.get(key)) for key in columns)] for name, row in rows if columns]
    lines = _align(cells)
    single = {key: value for key, value in scores.items() if not isinstance(value, Mapping) and key not in columns}
    return "\n".join([*lines, *_align([[key, _cell(value)] for key, value in single.items()])])


def score_rows(scores: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the parts of a score function's result that have an F1, each with its name.

    Args:
        scores: see `format_scores`.
        name: of the whole.
    """
    if "f1" in scores:
        yield name or "all", scores
    for key, value in scores.items():
        if isinstance(value, Mapping):
            yield from score_rows(value, f"{name} {key}".strip() if key != "per_type" else name)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:.2f}"
    return "" if value is None else str(value)


def _align(cells: list[list[str]]) -> list[str]:
    if not cells:
        return []
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in cells
    ]
