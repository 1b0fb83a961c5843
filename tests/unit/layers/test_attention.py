"""Attention layers: against their formulas, and against PyTorch's own."""

import torch
from torch import nn

from hf_mner.layers.attention import AttentionPooling, CrossAttention, LabelAttention

torch.manual_seed(0)
STATES, MASK = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def test_pooling_is_the_printed_sum():
    pool = AttentionPooling(8)
    scores = pool.mlp(STATES[0, :3]).squeeze(-1)
    weights = scores.exp() / scores.exp().sum()
    assert torch.allclose(pool(STATES, MASK)[0], (weights.unsqueeze(-1) * STATES[0, :3]).sum(0), atol=1e-6)


def test_pooling_does_not_read_padding():
    pool, changed = AttentionPooling(8), STATES.clone()
    changed[0, 3:] = 1e3
    assert torch.equal(pool(STATES, MASK), pool(changed, MASK))


def test_cross_attention_is_that_of_pytorch():
    ours, theirs = CrossAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    queries = torch.randn(2, 3, 8)
    expected, _ = theirs(queries, STATES, STATES, key_padding_mask=~MASK.bool())
    assert torch.allclose(ours(queries, STATES, MASK), expected, atol=1e-6)


def test_label_attention_is_the_printed_formula():
    layer = LabelAttention(8)
    labels = layer.labels.weight
    weights = (STATES @ labels.T).softmax(-1)
    assert torch.allclose(layer(STATES), layer.norm(STATES + weights @ labels), atol=1e-6)
    assert layer(STATES[:, 0]).shape == (2, 8), "one state for each text too"
