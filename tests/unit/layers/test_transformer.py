"""The Transformer layer: against PyTorch's own, and what can be read."""

import pytest
import torch
from torch import nn

from hf_mner.layers.transformer import TransformerLayer

WIDTH, HEADS = 8, 2
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])

torch.manual_seed(0)
STATES, OTHERS = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)


def random_layer(is_prenorm=False, dropout=0.0):
    """A layer whose biases and norms are no zeros and ones, so that a missing one is noticed."""
    torch.manual_seed(1)
    layer = TransformerLayer(WIDTH, HEADS, dropout, is_prenorm)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def as_pytorch(layer):
    """PyTorch's layer with the same weights."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=layer.is_prenorm
    )
    read, (wide, _, narrow) = layer.attention, layer.feed_forward
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([read.query.weight, read.key.weight, read.value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([read.query.bias, read.key.bias, read.value.bias]))
        for one, other in (
            (theirs.self_attn.out_proj, read.output),
            (theirs.linear1, wide),
            (theirs.linear2, narrow),
            (theirs.norm1, layer.attention_norm),
            (theirs.norm2, layer.feed_forward_norm),
        ):
            one.load_state_dict(other.state_dict())
    return theirs


@pytest.mark.parametrize("is_prenorm", [False, True])
def test_self_attention_is_that_of_pytorch(is_prenorm):
    layer = random_layer(is_prenorm)
    expected = as_pytorch(layer)(OTHERS, src_key_padding_mask=~MASK.bool())
    real = MASK.bool()
    # The same operations in float32: 1e-6 measured.
    torch.testing.assert_close(layer(OTHERS, MASK)[real], expected[real], rtol=0, atol=1e-5)


def test_cross_attention_is_attention_then_a_feed_forward_network():
    layer = random_layer()
    states = layer.attention_norm(STATES + layer.attention(STATES, OTHERS, MASK))
    expected = layer.feed_forward_norm(states + layer.feed_forward(states))
    torch.testing.assert_close(layer(STATES, MASK, OTHERS), expected, rtol=0, atol=1e-6)


def test_a_row_that_can_read_nothing_keeps_its_states_but_for_the_feed_forward_network():
    layer, mask = random_layer(), MASK.clone()
    mask[0] = 0
    states = layer.attention_norm(STATES)
    expected = layer.feed_forward_norm(states + layer.feed_forward(states))
    result = layer(STATES, mask, OTHERS)
    torch.testing.assert_close(result[0], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(result[1], layer(STATES, MASK, OTHERS)[1], rtol=0, atol=1e-6)
    assert not torch.allclose(result[1], expected[1]), "the other row reads"
    changed = OTHERS.clone()
    changed[0] = 1e3
    assert torch.equal(layer(STATES, mask, changed)[0], result[0])


@pytest.mark.parametrize("is_prenorm", [False, True])
def test_nothing_to_read_has_finite_gradients(is_prenorm):
    layer, others = random_layer(is_prenorm), OTHERS.clone().requires_grad_()
    result = layer(STATES, torch.zeros_like(MASK), others)
    result.square().sum().backward()
    assert not others.grad.any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("is_prenorm", [False, True])
@pytest.mark.parametrize("is_cross", [False, True])
def test_padding_changes_nothing(is_prenorm, is_cross):
    layer, changed = random_layer(is_prenorm), OTHERS.clone()
    changed[0, 3:] = 1e3
    if is_cross:
        assert torch.equal(layer(STATES, MASK, OTHERS), layer(STATES, MASK, changed))
        alone = layer(STATES[:1], MASK[:1, :3], OTHERS[:1, :3])
        torch.testing.assert_close(layer(STATES, MASK, OTHERS)[:1], alone, rtol=0, atol=1e-5)
    else:
        result = layer(OTHERS, MASK)
        assert torch.equal(result[MASK.bool()], layer(changed, MASK)[MASK.bool()])
        torch.testing.assert_close(result[:1, :3], layer(OTHERS[:1, :3], MASK[:1, :3]), rtol=0, atol=1e-5)


def test_what_is_read_and_what_the_network_says_is_dropped_out_in_training():
    layer = random_layer(dropout=0.5).train()
    assert not torch.equal(layer(STATES, MASK, OTHERS), layer(STATES, MASK, OTHERS))
    layer.eval()
    assert torch.equal(layer(STATES, MASK, OTHERS), layer(STATES, MASK, OTHERS))
