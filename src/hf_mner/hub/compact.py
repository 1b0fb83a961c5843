"""Compact checkpoints: a trained run without its training state, its matrices stored in eight bits."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = ("recipe.yaml",)


def write_compact_checkpoint(run: str | Path, output: str | Path) -> Path:
    """Copy a trained run's model with 8-bit matrices, its processor and its recipe.

    Only the file is small: `from_pretrained` and the pipeline compute the matrices back to single precision.

    Args:
        run: folder of a finished `hf-mner train`.
        output: new or empty folder.

    Returns:
        The output folder.

    Raises:
        FileNotFoundError: if the run holds no safetensors model; other formats are not read.
        FileExistsError: if the output folder is not empty.
    """
    from safetensors.torch import save_file
    from transformers import AutoModelForTokenClassification, AutoProcessor

    from hf_mner.layers.quantization import quantize_state
    from hf_mner.models.base.modeling_base import COMPACT_WEIGHTS

    from .remote_code import write_json
    from .training_cost import COST, training_cost

    run, output = Path(run), Path(output)
    if not (run / "model.safetensors").is_file():
        raise FileNotFoundError(f"{run} holds no model.safetensors; give the folder of a finished `hf-mner train`.")
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty; choose a new folder, so that no file of another model stays.")
    model = AutoModelForTokenClassification.from_pretrained(run, dtype="float32")
    shared = set(model.all_tied_weights_keys)
    output.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(output)
    state = {name: value for name, value in model.state_dict().items() if name not in shared}
    save_file(quantize_state(state), output / COMPACT_WEIGHTS, metadata={"format": "pt"})
    (output / COMPACT_WEIGHTS).chmod(0o644)  # safetensors writes files that only their owner can read
    AutoProcessor.from_pretrained(run).save_pretrained(output)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copy(run / name, output / name)
    if cost := training_cost(run):
        write_json(output / COST, cost)
    return output
