"""`hf-mner convert`: weights of other programs as checkpoints of transformers, and checkpoints for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Convert weights of other programs, and checkpoints for ONNX Runtime.")


@app.callback()
def convert() -> None:
    """Convert weights of other programs, and checkpoints for ONNX Runtime."""


@app.command()
def darknet53(
    weights: Annotated[Path, typer.Argument(help="File of Darknet: yolov3.weights or darknet53.conv.74.")],
    output: Annotated[Path, typer.Argument(help="New folder for the backbone.")],
) -> None:
    """Write YOLOv3's Darknet-53 and feature pyramid as a backbone in safetensors."""
    from hf_mner.models.darknet53.convert_darknet53 import convert_darknet_weights

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty; choose a new folder, so that no file of another model stays.")
    convert_darknet_weights(weights).save_pretrained(output)
    typer.echo(output)


@app.command()
def onnx(
    checkpoint: Annotated[str, typer.Argument(help="Folder, or name on the Hub, of a trained model.")],
    output: Annotated[Path, typer.Argument(help="New folder.")],
    int8: Annotated[bool, typer.Option("--int8", help="Text encoders in eight bits.")] = False,
) -> None:
    """Write a checkpoint whose encoders run in ONNX Runtime; every command and the pipeline take it as a model."""
    from hf_mner.inference.onnx_export import export_onnx

    typer.echo(export_onnx(checkpoint, output, int8))
