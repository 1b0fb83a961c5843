"""What every system's model shares: weights come from safetensors alone, whole or compact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import cached_file

from hf_mner.hub.remote_code import PublishesRemoteCode
from hf_mner.layers.losses import IGNORE_INDEX, Distillation, trust_your_teacher_loss
from hf_mner.layers.quantization import dequantize_state

from .adapters import adapter_state, is_adapter_checkpoint
from .onnx_encoders import is_onnx_checkpoint, load_onnx_model

COMPACT_WEIGHTS = "model.int8.safetensors"
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class EncodingCache(OrderedDict[Hashable, Tensor]):
    """Encodings by what was encoded; beyond `max_bytes` the oldest are dropped. Valid for one model's weights."""

    def __init__(self, max_bytes: int = 2**28):
        super().__init__()
        self.max_bytes, self.num_bytes = max_bytes, 0

    def __setitem__(self, key: Hashable, value: Tensor) -> None:
        """Keep an encoding."""
        self.num_bytes += value.nbytes - (self[key].nbytes if key in self else 0)
        super().__setitem__(key, value)
        while self.num_bytes > self.max_bytes and self:
            self.num_bytes -= self.popitem(last=False)[1].nbytes


class MnerPreTrainedModel(PublishesRemoteCode, PreTrainedModel):
    """A `PreTrainedModel` that never loads a pickle and that reads compact checkpoints.

    `stages` names the processor's stages that the model runs; `None` = all of them. The text encoder is `text_model`.

    A model that can be taught by another (SCANNER, Eq. 4) names in `teacher_fields` what a teacher says of a row, and
    for each field how many dimensions behind the batch's count the row's words (and are padded). `read_as_teacher`
    gives these fields, `distillation_loss` reads them. Without any, the model takes no teacher. `teacher_shares` names
    fields of the configuration that rows depend on, so that teacher and student must have the same.
    """

    stages: ClassVar[tuple[str, ...] | None] = None
    input_modalities: tuple[str, ...] = ("text",)
    teacher_fields: ClassVar[Mapping[str, int]] = {}
    teacher_shares: ClassVar[tuple[str, ...]] = ()
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The losses are means of their own, so Trainer must divide them by the accumulation steps.
    accepts_loss_kwargs = False

    @classmethod
    def new_config(cls, **fields: Any) -> Any:
        """Build a configuration; unlike transformers, which keeps unknown fields, a misspelt one is a `TypeError`."""
        known = cls.config_class.__dataclass_fields__
        if unknown := sorted(set(fields) - set(known)):
            own = [name for name in known if name in cls.config_class.__annotations__]
            raise TypeError(
                f"`{cls.config_class.__name__}` has no field {unknown[0]!r}; its own fields are {', '.join(own)}."
            )
        return cls.config_class(**fields)

    @property
    def class_names(self) -> list[str]:
        """Name the classes of `logits`, in their order."""
        return [self.config.id2label[index] for index in sorted(self.config.id2label)]

    @property
    def entity_types(self) -> list[str]:
        """Name the entity types that the model can give, in the order of its classes."""
        return [self.config.id2label[index] for index in sorted(self.config.id2label)]

    def text_encoders(self) -> list[PreTrainedModel]:
        """Return the text encoders of this model, in the order of its stages."""
        return [self.text_model]

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings of the first encoder."""
        return self.text_encoders()[0].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings of the first encoder."""
        self.text_encoders()[0].set_input_embeddings(value)

    def count_labels(self, labels: Tensor) -> Tensor:
        """Count what the loss is a mean over: here every label.

        Args:
            labels: `b ...`, -100 marks what has none.
        """
        return (labels != IGNORE_INDEX).sum()

    def read_as_teacher(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return what the model says of a batch when it teaches another one; here fields of its output.

        Args:
            inputs: what `forward` reads, with `labels`.

        Returns:
            The `teacher_fields`, `b ...` each.
        """
        outputs = self(**inputs)
        return {name: outputs[name] for name in self.teacher_fields}

    def distillation_loss(
        self,
        outputs: Any,
        inputs: Mapping[str, Any],
        teacher: Mapping[str, Tensor],
        distillation: Distillation,
    ) -> Tensor:
        """Return the loss in which a teacher has a say; here Eq. 4 on `logits`, one distribution for each label.

        With `distillation="none"` it is the model's own loss.

        Args:
            outputs: of `forward` in training.
            inputs: what `forward` read, with `labels`.
            teacher: what `read_as_teacher` of the teacher gave for the same inputs.
            distillation: how far gold labels are trusted, see `trust_your_teacher_loss`.

        Source: SCANNER, Eq. 4.
        """
        return trust_your_teacher_loss(outputs.logits, teacher["logits"], inputs["labels"], distillation)

    def encode_shared(
        self,
        rows: Sequence[dict[str, Any]],
        processor: Any,  # noqa: ARG002 for systems that share
        batch_size: int,  # noqa: ARG002
        cache: EncodingCache,  # noqa: ARG002
    ) -> Sequence[dict[str, Any]]:
        """Encode what several rows share (a text or an image that many use) once, before the rows are run.

        Args:
            rows: as the processor made them.
            processor: the processor.
            batch_size: texts or images in one forward pass.
            cache: encodings of earlier calls with the same weights; new ones are added.

        Returns:
            The rows, with the encodings in the place of what was encoded. Here: the rows as they are.
        """
        return rows

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, see `PreTrainedModel.from_pretrained`; only safetensors files are read.

        A checkpoint of `hf-mner compact` (`model.int8.safetensors`) becomes a usual model in floating point, and so
        does a folder of LoRA adapters (`model.adapter.safetensors`), merged into the encoder they were trained for.
        The encoders of a folder of `hf-mner convert onnx` (`onnx.json`) run in ONNX Runtime.

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
        name = pretrained_model_name_or_path
        if name is not None and kwargs.get("state_dict") is None and is_onnx_checkpoint(Path(name)):
            config = kwargs.get("config") or cls.config_class.from_pretrained(name)
            return load_onnx_model(cls, config, Path(name))
        compact = compact_weights(pretrained_model_name_or_path, kwargs)
        adapted = None if compact else adapter_checkpoint(pretrained_model_name_or_path, kwargs)
        if compact is None and adapted is None:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(
            pretrained_model_name_or_path, **hub_options(kwargs)
        )
        state = adapter_state(cls, config, adapted) if adapted else dequantize_state(load_file(str(compact)))
        return super().from_pretrained(None, *args, config=config, state_dict=state, **kwargs)


def adapter_checkpoint(name: str | PathLike[str] | None, kwargs: dict[str, Any]) -> Path | None:
    """Return the folder of adapters, unless the caller brings weights or there are whole ones."""
    if name is None or kwargs.get("state_dict") is not None:
        return None
    return Path(name) if is_adapter_checkpoint(Path(name)) else None


def compact_weights(name: str | PathLike[str] | None, kwargs: dict[str, Any]) -> Path | None:
    """Return the compact weights of a checkpoint, unless the caller brings weights or there are whole ones.

    Args:
        name: folder, or name on the Hub; the file is fetched from there if the repository has it.
        kwargs: of `from_pretrained`.
    """
    if name is None or kwargs.get("state_dict") is not None:
        return None
    whole, compact = (find_file(name, file, kwargs) for file in ("model.safetensors", COMPACT_WEIGHTS))
    return compact if whole is None else None


def find_file(name: str | PathLike[str], file: str, kwargs: dict[str, Any]) -> Path | None:
    """Return a checkpoint's file on this machine, fetched from the Hub if need be; `None` if there is none."""
    path = cached_file(
        name,
        file,
        **hub_options(kwargs),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)


def hub_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of `from_pretrained` that say where on the Hub, and on this machine, files are."""
    return {name: kwargs[name] for name in HUB_OPTIONS if kwargs.get(name) is not None}
