"""Compact checkpoints: a trained run without its training state, in half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

KEPT = ("recipe.yaml", "results.json")


def write_compact_checkpoint(run: str | Path, output: str | Path) -> Path:
    """Copy a trained run's model in half precision, with its processor, recipe and scores.

    The configuration says `float32`, so that `from_pretrained` and the pipeline compute in single precision (half
    precision is slow on CPUs); only the file is half as large.

    Args:
        run: folder of a finished `hf-mner train`.
        output: new folder.

    Returns:
        The output folder.

    Raises:
        FileNotFoundError: if the run holds no safetensors model; other formats are not read.
    """
    import torch
    from transformers import AutoModelForTokenClassification, AutoProcessor

    run, output = Path(run), Path(output)
    if not (run / "model.safetensors").is_file():
        raise FileNotFoundError(f"{run} holds no model.safetensors; give the folder of a finished `hf-mner train`.")
    AutoModelForTokenClassification.from_pretrained(run, dtype=torch.float16).save_pretrained(output)
    AutoProcessor.from_pretrained(run).save_pretrained(output)
    path = output / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in KEPT:
        if (run / name).is_file():
            shutil.copy(run / name, output / name)
    return output
