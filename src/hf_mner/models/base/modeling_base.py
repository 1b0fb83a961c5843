"""What every system's model shares: weights come from safetensors alone, whole or compact."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file
from transformers import PreTrainedModel

from hf_mner.layers.quantization import dequantize_state

COMPACT_WEIGHTS = "model.int8.safetensors"


class MnerPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` that never loads a pickle and that reads compact checkpoints.

    `stages` names the processor's stages that the model runs; `None` = all of them.
    """

    stages: ClassVar[tuple[str, ...] | None] = None

    @property
    def class_names(self) -> list[str]:
        """Name the classes of `logits`, in their order."""
        return [self.config.id2label[index] for index in sorted(self.config.id2label)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, see `PreTrainedModel.from_pretrained`; only safetensors files are read.

        A folder of `hf-mner compact` (`model.int8.safetensors`) becomes a usual model in floating point.

        Raises:
            ValueError: for `use_safetensors=False`.
            OSError: if the checkpoint has no safetensors file.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors=False` would run code from the checkpoint's pickle; convert it to safetensors first"
                " (`model.save_pretrained` with the library that wrote it)."
            )
        kwargs["use_safetensors"] = True
        compact = compact_weights(pretrained_model_name_or_path, kwargs)
        if compact is None:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(pretrained_model_name_or_path)
        state = dequantize_state(load_file(compact))
        return super().from_pretrained(None, *args, config=config, state_dict=state, **kwargs)


def compact_weights(name: str | PathLike[str] | None, kwargs: dict[str, Any]) -> Path | None:
    """Return the compact weights of a checkpoint folder, unless the caller brings weights or there are whole ones."""
    if name is None or kwargs.get("state_dict") is not None:
        return None
    path = Path(name) / COMPACT_WEIGHTS
    return path if path.is_file() and not (Path(name) / "model.safetensors").is_file() else None
