"""What every system's model shares: weights come from safetensors alone, whole or compact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import cached_file

from hf_mner.hub.remote_code import PublishesRemoteCode
from hf_mner.layers.losses import IGNORE_INDEX, Distillation, trust_your_teacher_loss
from hf_mner.layers.quantization import dequantize_state

from .adapters import ADAPTER_FOLDER, OTHER_WEIGHTS, adapter_state, is_adapter_checkpoint
from .onnx_encoders import (
    HEADS,
    ONNX_FOLDER,
    ONNX_INDEX,
    check_onnx_dtype,
    has_onnx_encoders,
    is_onnx_checkpoint,
    load_onnx_model,
)

COMPACT_WEIGHTS = "model.int8.safetensors"
WHOLE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SPECIAL_FILES = {  # the file that tells a kind of checkpoint, and what else of it is read
    COMPACT_WEIGHTS: (COMPACT_WEIGHTS,),
    OTHER_WEIGHTS: (OTHER_WEIGHTS, f"{ADAPTER_FOLDER}/*"),
    ONNX_INDEX: (HEADS, f"{ONNX_FOLDER}/*"),
}
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

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:
        """Save the weights, see `PreTrainedModel.save_pretrained`.

        Raises:
            ValueError: if some weights are not at hand as floats (encoders in ONNX Runtime, or in eight bits).
        """
        check_can_be_saved(self)
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, see `PreTrainedModel.from_pretrained`; only safetensors files are read.

        A checkpoint of `hf-mner compact` (`model.int8.safetensors`) becomes a usual model in floating point, and so
        does one of LoRA adapters (`model.adapter.safetensors`), merged into the encoder that they were trained for.
        The encoders of one of `hf-mner convert onnx` (`onnx.json`) run in ONNX Runtime.

        Raises:
            ValueError: for `use_safetensors=False`, and for a `dtype` of encoders that run in ONNX Runtime.
            OSError: if the checkpoint has no safetensors file.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError(
                "`use_safetensors=False` would run code from the checkpoint's pickle; convert it to safetensors first"
                " (`model.save_pretrained` with the library that wrote it)."
            )
        kwargs["use_safetensors"] = True
        name = pretrained_model_name_or_path
        folder = None if name is None or kwargs.get("state_dict") is not None else special_checkpoint(name, kwargs)
        if folder is None:
            return super().from_pretrained(name, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(folder)
        if is_onnx_checkpoint(folder):
            check_onnx_dtype(kwargs.get("dtype"))
            return load_onnx_model(cls, config, folder)
        if is_adapter_checkpoint(folder):
            state = adapter_state(cls, config, folder)
        else:
            state = dequantize_state(load_file(str(folder / COMPACT_WEIGHTS)))
        return super().from_pretrained(None, *args, config=config, state_dict=state, **kwargs)


def check_can_be_saved(model: nn.Module) -> None:
    """Refuse to save a model without the floats of its encoders: the file would lack them."""
    if has_onnx_encoders(model):
        raise ValueError(
            "The encoders of this model run in ONNX Runtime and cannot be saved; copy its folder, or save the"
            " checkpoint that it was made of."
        )
    if any(type(module).__module__.startswith("torch.ao.nn.quantized") for module in model.modules()):
        raise ValueError(
            "`precision='int8'` has replaced the weights; save the model without it, or use `hf-mner compact` for a"
            " small file."
        )


def special_checkpoint(name: str | PathLike[str], kwargs: dict[str, Any]) -> Path | None:
    """Return the folder of a checkpoint without whole weights: compact, adapters, or for ONNX Runtime.

    Args:
        name: folder, or name on the Hub, from which what is needed is fetched.
        kwargs: of `from_pretrained`.

    Returns:
        The folder; `None` where there are whole weights, or nothing that we know.
    """
    if any(find_file(name, file, kwargs) for file in WHOLE_WEIGHTS):
        return None
    for marker, patterns in SPECIAL_FILES.items():
        file = find_file(name, marker, kwargs)
        if file is not None and Path(name).is_dir():
            return file.parent
        if file is not None:
            options = hub_options(kwargs)
            options.pop("proxies", None)
            place = options.pop("subfolder", "")
            wanted = [f"{place}/{pattern}" if place else pattern for pattern in ("*.json", *patterns)]
            return Path(snapshot_download(str(name), allow_patterns=wanted, **options)) / place
    return None


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
