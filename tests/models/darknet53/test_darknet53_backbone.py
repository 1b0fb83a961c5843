"""Darknet-53 through the Auto classes and the Backbone API."""

import pytest
import torch
from transformers import AutoBackbone, AutoConfig, AutoModel

from hf_mner import Darknet53Backbone, Darknet53Config

TINY = {"embedding_size": 4, "depths": (1, 1, 1, 1, 1)}


def tiny_backbone(**fields):
    torch.manual_seed(0)
    return Darknet53Backbone(Darknet53Config(**{**TINY, **fields})).eval()


def test_the_standard_maps_are_those_of_the_papers():
    with torch.device("meta"):
        model = Darknet53Backbone(Darknet53Config())
        maps = model(torch.zeros(1, 3, 256, 256)).feature_maps
    assert [tuple(states.shape) for states in maps] == [(1, 256, 32, 32), (1, 512, 16, 16), (1, 1024, 8, 8)]
    assert model.channels == [256, 512, 1024]
    assert model.out_features == ["pyramid1", "pyramid2", "pyramid3"]
    assert sum(type(module).__name__ == "Conv2d" for module in model.modules()) == 72  # YOLOv3 has 75, three detect


@pytest.mark.parametrize("auto_class", [AutoBackbone, AutoModel])
def test_auto_classes_know_it(auto_class):
    assert isinstance(AutoConfig.for_model("darknet53", **TINY), Darknet53Config)
    assert type(auto_class.from_config(Darknet53Config(**TINY))) is Darknet53Backbone


def test_save_and_load_change_nothing(tmp_path):
    model, pixels = tiny_backbone(out_features=["stage3", "pyramid3"]), torch.randn(2, 3, 64, 64)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if "safetensors" in path.name] == ["model.safetensors"]
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.out_features == ["stage3", "pyramid3"]
    for one, other in zip(model(pixels).feature_maps, loaded(pixels).feature_maps, strict=True):
        assert torch.equal(one, other)


def test_names_choose_among_all_maps():
    pixels = torch.randn(1, 3, 64, 64)
    model = tiny_backbone(out_features=["stem", "stage5", "pyramid1"])
    output = model(pixels, output_hidden_states=True)
    assert [tuple(states.shape[1:]) for states in output.feature_maps] == [(4, 64, 64), (128, 2, 2), (32, 8, 8)]
    assert model.channels == [4, 128, 32]
    assert len(output.hidden_states) == len(model.stage_names) == 9
    assert [states.shape[1] for states in output.hidden_states] == model.num_features
    assert tiny_backbone(out_indices=[3, 8]).out_features == ["stage3", "pyramid3"]
    assert model(pixels).hidden_states is None
    assert len(model(pixels, return_dict=False)[0]) == 3


def test_without_the_pyramid_the_last_stages_are_given():
    model = tiny_backbone(has_pyramid=False)
    assert model.out_features == ["stage3", "stage4", "stage5"]
    assert model.channels == [32, 64, 128]
    assert model.pyramid is None
    with pytest.raises(ValueError, match="out_features must be a subset"):
        tiny_backbone(has_pyramid=False, out_features=["pyramid1"])


def test_a_batch_gives_what_its_images_give_one_by_one():
    model, pixels = tiny_backbone(), torch.randn(3, 3, 64, 96)
    batch = model(pixels).feature_maps
    for index, image in enumerate(pixels):
        for one, other in zip(model(image[None]).feature_maps, batch, strict=True):
            # Sums of another order: 1e-6 was measured; a wrong image gives differences of the order of 1.
            torch.testing.assert_close(one[0], other[index], rtol=1e-4, atol=1e-5)


def test_images_that_are_no_multiple_of_32_are_read():
    maps = tiny_backbone()(torch.randn(1, 3, 70, 50)).feature_maps
    assert [tuple(states.shape[-2:]) for states in maps] == [(9, 7), (5, 4), (3, 2)]


def test_gradients_are_finite_and_reach_every_parameter():
    model = tiny_backbone().train()
    sum(states.square().mean() for states in model(torch.randn(4, 3, 64, 64)).feature_maps).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_new_weights_keep_the_size_of_what_they_read():
    states = torch.randn(8, 64, 16, 16)
    layer = tiny_backbone(embedding_size=32).stages[1].layers[0].expansion.convolution
    spread = layer(torch.nn.functional.leaky_relu(states[:, : layer.in_channels], 0.1)).std()
    assert 0.8 < spread < 1.2, spread  # Kaiming's aim is 1; the border's zeros take a little


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embedding_size": 3}, "`embedding_size` must be even and at least 2, got 3"),
        ({"depths": (1, 1)}, r"`depths=\[1, 1\]` has 2 stages, and the pyramid reads the last 3; give more"),
        ({"depths": ()}, "`depths` counts"),
        ({"depths": (1, -1, 1)}, "`depths` counts"),
        ({"negative_slope": "steep"}, "negative_slope"),
    ],
)
def test_other_shapes_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        Darknet53Config(**fields)
