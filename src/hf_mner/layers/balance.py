"""Two losses kept at one size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LossBalance(nn.Module):
    """The balance factor `omega_f` of Eq. 6: it brings L_QG to the size of the text loss.

    The ratio of the running means of both losses over about the last hundred batches, detached, from 0.1 to 10.

    Departure: the paper's own scheme is in an appendix that was not published.
    """

    momentum, smallest, largest = 0.99, 0.1, 10.0
    means: Tensor
    weight: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("means", torch.zeros(2))
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def forward(self, text_loss: Tensor, grounding_loss: Tensor) -> Tensor:
        """Return the factor, `()` as both losses; in training the means take in the two losses first."""
        losses = torch.stack([text_loss, grounding_loss]).float()
        means, weight = self.means, self.weight
        if self.training:
            means.mul_(self.momentum).add_(losses * (1 - self.momentum))
            weight.mul_(self.momentum).add_(1 - self.momentum)
        text, grounding = (means / weight if weight > 0 else losses).unbind()
        return (text / grounding.clamp(min=1e-8)).clamp(self.smallest, self.largest)
