"""From images to what image encoders read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def normalized_pixels(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return an RGB image as `3 h w`, float32, normalised.

    Args:
        image: of any size.
        mean: of each channel, from 0 to 1.
        std: of each channel.
    """
    import numpy as np
    import torch

    pixels = (np.asarray(image, dtype=np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
