"""Eight-bit storage: what comes back, and how far off it may be."""

import torch

from hf_mner.layers.quantization import dequantize_state, quantize_rows, quantize_state


def test_every_entry_is_off_by_at_most_half_a_scale():
    torch.manual_seed(0)
    weight = torch.randn(40, 30) * torch.logspace(-6, 3, 40)[:, None]
    values, scales = quantize_rows(weight)
    assert values.dtype == torch.int8
    off = (values.float() * scales[:, None] - weight).abs()
    assert (off <= scales[:, None] / 2 * (1 + 1e-5)).all(), "one float32 rounding on top of half a step"
    assert (values.abs().amax(1) == 127).all(), "the largest entry of a row uses the whole range"


def test_rows_of_zeros_stay_zeros():
    values, scales = quantize_rows(torch.zeros(2, 3))
    assert torch.equal(values.float() * scales[:, None], torch.zeros(2, 3))


def test_only_matrices_are_rounded_to_eight_bits():
    state = {"matrix": torch.randn(3, 4), "bias": torch.tensor([0.5, -2.0]), "steps": torch.tensor([7])}
    stored = quantize_state(state)
    assert {name: value.dtype for name, value in stored.items()} == {
        "matrix": torch.int8,
        "matrix.row_scale": torch.float32,
        "bias": torch.float16,
        "steps": torch.int64,
    }
    restored = dequantize_state(stored)
    assert restored.keys() == state.keys()
    assert torch.equal(restored["bias"], state["bias"])
    assert restored["matrix"].dtype == torch.float32
    assert restored["steps"].item() == 7


def test_rounding_twice_changes_nothing_more():
    stored = quantize_state({"matrix": torch.randn(5, 6)})
    again = quantize_state(dequantize_state(stored))
    assert torch.equal(stored["matrix"], again["matrix"])
