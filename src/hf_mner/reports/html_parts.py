"""Pieces of HTML that reports are made of; whatever they are given is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hf_mner.metrics import ScoreBin
from hf_mner.rendering.elements import escape

SIDE, MARGIN = 240, 36  # of the reliability diagram: the square and the room for its axes, in units of the drawing


def percent(fraction: float) -> str:
    """Return a fraction times 100 with two decimals, as papers print scores."""
    return f"{100 * fraction:.2f}"


def table(caption: str, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table whose first row and column are headers, in a box that scrolls, also by keyboard."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(map(_cell, cells))}</tr>' for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
        "</table>\n</div>"
    )


def _cell(value: Any) -> str:
    text = escape(value)
    return f'<td class="words">{text}</td>' if text[:1].isalpha() else f"<td>{text}</td>"


def reliability_diagram(bins: Sequence[ScoreBin]) -> str:
    """Return a drawing (SVG) of the share of right predictions in each bin of scores, and the diagonal.

    Its numbers are also in the table of the bins, which readers of screens get; to them it is one image.
    """
    bars = "".join(
        f'<rect class="bar" x="{MARGIN + SIDE * part.lower:.1f}" y="{SIDE * (1 - part.accuracy):.1f}"'
        f' width="{SIDE * (part.upper - part.lower) - 2:.1f}" height="{SIDE * part.accuracy:.1f}">'
        f"<title>{part.size} predictions, {percent(part.accuracy)} % right</title></rect>"
        for part in bins
        if part.size
    )
    ticks = "".join(
        f'<text x="{MARGIN + SIDE * share:.0f}" y="{SIDE + 14}" text-anchor="middle">{share:g}</text>'
        f'<text x="{MARGIN - 6}" y="{SIDE * (1 - share) + 4:.0f}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.5, 1)
    )
    return (
        f'<svg viewBox="0 -8 {SIDE + MARGIN + 12} {SIDE + MARGIN + 8}" width="360" role="img"'
        ' aria-label="Share of right predictions by score; the table beside it has the numbers.">'
        f'{bars}<path class="axis" d="M{MARGIN} 0 V{SIDE} H{MARGIN + SIDE}"/>'
        f'<path class="diagonal" d="M{MARGIN} {SIDE} L{MARGIN + SIDE} 0"/>{ticks}'
        f'<text x="{MARGIN + SIDE / 2:.0f}" y="{SIDE + 28}" text-anchor="middle">score</text></svg>'
    )
