import pytest
import torch
from torch.nn import functional as F

from hf_mner.layers.pyramid import FeaturePyramid

SIZES = [(3, 8, 12), (4, 4, 6), (5, 2, 3)]


def random_maps(sizes=SIZES, batch=2):
    return [torch.randn(batch, *size) for size in sizes]


def test_each_map_is_its_own_and_the_coarser_ones():
    torch.manual_seed(0)
    pyramid, maps = FeaturePyramid([3, 4, 5], 6), random_maps()
    fine, middle, coarse = (lateral(states) for lateral, states in zip(pyramid.laterals, maps, strict=True))
    middle = middle + F.interpolate(coarse, scale_factor=2, mode="nearest")
    fine = fine + F.interpolate(middle, scale_factor=2, mode="nearest")
    for given, output, state in zip(pyramid(maps), pyramid.outputs, [fine, middle, coarse], strict=True):
        torch.testing.assert_close(given, output(state))


def test_information_flows_from_coarse_to_fine_alone():
    torch.manual_seed(0)
    pyramid, maps = FeaturePyramid([3, 4, 5], 6), random_maps()
    before = pyramid(maps)
    changed = pyramid([maps[0], maps[1] + 1, maps[2]])
    assert [torch.equal(one, other) for one, other in zip(before, changed, strict=True)] == [False, False, True]


def test_odd_sizes_keep_their_sizes():
    maps = random_maps([(3, 9, 7), (4, 5, 4), (5, 3, 2)])
    assert [tuple(states.shape[1:]) for states in FeaturePyramid([3, 4, 5], 6)(maps)] == [
        (6, 9, 7),
        (6, 5, 4),
        (6, 3, 2),
    ]


def test_the_number_of_maps_is_checked():
    with pytest.raises(ValueError, match="2 feature maps were given to a pyramid of 3; `channels` must hold one"):
        FeaturePyramid([3, 4, 5], 6)(random_maps()[:2])
    with pytest.raises(ValueError, match="`channels` is empty; give"):
        FeaturePyramid([], 6)
