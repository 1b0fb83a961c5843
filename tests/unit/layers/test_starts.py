"""Layers keep the size of what they read."""

import pytest
import torch
from torch import nn

from hf_mner.layers.starts import Convolution, OwnStart, Projection


def test_a_projection_keeps_the_size_of_what_it_reads():
    layer = Projection(256, 256)
    layer.draw_weights()
    states = torch.randn(64, 256)
    assert 0.8 < layer(states).std() / states.std() < 1.2


def test_a_convolution_keeps_the_size_after_a_relu():
    layer = Convolution(64, 64, 3, padding=1)
    layer.draw_weights()
    maps = torch.randn(4, 64, 16, 16)
    for _ in range(2):
        maps = layer(maps).relu()
    assert 0.7 < maps.square().mean().sqrt() < 1.4


def test_a_layer_must_say_how_it_starts():
    class Silent(nn.Linear, OwnStart):
        pass

    with pytest.raises(NotImplementedError, match="Silent does not say how it starts"):
        Silent(2, 2).draw_weights()
