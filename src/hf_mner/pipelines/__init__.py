"""The pipeline of the task `multimodal-ner`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_mner.inference.precision import Precision

DEFAULT_CHECKPOINT = files("hf_mner") / "checkpoints" / "scanner-twitter2017-mini"


def pipeline(
    task: str = "multimodal-ner",
    model: Any = None,
    *,
    precision: Precision = "float32",
    compiled: bool = False,
    **kwargs: Any,
) -> Any:
    """Build `transformers.pipeline(task, model, ...)`; the task is known, whatever was imported before.

    Args:
        task: `"multimodal-ner"`, or any task of transformers.
        model: a trained model, its folder or its Hub name; `None` = the small SCANNER that the package carries.
        precision: with how many bits the model computes, see `hf_mner.inference.precision.set_precision`.
        compiled: let PyTorch compile the encoders when they are first run, see `compile_encoders` there.
        kwargs: see `transformers.pipeline`.
    """
    from transformers import pipeline as transformers_pipeline

    from hf_mner.inference.precision import compile_encoders, set_precision

    from .multimodal_ner import TASK

    if model is None and task == TASK:
        model = str(DEFAULT_CHECKPOINT)
    check_model_path(model)
    pipe = transformers_pipeline(task, model=model, **kwargs)
    if precision != "float32":
        set_precision(pipe.model, precision)
    if compiled:
        compile_encoders(pipe.model)
    return pipe


def check_model_path(model: Any) -> None:
    """Refuse a path without a folder, which transformers would take for a name on the Hub."""
    if isinstance(model, str) and model.startswith(("/", "~", "./", "../")) and not Path(model).is_dir():
        raise FileNotFoundError(f"`model` is '{model}', which is no folder; correct it, or give a name on the Hub.")
