"""How a training runs on a machine: none of it changes what is learned, but for chance and rounding.

Limits: each micro-batch and each process draws dropout of its own; and where several processes cannot part the last
rows of an epoch evenly, the last update holds some rows of the first one as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class RunOptions:
    """What suits a machine and a person, beside a recipe, which says what is learned.

    Args:
        accumulation: micro-batches of one update in each process; more need less memory.
        has_gradient_checkpointing: compute activations of the encoder's layers twice instead of keeping them.
        save_steps: also save the state of the training every so many updates; `None` = at the end of each epoch.
        trackers: names that `transformers` knows, such as `tensorboard`, `trackio` or `wandb`.
        is_sharded: cut parameters, gradients and optimiser among the GPUs (FSDP); start with `torchrun`.

    Raises:
        ValueError: if a number is not 1 or more, or a tracker is not known.
        ImportError: if a tracker's package is missing.
    """

    accumulation: int = 1
    has_gradient_checkpointing: bool = False
    save_steps: int | None = None
    trackers: tuple[str, ...] = ()
    is_sharded: bool = False

    def __post_init__(self):
        for name, value in (("accumulation", self.accumulation), ("save_steps", self.save_steps)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")
        check_trackers(self.trackers)

    def micro_batch_size(self, batch_size: int) -> int:
        """Return the rows of one forward pass in one process: those of an update, parted.

        Raises:
            ValueError: if they cannot be parted evenly.
        """
        processes = num_processes()
        size, rest = divmod(batch_size, processes * self.accumulation)
        if rest or not size:
            raise ValueError(
                f"`batch_size={batch_size}` are the rows of one update, and cannot be parted evenly among {processes}"
                f" processes with {self.accumulation} micro-batches each; choose a multiple of"
                f" {processes * self.accumulation}, other `--accumulation`, or another number of processes."
            )
        return size

    def callbacks(self, folder: Path) -> list[TrainerCallback]:
        """Return the trackers that need a folder of the run: TensorBoard writes into `folder/tensorboard`.

        Trainer's own place for it is among the checkpoints, which are dropped at the end.
        """
        if TENSORBOARD not in self.trackers or not is_main_process():
            return []
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        return [TensorBoardCallback(SummaryWriter(folder / TENSORBOARD))]

    def arguments(self, run_name: str) -> dict[str, Any]:
        """Return the training arguments that the options set."""
        values: dict[str, Any] = {
            "gradient_accumulation_steps": self.accumulation,
            "activation_checkpointing": self.has_gradient_checkpointing,
            "report_to": [name for name in self.trackers if name != TENSORBOARD] or "none",
            "run_name": run_name,
        }
        if self.has_gradient_checkpointing:
            values["activation_checkpointing_kwargs"] = {"use_reentrant": False}
            # A batch without knowledge or objects does not reach every parameter; Trainer expects it to, here alone.
            values["ddp_find_unused_parameters"] = True
        if self.save_steps is not None:
            values |= {"save_strategy": "steps", "save_steps": self.save_steps}
        if self.is_sharded:
            values |= {"fsdp": True, "fsdp_config": {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}}
        return values


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that transformers does not know, or whose package is missing."""
    if not names:
        return
    from transformers.integrations import integration_utils

    known = sorted(integration_utils.INTEGRATION_TO_CALLBACK)
    for name in names:
        if name not in known:
            raise ValueError(f"Tracker {name!r} is not known; choose of {', '.join(known)}.")
        if name not in integration_utils.get_available_reporting_integrations():
            raise ImportError(f"Tracker {name!r} needs its package: pip install {name}.")


AS_USUAL = RunOptions()


def num_processes() -> int:
    """Return how many processes train together, as their starter (`torchrun`) says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Tell whether this is the one process that prints and scores."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_all() -> None:
    """Wait until all processes that train together are here."""
    if num_processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def leave_processes() -> None:
    """Leave the processes that trained together, once this one has no more to train.

    A process that ends without having left them may abort, and `torchrun` then ends the others, at their work.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
