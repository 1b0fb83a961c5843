"""What all knowledge sources with a model share: its identity, and loading it when it is first needed."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hf_mner.knowledge.base import SourceIdentity
from hf_mner.knowledge.model_identity import check_revision, model_name, model_revision, prompt_version

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class ModelSource:
    """A knowledge source with a model of transformers.

    Args:
        model: name or folder of a model, or such a model itself.
        revision: branch, tag or commit of a model on the Hub; None = the main branch.
        batch_size: items that the model sees at once.
        device: where a model given by name is put; None = the first GPU if there is one, else the CPU.
        dtype: precision of a model given by name, e.g. `"float16"`; `"auto"` = as its weights are stored.
        companion: the processor or tokenizer under its name; needed if and only if `model` is not a name.

    Raises:
        ValueError: if `batch_size` is below 1, the companion does not fit `model`, or a `revision` is given for a
            model that is not from the Hub.
    """

    needs_entities = False
    prompt: str | None = None

    def __init__(
        self,
        model: str | PreTrainedModel,
        revision: str | None,
        batch_size: int,
        device: str | torch.device | None,
        dtype: str,
        **companion: Any,
    ):
        check_positive(batch_size=batch_size)
        check_loaded_together(model, **companion)
        check_revision(model, revision)
        self.revision, self.batch_size, self.device, self.dtype = revision, batch_size, device, dtype
        self._called = model_name(model)
        self._name = model if isinstance(model, str) else ""
        self._model: Any = None if isinstance(model, str) else model.eval()

    @property
    def identity(self) -> SourceIdentity:
        """Say what decides the answers; the model is not loaded for it."""
        return {
            "source": type(self).__name__,
            "model": self._called,
            "revision": self._model_revision,
            "prompt": prompt_version(self.prompt),
            "settings": json.dumps(self._settings(), sort_keys=True),
        }

    @cached_property
    def _model_revision(self) -> str:
        return model_revision(self._name or self._model, self.revision)

    def _settings(self) -> dict[str, Any]:
        """Return what else changes the answers; how many items are read at once, and where, does not."""
        return {"dtype": self.dtype if self._name else str(self._model.dtype).removeprefix("torch.")}


def load_model(
    auto_class: Any, name: str, device: str | torch.device | None, dtype: str, revision: str | None = None
) -> PreTrainedModel:
    """Load a model for inference, from safetensors only.

    Args:
        auto_class: the class of transformers that knows the architecture.
        name: a folder or a Hub name.
        device: where it is put; None = the first GPU if there is one, else the CPU.
        dtype: its precision, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a Hub name; None = the main branch.
    """
    import torch

    model = auto_class.from_pretrained(name, dtype=dtype, use_safetensors=True, revision=revision or "main")
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def check_positive(**values: int) -> None:
    """Refuse an argument below 1.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")


def check_fraction(**values: float) -> None:
    """Refuse an argument outside [0, 1].

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {value}.")


def check_loaded_together(model: Any, **companion: Any) -> None:
    """Refuse a loaded model without its processor or tokenizer, and a name with one.

    Raises:
        ValueError: saying what belongs together.
    """
    ((name, value),) = companion.items()
    if isinstance(model, str) != (value is None):
        raise ValueError(f"Give `model` as a name alone, or a loaded `model` together with its `{name}`.")
