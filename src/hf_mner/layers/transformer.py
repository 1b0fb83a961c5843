"""A Transformer layer for states of one kind, or for states that read those of another kind."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import CrossAttention
from .starts import Projection


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each with a residual connection and layer normalisation.

    Args:
        width: of the states.
        num_heads: of the attention.
        dropout: of what is added to the residual.
        is_prenorm: normalise before attention and feed-forward network, as ViT does, not after them, as BERT does.

    Source: Vaswani et al. 2017, section 3; Dosovitskiy et al. 2021 (ViT), Eq. 2 and 3, for `is_prenorm`.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.1, is_prenorm: bool = False):
        super().__init__()
        self.is_prenorm = is_prenorm
        self.attention = CrossAttention(width, num_heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(Projection(width, 4 * width), nn.GELU(), Projection(4 * width, width))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor, others: Tensor | None = None) -> Tensor:
        """Update states.

        Args:
            states: `b n d`.
            mask: what can be read, 1 for real: `b n` for the states themselves, `b m` with `others`. A row that can
                read nothing keeps its states but for the feed-forward network.
            others: `b m d`, keys and values; `None` = the states themselves.

        Returns:
            `b n d`; what padding holds is meaningless.
        """
        can_read = mask.bool().any(1)
        # Attention over nothing is not defined; such a row reads everything, and what it read is dropped.
        readable = mask.bool() | ~can_read.unsqueeze(1)
        queries = self.attention_norm(states) if self.is_prenorm else states
        read = self.attention(queries, queries if others is None else others, readable) * can_read[:, None, None]
        states = states + self.dropout(read)
        if self.is_prenorm:
            return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        states = self.attention_norm(states)
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))
