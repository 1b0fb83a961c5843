"""The gated relational convolution: against a loop over pairs of nodes."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_mner.layers.relations import RELATIONS, relation_graph
from hf_mner.layers.rgcn import GatedRelationalConvolution
from hf_mner.layers.starts import OwnStart

WIDTH = 8


def layer_with_bias(num_relations=12):
    torch.manual_seed(0)
    layer = GatedRelationalConvolution(WIDTH, num_relations)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.gate.bias)
    return layer


def random_graph(num_images=3, num_objects=9):
    """Nodes and relations of images whose objects lie anywhere; all but the first image are padded."""
    torch.manual_seed(1)
    corners = torch.rand(num_images, num_objects, 2, 2).sort(dim=2).values * torch.tensor([64.0, 48.0])
    mask = torch.arange(num_objects) < torch.arange(num_objects, num_objects - num_images, -1).unsqueeze(1)
    relations = relation_graph(corners.flatten(2), mask, torch.tensor([[64.0, 48.0]] * num_images))
    return torch.randn(num_images, 1 + num_objects, WIDTH), relations, mask


def by_hand(layer, nodes, relations):
    """Equations 5 to 7, one pair after the other."""
    updated = torch.empty_like(nodes)
    for image in range(len(nodes)):
        for i, node in enumerate(nodes[image]):
            total = layer.bias.clone()
            for j, neighbour in enumerate(nodes[image]):
                relation = relations[image, i, j]
                if relation > 0:
                    total = total + neighbour @ layer.weight[relation - 1]
            news = total.relu()
            gate = torch.sigmoid(layer.gate.weight @ torch.cat([news, node]) + layer.gate.bias)
            updated[image, i] = node + gate * news
    return updated


def test_the_layer_is_a_loop_over_pairs():
    layer, (nodes, relations, _) = layer_with_bias(len(RELATIONS)), random_graph()
    assert len(relations.unique()) > 8, "else this test says little"
    # float32 sums of ten neighbours in another order: 1e-6 measured; wrong relations give 8.
    torch.testing.assert_close(layer(nodes, relations), by_hand(layer, nodes, relations), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_relations", [2, 5, 12])
def test_relations_may_be_any_numbers(num_relations):
    layer = layer_with_bias(num_relations)
    nodes, relations = torch.randn(2, 6, WIDTH), torch.randint(0, num_relations, (2, 6, 6))
    torch.testing.assert_close(layer(nodes, relations), by_hand(layer, nodes, relations), rtol=0, atol=1e-5)


def test_a_relation_is_read_from_the_first_node_to_the_second():
    layer, nodes, relations = layer_with_bias(), torch.randn(1, 2, WIDTH), torch.zeros(1, 2, 2, dtype=torch.long)
    alone = layer(nodes, relations)
    relations[0, 0, 1] = RELATIONS.index("class1")
    told = layer(nodes, relations)
    assert not torch.allclose(told[0, 0], alone[0, 0])
    assert torch.equal(told[0, 1], alone[0, 1])
    relations[0, 0, 1] = RELATIONS.index("class5")
    assert not torch.allclose(layer(nodes, relations)[0, 0], told[0, 0]), "another label, another weight"


def test_permuted_nodes_give_permuted_states():
    layer, (nodes, relations, _) = layer_with_bias(), random_graph()
    order = torch.randperm(nodes.shape[1], generator=torch.Generator().manual_seed(0))
    permuted = layer(nodes[:, order], relations[:, order][:, :, order])
    torch.testing.assert_close(permuted, layer(nodes, relations)[:, order], rtol=0, atol=1e-5)


def test_padding_changes_nothing():
    layer, (nodes, relations, mask) = layer_with_bias(), random_graph()
    states = layer(nodes, relations)
    changed = nodes.clone()
    changed[:, 1:][~mask] = 1e3
    others = layer(changed, relations)
    for image, count in enumerate((1 + mask.sum(1)).tolist()):
        assert torch.equal(states[image, :count], others[image, :count])
        alone = layer(nodes[image : image + 1, :count], relations[image : image + 1, :count, :count])
        torch.testing.assert_close(states[image : image + 1, :count], alone, rtol=0, atol=1e-5)


def test_every_relation_that_occurs_is_trained_and_no_other():
    layer, relations = layer_with_bias(), torch.tensor([[[0, 3, 0], [5, 0, 3], [0, 0, 0]]])
    layer(torch.randn(1, 3, WIDTH), relations).square().sum().backward()
    trained = {number + 1 for number, weight in enumerate(layer.weight.grad) if weight.any()}
    assert trained == {3, 5}


class Stack(PreTrainedModel):
    """A model of one layer, to be saved and loaded."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = GatedRelationalConvolution(WIDTH)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, OwnStart):
            module.draw_weights()


def test_loaded_weights_are_not_drawn_anew(tmp_path):
    model = Stack(PreTrainedConfig())
    nn.init.constant_(model.layer.bias, 0.5)
    model.save_pretrained(tmp_path)
    loaded = Stack.from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_a_new_layer_keeps_the_size_of_what_it_reads():
    torch.manual_seed(0)
    layer, nodes = GatedRelationalConvolution(256), torch.randn(4, 6, 256)
    relations = torch.zeros(4, 6, 6, dtype=torch.long)
    relations[:, torch.arange(6), torch.arange(6).roll(1)] = 1  # one neighbour each
    news = (layer(nodes, relations) - nodes).abs().max()
    assert 0.5 < news < 5, "neither silent nor saturated"
