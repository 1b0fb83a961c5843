"""Attention between modalities, between tasks, and between tokens and labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .starts import Projection


class AttentionPooling(nn.Module):
    """Sums states up, each as much as a small network says: `alpha = softmax(MLP(H))`, `sum_k alpha_k H_k`.

    Source: MNER-QG, Eq. 1, after Rei and Sogaard 2019.
    """

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(Projection(width, width), nn.Tanh(), Projection(width, 1, bias=False))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Sum up each row.

        Args:
            states: `b t d`.
            mask: `b t`, 1 for states that count; at least one in each row.

        Returns:
            `b d`.
        """
        scores = self.mlp(states).squeeze(-1).float()  # b t
        weights = scores.masked_fill(~mask.bool(), torch.finfo(scores.dtype).min).softmax(-1).to(states.dtype)
        return torch.einsum("bt,btd->bd", weights, states)


class CrossAttention(nn.Module):
    """Lets queries read keys of another kind (scaled dot-product attention with several heads).

    Source: Vaswani et al. 2017, Eq. 1; MNER-QG, "Multi-scale Cross-modality Interaction".
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = Projection(width, width)
        self.key = Projection(width, width)
        self.value = Projection(width, width)
        self.output = Projection(width, width)

    def forward(self, queries: Tensor, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read.

        Args:
            queries: `b n d`.
            states: `b p d`, keys and values.
            mask: `b p`, 1 for states that can be read, at least one in each row; `None` = all.

        Returns:
            `b n d`.
        """
        query, key, value = (
            self.split(self.query(queries)),
            self.split(self.key(states)),
            self.split(self.value(states)),
        )
        readable = None if mask is None else mask.bool()[:, None, None, :]
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=readable)  # b h n d/h
        return self.output(read.transpose(1, 2).flatten(2))

    def split(self, states: Tensor) -> Tensor:
        """Cut `b n d` into heads, `b h n d/h`."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class LabelAttention(nn.Module):
    """Lets states read the embeddings of a task's labels: `A = softmax(H E^T)`, `H' = LN(H + A E)`.

    Source: Qin et al. 2021 (co-interactive transformer), which MNER-QG cites for its label attention.
    """

    def __init__(self, width: int, num_labels: int = 2):
        super().__init__()
        self.labels = nn.Embedding(num_labels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        """Read: `... d` gives `... d`."""
        weights = (states @ self.labels.weight.T).softmax(-1)  # ... c
        return self.norm(states + weights @ self.labels.weight)
