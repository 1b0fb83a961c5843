"""Darknet's weight files, against a reference that runs the layers of `yolov3.cfg` one by one."""

import logging
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from hf_mner import Darknet53Backbone, Darknet53Config
from hf_mner.cli import main
from hf_mner.models.base.vision import load_feature_map_model
from hf_mner.models.darknet53 import convert_darknet53
from hf_mner.models.darknet53.convert_darknet53 import convert_darknet_weights, darknet_layout

TINY = {"embedding_size": 4, "depths": (1, 2, 2, 1, 1)}
DETECTION = 3 * (5 + 2)


def body_cfg(width, depths):
    """The layers of `darknet53.cfg`: what each does, in the words of Darknet."""
    layers, stages = [("conv", width, 3, 1)], []
    for depth in depths:
        width *= 2
        layers.append(("conv", width, 3, 2))
        for _ in range(depth):
            layers += [("conv", width // 2, 1, 1), ("conv", width, 3, 1), ("shortcut", -3)]
        stages.append(len(layers) - 1)
    return layers, stages


def yolo_cfg(width, depths):
    """The layers of `yolov3.cfg`."""
    layers, stages = body_cfg(width, depths)
    filters = width * 2 ** len(depths)
    for level, stage in enumerate(reversed(stages[-3:])):
        if level:
            layers += [("route", -4), ("conv", filters // 2, 1, 1), ("upsample",), ("route", -1, stage)]
        layers += [("conv", filters // 2, 1, 1), ("conv", filters, 3, 1)] * 3
        layers += [("detection", DETECTION), ("yolo",)]
        filters //= 2
    return layers


def run_cfg(layers, pixels, generator):
    """Run layers on an image with weights drawn as they are met.

    Returns:
        The output of every layer, and the weights in the order of Darknet's files.
    """
    outputs, written, state = [], [], pixels
    for kind, *values in layers:
        if kind == "conv":
            filters, size, stride = values
            beta, mean = torch.randn(2, filters, generator=generator) * 0.1
            gamma, variance = torch.rand(2, filters, generator=generator) + 0.5
            weight = torch.randn(filters, state.shape[1], size, size, generator=generator)
            weight /= weight[0].numel() ** 0.5
            written += [beta, gamma, mean, variance, weight]
            state = F.conv2d(state, weight, stride=stride, padding=size // 2)
            state = (state - mean[:, None, None]) / torch.sqrt(variance + 1e-5)[:, None, None]
            state = state * gamma[:, None, None] + beta[:, None, None]
            state = torch.where(state > 0, state, 0.1 * state)
        elif kind == "detection":
            written += [torch.full((values[0],), 7.0), torch.full((values[0], state.shape[1]), 7.0)]
        elif kind == "shortcut":
            state = state + outputs[values[0]]
        elif kind == "route":
            state = torch.cat([outputs[value] for value in values], dim=1)
        elif kind == "upsample":
            state = state.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        outputs.append(state)
    return outputs, torch.cat([tensor.flatten() for tensor in written]).numpy()


def write_weights(path, values, version=(0, 2, 0)):
    seen = np.array([32013312], "<i8" if version[0] * 10 + version[1] >= 2 else "<i4")
    path.write_bytes(np.array(version, "<i4").tobytes() + seen.tobytes() + values.astype("<f4").tobytes())
    return path


@pytest.fixture
def detector(tmp_path):
    """A file of a whole tiny detector, an image, and the maps that the detections read, finest first."""
    layers, pixels = yolo_cfg(4, TINY["depths"]), torch.rand(2, 3, 64, 96)
    outputs, values = run_cfg(layers, pixels, torch.Generator().manual_seed(0))
    maps = [outputs[index - 1] for index, layer in enumerate(layers) if layer[0] == "detection"]
    return write_weights(tmp_path / "yolo.weights", values), pixels, maps[::-1]


@pytest.fixture
def body(tmp_path):
    """A file of the tiny body alone, an image, and the maps of the last three stages."""
    layers, stages = body_cfg(4, TINY["depths"])
    pixels = torch.rand(2, 3, 64, 96)
    outputs, values = run_cfg(layers, pixels, torch.Generator().manual_seed(0))
    return write_weights(tmp_path / "body.weights", values), pixels, [outputs[index] for index in stages[-3:]]


def assert_maps(model, pixels, expected):
    with torch.no_grad():
        given = model(pixels).feature_maps
    for one, other in zip(given, expected, strict=True):
        # Normalisation rounds in another order: 2e-6 was measured; an epsilon of 1e-3 for 1e-5 gives 4e-3, bilinear
        # upsampling 2e-2, exchanged parts of the file above 0.3.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


def test_a_detector_gives_the_maps_that_its_detections_read(detector):
    path, pixels, maps = detector
    model = convert_darknet_weights(path, Darknet53Config(**TINY))
    assert not model.training
    assert [states.shape[1] for states in maps] == model.channels
    assert_maps(model, pixels, maps)


def test_the_body_alone_says_that_the_pyramid_is_not_trained(body, caplog):
    path, pixels, maps = body
    config = Darknet53Config(**TINY, out_features=["stage3", "stage4", "stage5"])
    with caplog.at_level(logging.WARNING):
        model = convert_darknet_weights(path, config)
    assert "body.weights holds the body alone; the feature pyramid starts at random: train it" in caplog.text
    assert_maps(model, pixels, maps)
    states = model(pixels, output_hidden_states=True).hidden_states
    assert all(state.isfinite().all() and state.std() > 0 for state in states)


def test_a_configuration_without_the_pyramid_takes_the_body_of_both(body, detector, caplog):
    config = Darknet53Config(**TINY, has_pyramid=False)
    path, pixels, maps = body
    assert_maps(convert_darknet_weights(path, config), pixels, maps)
    one, other = (convert_darknet_weights(file, config).state_dict() for file in (path, detector[0]))
    assert all(torch.equal(one[name], other[name]) for name in one)  # the same seed wrote both
    assert not caplog.text


def test_files_before_version_02_count_the_images_with_four_bytes(body, tmp_path):
    path, pixels, maps = body
    old = write_weights(tmp_path / "old.weights", np.fromfile(path, "<f4", offset=20), version=(0, 1, 0))
    assert old.stat().st_size == path.stat().st_size - 4
    assert_maps(convert_darknet_weights(old, Darknet53Config(**TINY, has_pyramid=False)), pixels, maps)


def test_the_published_files_have_the_size_of_the_standard_network(monkeypatch):
    built = []

    def build(config):
        built.append(Darknet53Backbone(config))
        return built[-1]

    monkeypatch.setattr(convert_darknet53, "Darknet53Backbone", build)
    layout = darknet_layout(Darknet53Config())
    assert layout.detector(255) == 62_001_757
    assert 20 + 4 * layout.detector(255) == 248_007_048  # bytes of yolov3.weights
    assert 20 + 4 * layout.body == 162_482_580  # bytes of darknet53.conv.74
    assert all(parameter.is_meta for parameter in built[0].parameters()), "counting needs no memory"


def test_other_sizes_are_refused_with_both_numbers(detector, tmp_path):
    values = np.fromfile(detector[0], "<f4", offset=20)
    config = Darknet53Config(**TINY)
    layout = darknet_layout(config)
    for size in (values.size - 1, layout.body + layout.pyramid, layout.body - 5):
        path = write_weights(tmp_path / "cut.weights", values[:size])
        with pytest.raises(ValueError, match=rf"cut.weights holds {size} floats; expected {layout.body} \(the body"):
            convert_darknet_weights(path, config)
    with pytest.raises(ValueError, match=rf"holds {values.size} floats; expected 40620640 .* 62001757 \(5385 more"):
        convert_darknet_weights(detector[0])
    (tmp_path / "odd.weights").write_bytes(b"12345678901234567890123")
    with pytest.raises(ValueError, match="odd.weights has 23 bytes, which is no header and numbers of four bytes"):
        convert_darknet_weights(tmp_path / "odd.weights")
    (tmp_path / "short.weights").write_bytes(b"12345")
    with pytest.raises(ValueError, match="short.weights has 5 bytes"):
        convert_darknet_weights(tmp_path / "short.weights")
    with pytest.raises(FileNotFoundError, match="There is no file .*yolov3.weights; give the path"):
        convert_darknet_weights(tmp_path / "yolov3.weights")


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_numbers_that_are_no_weights_are_refused(body, tmp_path, value):
    values = np.fromfile(body[0], "<f4", offset=20)
    values[12] = value  # the first variance, after four of each of beta, gamma and mean
    path = write_weights(tmp_path / "damaged.weights", values)
    with pytest.raises(ValueError, match="damaged.weights has numbers at 12 that cannot be weights"):
        convert_darknet_weights(path, Darknet53Config(**TINY, has_pyramid=False))


def test_the_command_writes_a_backbone(detector, tmp_path, monkeypatch, capsys):
    path, pixels, maps = detector
    tiny = partial(convert_darknet_weights, config=Darknet53Config(**TINY))
    monkeypatch.setattr(convert_darknet53, "convert_darknet_weights", tiny)
    result = CliRunner().invoke(main.app, ["convert", "darknet53", str(path), str(tmp_path / "backbone")])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "backbone")
    model = load_feature_map_model(str(tmp_path / "backbone"))
    assert_maps(model, pixels, maps)
    monkeypatch.setattr(sys, "argv", ["hf-mner", "convert", "darknet53", str(path), str(tmp_path / "backbone")])
    with pytest.raises(SystemExit):
        main.run()
    assert "backbone is not empty; choose a new folder" in capsys.readouterr().err
