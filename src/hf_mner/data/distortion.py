"""Random distortions of training images, with their boxes."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

MAX_COLOR = 0.5  # saturation and brightness are multiplied by 0.5 to 1.5
MAX_DEGREES = 5.0
MAX_SCALE = 0.1
MAX_SHIFT = 0.1  # of a side


class Distortion(NamedTuple):
    """A change of colour and place of a square image.

    Args:
        saturation: factor.
        brightness: factor.
        scale: factor, about the centre.
        degrees: turn about the centre, clockwise on the screen.
        shift: to the right and downwards, shares of a side.

    Source: the training code of FA-VG (Yang et al. 2019).
    Departure: no shear, and no mirror, which would make "left" mean right.
    """

    saturation: float
    brightness: float
    scale: float
    degrees: float
    shift: tuple[float, float]

    @classmethod
    def draw(cls) -> Self:
        """Draw one from Python's global random numbers, whose state a training's checkpoints keep."""
        return cls(
            saturation=1 + random.uniform(-MAX_COLOR, MAX_COLOR),
            brightness=1 + random.uniform(-MAX_COLOR, MAX_COLOR),
            scale=1 + random.uniform(-MAX_SCALE, MAX_SCALE),
            degrees=random.uniform(-MAX_DEGREES, MAX_DEGREES),
            shift=(random.uniform(-MAX_SHIFT, MAX_SHIFT), random.uniform(-MAX_SHIFT, MAX_SHIFT)),
        )

    def image(self, square: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
        """Distort an RGB image; `fill` is the colour of what comes in from outside."""
        from PIL import Image, ImageEnhance

        colored = ImageEnhance.Color(square).enhance(self.saturation)
        lit = ImageEnhance.Brightness(colored).enhance(self.brightness)
        side = square.width
        cosine, sine = self.turn()
        # Pillow wants the way back: from a place of the result to that of the original.
        right, down = (side * (0.5 + part) for part in self.shift)
        back = (
            cosine / self.scale,
            sine / self.scale,
            side / 2 - (cosine * right + sine * down) / self.scale,
            -sine / self.scale,
            cosine / self.scale,
            side / 2 - (cosine * down - sine * right) / self.scale,
        )
        return lit.transform(square.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR, fillcolor=fill)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Move boxes along: the box around the turned corners, clipped to the image.

        Args:
            boxes: `... 4`, corners as fractions of the square; boxes of negative numbers stand for none.

        Returns:
            `... 4`; a box that left the image becomes negative.
        """
        import torch

        left, top, right, bottom = (boxes - 0.5).unbind(-1)
        x = torch.stack([left, right, left, right], dim=-1)
        y = torch.stack([top, top, bottom, bottom], dim=-1)
        cosine, sine = self.turn()
        new_x = (self.scale * (cosine * x - sine * y) + self.shift[0] + 0.5).clamp(0, 1)
        new_y = (self.scale * (sine * x + cosine * y) + self.shift[1] + 0.5).clamp(0, 1)
        moved = torch.stack([new_x.amin(-1), new_y.amin(-1), new_x.amax(-1), new_y.amax(-1)], dim=-1)
        is_seen = (boxes[..., 2] > 0) & (moved[..., 2] > moved[..., 0]) & (moved[..., 3] > moved[..., 1])
        return torch.where(is_seen.unsqueeze(-1), moved, torch.full_like(moved, -1.0))

    def turn(self) -> tuple[float, float]:
        """Return cosine and sine of the turn."""
        return math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
