"""A checkpoint whose encoders run in ONNX Runtime: `from_pretrained` and the pipeline read it as any other."""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hf_mner.hub.remote_code import write_json
from hf_mner.models.base.onnx_encoders import (
    FEATURE_MAPS,
    HEADS,
    IMAGE_INPUT,
    ONNX_FOLDER,
    ONNX_INDEX,
    TEXT_INPUTS,
    is_onnx_checkpoint,
    onnx_file,
)
from hf_mner.models.base.vision import feature_maps

from .encoders import find_encoders

COPIED = ("recipe.yaml", "cost.json")
SAMPLE_LENGTH = 16  # tokens; any batch and length can be read afterwards


def export_onnx(checkpoint: str | Path, output: str | Path, int8: bool = False) -> Path:
    """Write a checkpoint with its encoders as ONNX files, and all that is no encoder in `model.heads.safetensors`.

    Heads, CRFs, fusion and decoding stay in PyTorch: they are a small part of the time, and nothing is written twice.

    Args:
        checkpoint: folder, or name on the Hub, of a trained model.
        output: new or empty folder.
        int8: store the text encoders' matrices in eight bits and round what they are multiplied with (dynamic
            quantisation).

    Returns:
        The output folder.

    Raises:
        ImportError: without `onnx` and `onnxscript`.
        FileExistsError: if the output folder is not empty.
        ValueError: for MMAVK with `fusion='prefix'`, whose image enters every layer of the text encoder, and for what
            is such a checkpoint already.
    """
    check_exporter()
    if is_onnx_checkpoint(Path(checkpoint)):
        raise ValueError(f"{checkpoint} runs in ONNX Runtime already; give the checkpoint that it was made of.")
    from transformers import AutoModelForTokenClassification, AutoProcessor

    output = Path(output)
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not empty; choose a new folder, so that no file of another model stays.")
    model = AutoModelForTokenClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    if getattr(model.config, "fusion", None) == "prefix":
        raise ValueError(
            "`fusion='prefix'` gives the image to every layer of the text encoder, which an ONNX file of the encoder"
            " cannot take; use the model as it is."
        )
    encoders = find_encoders(model)
    (output / ONNX_FOLDER).mkdir(parents=True)
    for name, encoder in encoders.items():
        file = output / onnx_file(name)
        if name.endswith("text_model"):
            export_text_encoder(encoder, file)
            if int8:
                quantize_file(file)
        else:
            export_image_encoder(encoder, file, model.config.image_size)
    inside = tuple(f"{name}." for name in encoders)
    heads = {name: value.contiguous() for name, value in model.state_dict().items() if not name.startswith(inside)}
    save_file(heads, output / HEADS, metadata={"format": "pt"})
    write_json(output / ONNX_INDEX, {"encoders": sorted(encoders), "int8": int8})
    model.config.save_pretrained(output)
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(output)
    for name in COPIED:
        if (Path(checkpoint) / name).is_file():
            shutil.copy(Path(checkpoint) / name, output / name)
    return output


def check_exporter() -> None:
    """Say what to install where the exporter lacks its packages."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("Writing ONNX files needs `onnx` and `onnxscript`: pip install hf-mner[export].") from error


class StatesOf(nn.Module):
    """A text encoder with tensors in and one tensor out."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the last states, `b t d`."""
        kwargs = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state


class MapsOf(nn.Module):
    """An image encoder with a tensor in and a tuple of feature maps out."""

    def __init__(self, encoder: Any):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen feature maps, `b c h w` each."""
        return tuple(feature_maps(self.encoder, pixel_values))


def export_text_encoder(encoder: Any, file: Path) -> None:
    """Write a text encoder for batches of any size and length."""
    knows_segments = "token_type_ids" in signature(encoder.forward).parameters
    names = TEXT_INPUTS if knows_segments else TEXT_INPUTS[:2]
    ids = torch.ones(2, SAMPLE_LENGTH, dtype=torch.long)
    mask = ids.clone()
    mask[1, SAMPLE_LENGTH // 2 :] = 0
    samples = (ids, mask, torch.zeros_like(ids))[: len(names)]
    sizes = {0: torch.export.Dim("b", min=1, max=2**20), 1: torch.export.Dim("t", min=2, max=longest_text(encoder))}
    encoder.set_attn_implementation("eager")
    write_graph(StatesOf(encoder), samples, names, ["last_hidden_state"], dict.fromkeys(names, sizes), file)


def longest_text(encoder: Any) -> int:
    """Return the most tokens that an encoder has positions for."""
    return getattr(encoder.config, "max_position_embeddings", None) or 512


def export_image_encoder(encoder: Any, file: Path, size: int) -> None:
    """Write an image encoder for batches of any number of images, squares of `size` pixels."""
    module = MapsOf(encoder)
    pixels = torch.rand(2, 3, size, size)
    with torch.no_grad():
        outputs = [FEATURE_MAPS.format(index) for index in range(len(module(pixels)))]
    sizes = {IMAGE_INPUT: {0: torch.export.Dim("k", min=1, max=2**20)}}
    write_graph(module, (pixels,), [IMAGE_INPUT], outputs, sizes, file)


def write_graph(
    module: nn.Module, samples: tuple[Tensor, ...], inputs: Any, outputs: list[str], sizes: dict[str, Any], file: Path
) -> None:
    """Trace a module on samples and write its graph."""
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            samples,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=list(inputs),
            output_names=outputs,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"PyTorch's exporter gave no program for {file.name}.")
    program.save(str(file))


def quantize_file(file: Path) -> None:
    """Quantise the matrices of a graph; the file is replaced."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.with_suffix(".float.onnx")
    file.rename(whole)
    quantize_dynamic(
        whole, file, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )
    for part in (whole, *whole.parent.glob(f"{file.name}.data")):
        part.unlink(missing_ok=True)
