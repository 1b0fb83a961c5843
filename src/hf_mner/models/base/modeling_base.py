"""What every system's model shares: weights come from safetensors alone."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar

from transformers import PreTrainedModel


class MnerPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` that never loads a pickle.

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
