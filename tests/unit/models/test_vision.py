"""Image models of several families as feature maps of given strides."""

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BertConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    MobileNetV2Config,
    PreTrainedModel,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
)

from hf_mner.layers.pyramid import FeaturePyramid
from hf_mner.models.base.vision import (
    feature_channels,
    feature_map_model,
    feature_maps,
    load_feature_map_model,
    select_feature_maps,
)
from hf_mner.models.darknet53.configuration_darknet53 import Darknet53Config
from hf_mner.models.mmavk.configuration_mmavk import MmavkConfig

CONFIGS = {
    "resnet": lambda: ResNetConfig(embedding_size=4, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    "convnext": lambda: ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1], image_size=64),
    "swin": lambda: SwinConfig(image_size=64, embed_dim=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2),
    "mobilenet": lambda: MobileNetV2Config(depth_multiplier=0.25),
    "darknet53": lambda: Darknet53Config(embedding_size=4, depths=(1, 1, 1, 1, 1)),
    "darknet53-body": lambda: Darknet53Config(embedding_size=4, depths=(1, 1, 1, 1, 1), has_pyramid=False),
}
NORM_EPS = {"swin": 1e-5, "convnext": 1e-6}
VIT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 32}


@pytest.mark.parametrize("kind", CONFIGS)
def test_maps_have_the_strides_and_channels_that_were_asked_for(kind):
    model = feature_map_model(select_feature_maps(CONFIGS[kind]())).eval()
    maps = feature_maps(model, torch.randn(2, 3, 64, 96))
    assert [tuple(states.shape[-2:]) for states in maps] == [(8, 12), (4, 6), (2, 3)]
    assert [states.shape[1] for states in maps] == feature_channels(model)
    assert all(states.isfinite().all() for states in maps)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_saved_model_and_its_configuration_keep_the_choice_of_maps(kind, tmp_path):
    pixels = torch.randn(1, 3, 64, 64)
    source = AutoModel.from_config(CONFIGS[kind]()).eval()
    source.save_pretrained(tmp_path / "source")
    model = load_feature_map_model(str(tmp_path / "source"))
    assert model.dtype == torch.float32
    assert model.config.name_or_path == str(tmp_path / "source")
    expected = feature_maps(model, pixels)
    config = MmavkConfig(text_config=BertConfig(), vision_config=model.config, fusion="prefix")
    config.save_pretrained(tmp_path / "system")
    rebuilt = feature_map_model(MmavkConfig.from_pretrained(tmp_path / "system").vision_config).eval()
    rebuilt.load_state_dict(model.state_dict())
    for one, other in zip(expected, feature_maps(rebuilt, pixels), strict=True):
        assert torch.equal(one, other)
    assert getattr(model, "pooler", None) is None


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_pretrained_weights_are_those_that_are_run(kind, tmp_path):
    pixels = torch.randn(1, 3, 64, 64)
    source = AutoModel.from_config(CONFIGS[kind]()).eval()
    source.save_pretrained(tmp_path)
    coarsest = feature_maps(load_feature_map_model(str(tmp_path)), pixels)[-1]
    output = source(pixels, output_hidden_states=True)
    expected = (getattr(output, "reshaped_hidden_states", None) or output.hidden_states)[-1]
    if kind in NORM_EPS:  # these backbones normalise their maps; the new layer norm is the plain one
        channels_last = expected.movedim(1, -1)
        expected = F.layer_norm(channels_last, channels_last.shape[-1:], eps=NORM_EPS[kind]).movedim(-1, 1)
    # The same operations; the two layouts of the layer norm sum in another order.
    torch.testing.assert_close(coarsest, expected, rtol=1e-4, atol=1e-4)


def test_the_last_map_of_a_stride_is_taken():
    config = select_feature_maps(MobileNetV2Config())
    assert config.feature_layers == [4, 11, 15]
    assert feature_channels(feature_map_model(config)) == [32, 96, 320]
    assert select_feature_maps(ResNetConfig()).out_features == ["stage2", "stage3", "stage4"]
    assert select_feature_maps(ResNetConfig(), [4]).out_features == ["stage1"]


class Grounder(PreTrainedModel):
    """What a system does with these functions."""

    config_class = MmavkConfig

    def __init__(self, config):
        super().__init__(config)
        self.vision_model = feature_map_model(config.vision_config)
        self.pyramid = FeaturePyramid(feature_channels(self.vision_model), 4)
        self.post_init()

    def forward(self, pixel_values):
        return self.pyramid(feature_maps(self.vision_model, pixel_values))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_system_with_an_image_model_inside_is_saved_and_loaded(kind, tmp_path):
    # `from_pretrained` builds models on the meta device, where nothing can be measured by running them.
    config = MmavkConfig(text_config=BertConfig(), vision_config=select_feature_maps(CONFIGS[kind]()), fusion="prefix")
    model, pixels = Grounder(config).eval(), torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    for one, other in zip(model(pixels), Grounder.from_pretrained(tmp_path)(pixels), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("config", "strides", "message"),
    [
        (ViTConfig(**VIT), (8, 16, 32), r"`ViTModel` gives no feature maps \(`b c h w`\); use an image encoder"),
        (CLIPVisionConfig(**VIT), (8, 16, 32), "`CLIPVisionModel` gives no feature maps"),
        (BertConfig(), (8, 16, 32), "`BertModel` reads no images; use"),
        (ResNetConfig(), (8, 64), r"no feature map of stride 64, only of \[4, 8, 16, 32\]; choose `strides`"),
        (MobileNetV2Config(output_stride=16), (8, 16, 32), "no feature map of stride 32"),
        (ResNetConfig(), (), "`strides=.*` must ascend"),
        (ResNetConfig(), (16, 8), r"`strides=\[16, 8\]` must ascend"),
        (MmavkConfig(text_config=BertConfig()), (8, 16, 32), "`MmavkConfig` is of no image encoder; use one"),
    ],
)
def test_what_gives_no_such_maps_is_refused(config, strides, message):
    with pytest.raises(ValueError, match=message):
        select_feature_maps(config, strides)


def test_hidden_states_must_have_been_chosen():
    with pytest.raises(ValueError, match=r"call `select_feature_maps\(config\)` first"):
        feature_map_model(MobileNetV2Config())


def test_a_checkpoint_without_safetensors_is_refused(tmp_path):
    config = CONFIGS["resnet"]()
    config.save_pretrained(tmp_path)
    torch.save(AutoModel.from_config(config).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_feature_map_model(str(tmp_path))


@pytest.mark.slow
def test_the_maps_of_a_trained_mobilenet():
    if "HF_MNER_DATA" not in os.environ:
        pytest.skip("set HF_MNER_DATA to the folder of the public data sets")
    folder = Path(os.environ["HF_MNER_DATA"]).parent / "weights" / "mobilenet_v2_1.0_224-hf"
    if not folder.is_dir():
        pytest.skip(f"no weights in {folder}")
    model = load_feature_map_model(str(folder)).eval()
    assert feature_channels(model) == [32, 96, 320]
    whole = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    pixels = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        maps = feature_maps(model, pixels)
        assert torch.equal(maps[-1], whole(pixels, output_hidden_states=True).hidden_states[-1])
    assert [tuple(states.shape) for states in maps] == [(1, 32, 32, 32), (1, 96, 16, 16), (1, 320, 8, 8)]
    assert all(states.std() > 0.1 for states in maps)
