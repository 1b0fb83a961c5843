"""Encoders that run in ONNX Runtime, in the place of those of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

ONNX_INDEX = "onnx.json"
ONNX_FOLDER = "onnx"
HEADS = "model.heads.safetensors"  # all that is no encoder
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
IMAGE_INPUT = "pixel_values"
FEATURE_MAPS = "feature_map_{}"


def onnx_file(encoder: str) -> str:
    """Name the file of an encoder, relative to its checkpoint."""
    return f"{ONNX_FOLDER}/{encoder}.onnx"


class OnnxEncoder(nn.Module):
    """A graph in ONNX Runtime on the CPU, with as many threads as PyTorch uses.

    Args:
        file: the graph.
        config: of the encoder that it was made of.
    """

    dtype = torch.float32

    def __init__(self, file: Path, config: Any):
        super().__init__()
        self.config, self.file = config, file
        self.session = open_session(file)
        self.inputs = [item.name for item in self.session.get_inputs()]

    def run(self, **tensors: Tensor) -> list[Tensor]:
        """Run the graph on its inputs."""
        arrays = {name: tensors[name].cpu().contiguous().numpy() for name in self.inputs}
        return [torch.from_numpy(array) for array in self.session.run(None, arrays)]

    def train(self, mode: bool = True) -> OnnxEncoder:
        """Refuse to be trained."""
        if mode:
            raise ValueError("A model whose encoders run in ONNX Runtime cannot be trained; train its checkpoint.")
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind, for other processes."""
        return {**self.__dict__, "session": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the graph again."""
        self.__dict__.update(state)
        self.session = open_session(self.file)


class OnnxTextEncoder(OnnxEncoder):
    """A text encoder."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """Return an object with `last_hidden_state`, `b t d`; arguments as those of encoders of transformers."""
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        (states,) = self.run(
            input_ids=input_ids.long(), attention_mask=attention_mask.long(), token_type_ids=segments.long()
        )
        return SimpleNamespace(last_hidden_state=states)


class OnnxImageEncoder(OnnxEncoder):
    """An image encoder."""

    def forward(self, pixel_values: Tensor) -> Any:
        """Return an object with `feature_maps`, `b c h w` each."""
        return SimpleNamespace(feature_maps=self.run(pixel_values=pixel_values.float()))


def open_session(file: Path) -> Any:
    """Open a graph in ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("This checkpoint runs in ONNX Runtime: pip install hf-mner[onnx].") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def is_onnx_checkpoint(folder: Path) -> bool:
    """Tell whether a folder holds what `hf_mner.inference.onnx_export` wrote."""
    return (folder / ONNX_INDEX).is_file()


def has_onnx_encoders(model: nn.Module) -> bool:
    """Tell whether encoders of a model run in ONNX Runtime."""
    return any(isinstance(module, OnnxEncoder) for module in model.modules())


def check_onnx_dtype(dtype: Any) -> None:
    """Refuse another type of numbers than that which the graphs compute with."""
    if dtype not in (None, "auto", "float32", torch.float32):
        raise ValueError(
            f"`dtype={dtype}` is not for a checkpoint whose encoders run in ONNX Runtime; leave it out. Eight bits are"
            " chosen when it is written: `hf-mner convert onnx --int8`."
        )


def load_onnx_model(model_class: Any, config: Any, folder: Path) -> Any:
    """Build a model whose encoders run in ONNX Runtime.

    Args:
        model_class: of the model.
        config: its configuration.
        folder: the checkpoint.

    Raises:
        ValueError: if the heads do not fit the model.
    """
    index: Mapping[str, Any] = json.loads((folder / ONNX_INDEX).read_text(encoding="utf-8"))
    model = model_class(config)
    for name in index["encoders"]:
        encoder_class = OnnxTextEncoder if name.endswith("text_model") else OnnxImageEncoder
        model.set_submodule(name, encoder_class(folder / onnx_file(name), model.get_submodule(name).config))
    left = model.load_state_dict(load_file(folder / HEADS), strict=False)
    if left.missing_keys or left.unexpected_keys:
        wrong = [*left.missing_keys, *left.unexpected_keys]
        raise ValueError(
            f"{folder / HEADS} does not fit `{model_class.__name__}`: {', '.join(wrong[:4])}; export the checkpoint"
            " again with `hf-mner convert onnx`."
        )
    return model.eval()
