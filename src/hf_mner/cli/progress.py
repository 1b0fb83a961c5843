"""Progress of long work as lines: one that is rewritten on a terminal, one now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hf_mner.knowledge.store import Progress

TERMINAL_S = 0.2  # between two lines
LOG_S = 30.0


class ProgressLines:
    """Tells how far each source is, with rate and remaining time; called as `fill_store` reports."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self._latest: dict[str, Progress] = {}
        self._begun: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._shown = 0.0

    def __call__(self, name: str, progress: Progress) -> None:
        """Show the progress of a source if the last line is old enough, and its begin and end always."""
        now = time.monotonic()
        is_edge = name not in self._begun or progress.found + progress.finished == progress.total
        self._begun.setdefault(name, now)
        self._latest[name], self._ended[name] = progress, now
        if is_edge or now - self._shown >= (TERMINAL_S if self.is_terminal else LOG_S):
            self._shown = now
            line = progress_line(name, progress, now - self._begun[name])
            typer.echo(f"\r\x1b[K{line}" if self.is_terminal else line, nl=not self.is_terminal, err=True)

    def results(self, names: Sequence[str]) -> list[str]:
        """Return a line for each of these sources: what was found, what is new, and how long it took."""
        if self.is_terminal and self._latest:
            typer.echo(err=True)
        return [
            result_line(name, self._latest[name], self._ended[name] - self._begun[name])
            if name in self._latest
            else f"{name}: no post lacks it, nothing was asked."
            for name in names
        ]


def progress_line(name: str, progress: Progress, elapsed_s: float) -> str:
    """Return how many items are done, how fast, and how long the rest takes at that rate."""
    done = progress.found + progress.finished
    line = f"{name}: {done} of {progress.total} items"
    if not progress.finished or not elapsed_s:
        return line
    rate = progress.finished / elapsed_s
    return f"{line}, {rate:.1f} items/s, {format_seconds((progress.total - done) / rate)} left"


def result_line(name: str, progress: Progress, elapsed_s: float) -> str:
    """Return what became of the items of a source."""
    return (
        f"{name}: {progress.total} items, {progress.found} found in the store, {progress.finished} new, in"
        f" {format_seconds(elapsed_s)}."
    )


def format_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, e.g. `1:02:05` or `0:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
