"""What all knowledge sources with a model share: its identity, and loading it when it is first needed."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, cast

from hf_mner.knowledge.base import KnowledgeSource, SourceIdentity, source_name
from hf_mner.knowledge.model_identity import check_revision, model_name, model_revision, prompt_version
from hf_mner.knowledge.model_loading import load_model, source_errors
from hf_mner.knowledge.source_pickles import PickledUnopened

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class ModelSource(PickledUnopened):
    """A knowledge source with a model of transformers.

    A pickle holds a model that was given by name as its name alone, one that was given as an object whole.

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
    before_use: ClassVar[Mapping[str, Any]] = {"_model": None, "_processor": None, "_tokenizer": None}
    digest = "_model_revision"
    unread: ClassVar[tuple[str, ...]] = ()  # modules of the model, by name, that the source does not read

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

    def _unopened(self) -> Mapping[str, Any]:
        return self.before_use if self._name else {}

    def _open(self, auto_class: Any, open_companion: Callable[..., Any]) -> tuple[Any, Any]:
        """Load the model that was given by name, and its processor or tokenizer.

        Args:
            auto_class: the class of transformers that knows the architecture.
            open_companion: loads the other one from a name and a `revision`.

        Raises:
            SourceError: if one of them cannot be loaded, or the model's weights are those of another task.
        """
        from transformers import AutoConfig

        default = inspect.signature(type(self)).parameters["model"].default
        expected = f"a model that `{auto_class.__name__}` loads, in safetensors, such as {default!r}"
        revision = self.revision or "main"
        with source_errors(source_name(cast(KnowledgeSource, self)), self._name, self.revision, expected):
            AutoConfig.from_pretrained(self._name, revision=revision)  # of all errors, its are the plainest
            companion = open_companion(self._name, revision=revision)
            model = load_model(auto_class, self._name, self.device, self.dtype, self.revision, self.unread)
            self._check_model(model)
        return model, companion

    def _check_model(self, model: Any) -> None:
        """Refuse a loaded model that the source cannot use, by a `ValueError`."""

    def _settings(self) -> dict[str, Any]:
        """Return what else changes the answers; how many items are read at once, and where, does not."""
        return {"dtype": self.dtype if self._name else str(self._model.dtype).removeprefix("torch.")}


def check_positive(**values: int) -> None:
    """Refuse an argument that is no whole number, or below 1.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"`{name}` is {value!r}, a {type(value).__name__}; expected a whole number from 1 on.")
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")


def check_fraction(**values: float) -> None:
    """Refuse an argument that is no number, or outside [0, 1].

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"`{name}` is {value!r}, a {type(value).__name__}; expected a number in [0, 1].")
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {value}.")


def check_installed(user: str, extra: str, names: list[str]) -> None:
    """Refuse to go on without packages.

    Args:
        user: what needs them.
        extra: the extra of this package that brings them.
        names: the packages.

    Raises:
        ImportError: naming those that are missing.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        state = "which is not installed" if len(missing) == 1 else "which are not installed"
        raise ImportError(f"{user} needs {' and '.join(missing)}, {state}; `pip install hf-mner[{extra}]`.")


def check_loaded_together(model: Any, **companion: Any) -> None:
    """Refuse a loaded model without its processor or tokenizer, and a name with one.

    Raises:
        ValueError: saying what belongs together.
    """
    ((name, value),) = companion.items()
    if isinstance(model, str) != (value is None):
        raise ValueError(f"Give `model` as a name alone, or a loaded `model` together with its `{name}`.")
