"""The pipeline of the task `multimodal-ner`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

DEFAULT_CHECKPOINT = files("hf_mner") / "checkpoints" / "scanner-twitter2017-mini"


def pipeline(task: str = "multimodal-ner", model: Any = None, **kwargs: Any) -> Any:
    """Build `transformers.pipeline(task, model, ...)`; the task is known, whatever was imported before.

    Args:
        task: `"multimodal-ner"`, or any task of transformers.
        model: a trained model, its folder or its Hub name; `None` = the small SCANNER that the package carries.
        kwargs: see `transformers.pipeline`.
    """
    from transformers import pipeline as transformers_pipeline

    from .multimodal_ner import TASK

    if model is None and task == TASK:
        model = str(DEFAULT_CHECKPOINT)
    return transformers_pipeline(task, model=model, **kwargs)
