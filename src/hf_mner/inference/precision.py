"""Numbers of fewer bits, and compiled encoders, for models that are only read."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
from torch import nn

from hf_mner.models.base.onnx_encoders import has_onnx_encoders

from .encoders import find_encoders

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def set_precision(model: Any, precision: Precision) -> Any:
    """Compute with fewer bits from now on; in place.

    Args:
        model: a trained model in evaluation mode.
        precision: `float32`; `bfloat16`, all weights and states (CRFs, probabilities and boxes stay in single
            precision); or `int8`, for CPUs: the matrices of the text encoders are stored in eight bits, and what they
            are multiplied with is rounded to eight bits as it comes (dynamic quantisation).

    Returns:
        The model.

    Raises:
        ValueError: for a precision that is not known, `int8` elsewhere than on a CPU, and encoders in ONNX Runtime.
    """
    check_precision(precision)
    if precision != "float32":
        refuse_onnx(model, f"precision={precision!r}")
    if precision == "bfloat16":
        return model.to(torch.bfloat16)
    if precision == "int8":
        if model.device.type != "cpu":
            raise ValueError(f"`precision='int8'` is for CPUs, and the model is on {model.device}; use 'bfloat16'.")
        for name, encoder in find_encoders(model).items():
            if name.endswith("text_model"):
                quantize_linear(encoder)
    return model


def check_precision(precision: str) -> None:
    """Refuse a precision that is not known."""
    if precision not in PRECISIONS:
        raise ValueError(f"`precision={precision!r}` is not known; choose one of {', '.join(PRECISIONS)}.")


def refuse_onnx(model: Any, option: str) -> None:
    """Refuse an option for a model whose encoders PyTorch does not run."""
    if has_onnx_encoders(model):
        raise ValueError(
            f"`{option}` is not for a checkpoint whose encoders run in ONNX Runtime; leave it out. Eight bits are"
            " chosen when it is written: `hf-mner convert onnx --int8`."
        )


def quantize_linear(module: nn.Module) -> None:
    """Replace the linear layers of a module by dynamically quantised ones; in place."""
    with warnings.catch_warnings():
        # Both announce torchao as the successor, which is a package of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "torch.quantize_per_", UserWarning)
        # A scale for each row of a matrix: with one for the whole matrix more F1 is lost (docs/results.md, Speed).
        by_row = {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        torch.ao.quantization.quantize_dynamic(module, by_row, inplace=True)


def compile_encoders(model: Any) -> Any:
    """Let PyTorch compile the encoders when they are first run, for batches of any size; in place.

    The first batches wait for the compiler (half a minute on a CPU, which needs a C++ compiler).
    """
    refuse_onnx(model, "compiled=True")
    for encoder in find_encoders(model).values():
        encoder.compile(dynamic=True)
    return model
