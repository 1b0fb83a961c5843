"""What every system's model shares: weights come from safetensors alone."""

from __future__ import annotations

from os import PathLike
from typing import Any

from transformers import PreTrainedModel


class MnerPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` that never loads a pickle."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, see `PreTrainedModel.from_pretrained`; only safetensors files are read.

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
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
