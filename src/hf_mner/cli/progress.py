"""Progress of long work as lines: one that is rewritten on a terminal, one now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hf_mner.knowledge.store import Progress
    from hf_mner.knowledge.store.building import Answers

TERMINAL_S = 0.2  # between two lines
LOG_S = 30.0


class ProgressLines:
    """Tells how far each source is, with rate and remaining time; called as `fill_store` reports."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self._latest: dict[str, Progress] = {}
        self._answers: dict[str, Answers] = {}
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

    def tell(self, name: str, answers: Answers) -> None:
        """Keep what became of the posts of a source for its line of result."""
        self._answers[name] = answers

    def results(self, names: Sequence[str]) -> list[str]:
        """Return a line for each of these sources: posts, what was found, what is new, and how long it took."""
        if self.is_terminal and self._latest:
            typer.echo(err=True)
        return [
            result_line(name, self._latest[name], self._answers[name], self._ended[name] - self._begun[name])
            if name in self._answers
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


def result_line(name: str, progress: Progress, answers: Answers, elapsed_s: float) -> str:
    """Return what became of the posts of a source, and of its items; posts that are alike are one item."""
    by_others = f", {progress.by_others} by other processes" if progress.by_others else ""
    return (
        f"{name}: {describe_answers(answers)}; {progress.total} distinct items, {progress.found} found in the store,"
        f" {progress.finished - progress.by_others} new{by_others}, in {format_seconds(elapsed_s)}."
        f"{describe_lack(answers)}"
    )


def describe_answers(answers: Answers) -> str:
    """Return how many posts got an answer, and what those without one lack."""
    text = f"{answers.posts} posts, {answers.answered} answered"
    if not (silent := answers.posts - answers.answered):
        return text
    counts = [f"{count} without {part}" for part, count in answers.lacking.items()]
    return f"{text}, {silent} not" + (f" ({', '.join(counts)})" if counts else "")


def describe_lack(answers: Answers) -> str:
    """Return what to do if no post had what the source reads, `""` otherwise."""
    from hf_mner.knowledge.store.records import find_remedy

    missing = [part for part, count in answers.lacking.items() if count == answers.posts]
    if not missing:
        return ""
    return f" No post has what it reads ({', '.join(missing)}): {'; '.join(map(find_remedy, missing))}."


def format_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, e.g. `1:02:05` or `0:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
