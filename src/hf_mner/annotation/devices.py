"""Devices, checked before anything is written."""

from __future__ import annotations


def check_device(device: str | None) -> None:
    """Refuse a device that this machine does not have.

    Args:
        device: such as `"cpu"` or `"cuda:0"`; None = the pipeline's choice.

    Raises:
        ValueError: naming it, and what to do.
    """
    if device is None:
        return
    import torch

    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"`device={device!r}` is no device; expected one such as 'cpu' or 'cuda:0'.") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device={device!r}` is not here: PyTorch sees {torch.cuda.device_count()} CUDA devices. Use 'cpu', or"
            " install a PyTorch that fits the driver."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"`device={device!r}` is not here: PyTorch sees no MPS. Use 'cpu'.")
