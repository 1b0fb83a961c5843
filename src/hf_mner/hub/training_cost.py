"""How long a model was trained, from what its training wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COST = "cost.json"  # in the folder of each stage, see `hf_mner.training.fitting.write_cost`


def training_cost(checkpoint: Path) -> dict[str, Any] | None:
    """Add up the time of a checkpoint's trainings: stages, teachers and folds whose folders are there.

    Args:
        checkpoint: folder of a finished `hf-mner train`, or a copy of it with `cost.json`.

    Returns:
        `seconds`, `device`, `processes`, and `is_resumed`, True if the time before an interruption is missing in it;
        `None` where nothing was written.
    """
    files = sorted(file for file in checkpoint.rglob(COST) if "checkpoints" not in file.parts[len(checkpoint.parts) :])
    costs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if not costs:
        return None
    return {
        "seconds": round(sum(cost["seconds"] for cost in costs), 1),
        "device": ", ".join(dict.fromkeys(cost["device"] for cost in costs)),
        "processes": max(cost["processes"] for cost in costs),
        "is_resumed": any(cost["is_resumed"] for cost in costs),
    }


def cost_sentence(cost: dict[str, Any] | None) -> str:
    """Say how long a training took."""
    if cost is None:
        return "How long that took was not recorded."
    parts = f", {cost['processes']} processes" if cost["processes"] > 1 else ""
    since = " since it was last interrupted" if cost["is_resumed"] else ""
    return f"That took {cost['seconds'] / 60:.1f} minutes{since} on {cost['device']}{parts}."
