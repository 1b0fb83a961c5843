"""The tables of `docs/results.md` on training: kills, several processes, and the papers' tables rerun."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables import RESULTS, read, table
from hf_mner.reproduction.summary import markdown


def training_kills() -> str:
    """Trainings that were killed against one that was not."""
    measured = read("training/kills")
    rows = [
        ["kills (`kill -9`, at random moments)", measured["kills"]],
        ["updates of both models", measured["updates"]],
        ["state saved every ... updates", measured["save_steps"]],
        ["updates that one kill lost, at most", measured["updates_lost_at_most_by_a_kill"]],
        ["updates made in all", measured["updates_made"]],
        ["largest difference of a weight from the uninterrupted run", measured["largest_weight_difference"]],
        ["largest difference of a loss", measured["largest_loss_difference"]],
    ]
    return table(["stage 1 and its teacher", "measured"], [[label, f"{value:g}"] for label, value in rows])


def training_processes() -> str:
    """Losses of two processes against those of one."""
    rows = [
        [
            f"{epoch['model']}, epoch {epoch['epoch'] + 1}",
            *(f"{loss:.6f}" for loss in epoch["mean_loss"]),
            f"{epoch['largest_relative_difference']:.1e}",
        ]
        for epoch in read("training/processes")["epochs"]
    ]
    return table(["", "mean loss, 1 process", "2 processes", "largest relative difference of an update"], rows)


def reproduced(stem: str) -> Callable[[], str]:
    """Return what writes the table of a results file of `hf-mner reproduce`."""

    def make() -> str:
        summary = read(f"reproduction/{stem}")
        note = f"\n\n{summary['note']}" if summary["note"] else ""
        return f"{markdown(summary)}{note}"

    return make


TRAINING_TABLES: dict[str, Callable[[], str]] = {
    "training_kills": training_kills,
    "training_processes": training_processes,
    **{
        f"reproduction {path.stem}": reproduced(path.stem)
        for path in sorted((RESULTS / "reproduction").glob("*.json"))
    },
}
