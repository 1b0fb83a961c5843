"""Visual prefixes: image features that every self-attention layer of a text encoder reads before its own keys."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PREFIX_ATTENTION = "mner_prefix"  # the name under which transformers finds `prefix_attention`


class Prefix(NamedTuple):
    """What each layer reads before the words.

    Args:
        keys: `l b p d` for `l` layers and `p` positions.
        values: `l b p d`.
        mask: `b p`, bool, True for positions of a real image that counts.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class VisualPrefix(nn.Module):
    """Turns image features into keys and values for every layer of a text encoder.

    Two linear layers with tanh between give, at each position, `num_blocks` blocks of a key and a value. In each layer
    a gate (linear, leaky ReLU, softmax over the blocks) mixes the blocks.

    Args:
        feature_size: channels `f` of the image features.
        hidden_size: width between the two linear layers; 800 in HVPNeT.
        key_size: width `d` of the encoder's keys and values.
        num_layers: layers of the encoder.
        num_blocks: blocks that the gates mix; 4 in HVPNeT.

    Source: MMAVK, Table 4, "T+I"; Chen et al. 2022, HVPNeT (https://arxiv.org/abs/2205.03521), section 3.
    Departure: HVPNeT cuts the channels of its 2 x 2 positions into four rows, here a position keeps its channels; and
    each picture has gates of its own there, here the mean over image and crops sets one gate for all.
    """

    def __init__(self, feature_size: int, hidden_size: int, key_size: int, num_layers: int, num_blocks: int = 4):
        super().__init__()
        self.num_blocks, self.key_size = num_blocks, key_size
        self.encoder = nn.Sequential(
            nn.Linear(feature_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, num_blocks * 2 * key_size)
        )
        self.gates = nn.ModuleList(nn.Linear(num_blocks * 2 * key_size, num_blocks) for _ in range(num_layers))

    def forward(self, features: Tensor, image_mask: Tensor, index: Tensor, weight: Tensor) -> Prefix:
        """Build the prefix of each example.

        Args:
            features: `k m s f`, distinct images, each with its crops, `s` positions in each.
            image_mask: `k m`, 1 for a real image or crop.
            index: `b`, row of `features` for each example, -1 = no image.
            weight: `b`; 0 = the image does not count.
        """
        real = image_mask.bool().unsqueeze(-1).expand(features.shape[:3]).flatten(1)  # k p
        encoded = self.encoder(features.flatten(1, 2))  # k p g2d
        mean = (encoded * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True).clamp(min=1)  # k g2d
        blocks = encoded.unflatten(-1, (self.num_blocks, 2 * self.key_size))  # k p g 2d
        mixed = []
        for gate in self.gates:
            share = F.leaky_relu(gate(mean)).softmax(-1)  # k g
            mixed.append(torch.einsum("kpgd,kg->kpd", blocks, share))
        chosen = torch.stack(mixed)[:, index.clamp(min=0)]  # l b p 2d
        keys, values = chosen.chunk(2, dim=-1)
        counts = (index >= 0) & (weight != 0)
        return Prefix(keys, values, real[index.clamp(min=0)] & counts.unsqueeze(-1))


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend to the prefix and the words; the attention function of transformers with one more argument.

    Args:
        module: the self-attention layer; its `layer_idx` chooses the prefix.
        query: `b h t e`.
        key: `b h t e`.
        value: `b h t e`.
        attention_mask: `b 1 t t`, bool (True = read) or added to the scores, or `None` = read all.
        prefix: `None` = words alone.
        kwargs: see `sdpa_attention_forward`.
    """
    if prefix is not None:
        layer: int = module.layer_idx  # type: ignore[assignment]  # a plain attribute of the encoder's layers
        heads = key.shape[1]
        keys, values = (part[layer].unflatten(-1, (heads, -1)).transpose(1, 2) for part in prefix[:2])  # b h p e
        key = torch.cat([keys.to(key.dtype), key], dim=2)
        value = torch.cat([values.to(value.dtype), value], dim=2)
        attention_mask = widen_mask(attention_mask, prefix.mask, query)
    return sdpa_attention_forward(module, query, key, value, attention_mask, is_causal=False, **kwargs)


def widen_mask(attention_mask: Tensor | None, prefix_mask: Tensor, query: Tensor) -> Tensor:
    """Put the prefix's mask (`b p`) before the words' (`b 1 t t`, or `None`): `b 1 t p+t`."""
    size, length = query.shape[0], query.shape[2]
    before = prefix_mask[:, None, None, :].expand(-1, -1, length, -1)
    if attention_mask is None:
        attention_mask = torch.ones(size, 1, length, length, dtype=torch.bool, device=query.device)
    if attention_mask.dtype != torch.bool:
        before = torch.zeros_like(before, dtype=attention_mask.dtype).masked_fill(
            ~before, torch.finfo(attention_mask.dtype).min
        )
    return torch.cat([before, attention_mask.expand(size, -1, -1, -1)], dim=-1)


def attend_with_prefix(text_model: PreTrainedModel) -> None:
    """Let a text encoder take `prefix=`; it then computes attention by PyTorch's scaled dot product.

    Raises:
        ValueError: if the encoder has an attention of its own making (DeBERTa), or layers that do not know their
            number (DistilBERT).
    """
    numbered = {module.layer_idx for module in text_model.modules() if hasattr(module, "layer_idx")}
    if not text_model._supports_attention_backend or numbered != set(range(text_model.config.num_hidden_layers)):
        raise ValueError(
            f"`{type(text_model).__name__}` has an attention that takes no prefix; use an encoder such as BERT,"
            " RoBERTa or XLM-R, or another `fusion`."
        )
    text_model.set_attn_implementation(PREFIX_ATTENTION)


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)


__all__ = ["PREFIX_ATTENTION", "Prefix", "VisualPrefix", "attend_with_prefix", "prefix_attention"]
