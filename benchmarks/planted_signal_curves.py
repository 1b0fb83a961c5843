"""How MNER-QG learns the planted signal: validation F1 and Accu@0.5 by epoch, of each run one line.

python -m benchmarks.planted_signal_curves collect "label=runs/FOLDER" ... --output results/mner_qg/planted-curves.json
python -m benchmarks.planted_signal_curves draw results/mner_qg/planted-curves.json --output docs/planted_curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

MEASURES = {"f1": "entity F1, validation", "accu@0.5": "Accu@0.5 of the queries, validation"}


def collect(runs: list[str]) -> list[dict[str, Any]]:
    """Read the logs of runs, each given as `label=folder`."""
    curves = []
    for run in runs:
        label, _, folder = run.partition("=")
        log = json.loads((Path(folder) / "log.json").read_text(encoding="utf-8"))
        points = [
            {"epoch": entry["epoch"], **{name: entry[f"eval_{name}"] for name in MEASURES if f"eval_{name}" in entry}}
            for entry in log
            if "eval_f1" in entry
        ]
        curves.append({"label": label, "train_seconds": log[-1].get("train_runtime"), "points": points})
    return curves


def draw(curves: list[dict[str, Any]], path: Path, chance: float | None) -> None:
    """Draw one panel for each measure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(MEASURES), figsize=(10, 3.6), constrained_layout=True)
    for panel, (name, title) in zip(panels, MEASURES.items(), strict=True):
        for number, curve in enumerate(curves):
            points = [point for point in curve["points"] if name in point]
            if points:
                panel.plot(
                    [point["epoch"] for point in points],
                    [100 * point[name] for point in points],
                    marker=".",
                    color=f"C{number}",  # a run has one colour in both panels
                    label=curve["label"],
                )
        if name == "f1" and chance is not None:
            panel.axhline(100 * chance, color="gray", linestyle=":", label="chance, text alone")
        panel.set(title=title, xlabel="epoch", ylim=(-3, 103))
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def text_chance(split: str) -> float:
    """Return the best F1 that a reader of the text alone can reach on a split, one type for each name."""
    from hf_mner import load_mner_dataset
    from hf_mner.data import chance_level
    from hf_mner.training.run import examples_of

    return chance_level(examples_of(load_mner_dataset("planted_signal", None)[split])).text_only_f1


def main() -> None:
    """Collect logs, or draw what was collected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("runs", nargs="+")
    drawing = commands.add_parser("draw")
    drawing.add_argument("curves", type=Path)
    for command in (collecting, drawing):
        command.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "collect":
        chance = {f"chance_f1_{split}": text_chance(split) for split in ("validation", "test")}
        result = {**chance, "curves": collect(options.runs)}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    else:
        result = json.loads(options.curves.read_text(encoding="utf-8"))
        draw(result["curves"], options.output, result["chance_f1_validation"])


if __name__ == "__main__":
    main()
