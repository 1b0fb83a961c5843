"""The models that a demo offers: the embedded SCANNER, and the checkpoints that its owner names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from reprlib import repr as short_repr
from threading import Lock
from typing import TYPE_CHECKING, Any

from hf_mner.auto import SYSTEMS
from hf_mner.hub.model_card import SYSTEM_NAMES

if TYPE_CHECKING:
    from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline

DEFAULT = "scanner"
VARIABLE = "HF_MNER_DEMO_MODELS"  # of the environment: NAME=CHECKPOINT, separated by commas


class DemoModels:
    """Opens models when they are first used, and keeps them.

    Args:
        checkpoints: folder or Hub name of each model by its name in the demo. `scanner` replaces the embedded one.
    """

    def __init__(self, checkpoints: Mapping[str, str] | None = None):
        self.checkpoints: dict[str, str | None] = {DEFAULT: None, **(checkpoints or {})}
        self.systems = {name: read_system(name, path) for name, path in self.checkpoints.items()}
        self.opened: dict[str, MultimodalNerPipeline] = {}
        self.lock = Lock()

    def missing(self) -> list[str]:
        """Name the systems that have no checkpoint here."""
        return [system for system in SYSTEMS if system not in self.systems.values()]

    def choices(self) -> list[tuple[str, str]]:
        """Return what a picker shows, and the name behind it; systems without a checkpoint come last and say so."""
        offered = [(f"{name} ({self.describe(name)})", name) for name in self.checkpoints]
        return offered + [
            (f"{system} ({SYSTEM_NAMES[system]}, no checkpoint given)", system) for system in self.missing()
        ]

    def describe(self, name: str) -> str:
        """Say which system a name stands for, and whether the package brings it along."""
        system = SYSTEM_NAMES[self.systems[name]]
        return f"{system}, small, part of the package" if self.checkpoints[name] is None else system

    def open(self, name: str) -> MultimodalNerPipeline:
        """Return the pipeline of a model.

        Raises:
            ValueError: if there is no such model, or a system has no checkpoint.
        """
        self.check(name)
        with self.lock:
            if name not in self.opened:
                from hf_mner.cli.options import open_pipeline

                self.opened[name] = open_pipeline(self.checkpoints[name])
        return self.opened[name]

    def check(self, name: Any) -> None:
        """Refuse a name that stands for no checkpoint.

        Raises:
            ValueError: naming those that do.
        """
        known = ", ".join(self.checkpoints)
        if not isinstance(name, str):
            raise ValueError(f"`model` is {short_repr(name)}; expected a name. Choose one of {known}.")
        if name in self.checkpoints:
            return
        if name in SYSTEMS:
            raise ValueError(
                f"`model` is {name!r}, a system that has no checkpoint here; choose one of {known}. Whoever runs the"
                f" demo gives it one with `hf-mner demo --model {name}=CHECKPOINT`."
            )
        raise ValueError(f"`model` is {name!r}, which this demo does not have; choose one of {known}.")


def read_system(name: str, checkpoint: str | None) -> str:
    """Return the system that a checkpoint is of, from its configuration alone.

    Raises:
        ValueError: if it is of none of the package's.
        OSError: if there is no such checkpoint.
    """
    if checkpoint is None:
        return DEFAULT
    from transformers import AutoConfig

    system = AutoConfig.from_pretrained(checkpoint).model_type
    if system not in SYSTEMS:
        raise ValueError(
            f"`--model {name}={checkpoint}` is a checkpoint of {system!r}; expected one of {', '.join(SYSTEMS)}. Train"
            " one with `hf-mner train`."
        )
    return system


def parse_models(specs: Iterable[str]) -> dict[str, str]:
    """Read `NAME=CHECKPOINT` texts.

    Raises:
        ValueError: if one has no name or no checkpoint, or two have one name.
    """
    models: dict[str, str] = {}
    for spec in specs:
        name, _, checkpoint = (part.strip() for part in spec.partition("="))
        if not name or not checkpoint:
            raise ValueError(
                f"`{spec}` names no model; expected NAME=CHECKPOINT, for example `--model mner_qg=runs/mner_qg`."
            )
        if name in models:
            raise ValueError(
                f"Two models are named {name!r}: {models[name]} and {checkpoint}; give each its own name."
            )
        models[name] = checkpoint
    return models


def parse_variable(value: str) -> dict[str, str]:
    """Read the models that the environment variable names; nothing where it is empty."""
    return parse_models(spec for spec in value.split(",") if spec.strip())
