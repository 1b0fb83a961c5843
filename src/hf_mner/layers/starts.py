"""Layers that draw their own first weights, so that what they read keeps its size.

transformers draws every weight with a deviation of 0.02, which fits a width of 768 between residuals. A new layer
without a residual would shrink what it reads to a fifth, and attention between two such layers would start without a
gradient.
"""

from __future__ import annotations

from torch import nn
from transformers import initialization as init


class OwnStart:
    """A layer with a start of its own; models call `draw_weights` in `_init_weights`, after transformers' own."""

    def draw_weights(self) -> None:
        """Draw the first weights."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it starts; define `draw_weights`.")


class Projection(nn.Linear, OwnStart):
    """A linear layer that starts as Glorot and Bengio 2010 (uniform)."""

    def draw_weights(self) -> None:
        """Draw the weights; the bias is 0."""
        init.xavier_uniform_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class Convolution(nn.Conv2d, OwnStart):
    """A convolution before a ReLU that starts as He et al. 2015 (normal)."""

    def draw_weights(self) -> None:
        """Draw the weights; the bias is 0."""
        init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            init.zeros_(self.bias)
