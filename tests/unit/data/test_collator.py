from __future__ import annotations

import torch

from hf_mner.data.collator import pad_rows

ROWS = [
    {"ids": [5, 6, 7], "weights": [0.5], "label": 2, "boxes": [[1.0, 2.0], [3.0, 4.0]], "origin": (0, 1)},
    {"ids": [8], "weights": [], "label": -100, "boxes": [], "origin": (1, 0)},
]
PADDING = {"ids": 9, "weights": -100.0, "label": -100, "boxes": 0.0, "absent": 0}
FLAT = {name: value for name, value in PADDING.items() if name != "boxes"}  # no boxes: their width is unknown


def test_fields_are_padded_to_the_longest():
    batch = pad_rows(ROWS, PADDING)
    assert batch["ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["weights"].tolist() == [[0.5], [-100.0]]
    assert batch["label"].tolist() == [2, -100]
    assert batch["boxes"].tolist() == [[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]


def test_whole_numbers_are_long_and_fractions_float32():
    kinds = {name: value.dtype for name, value in pad_rows(ROWS, PADDING).items()}
    assert kinds == {"ids": torch.long, "weights": torch.float32, "label": torch.long, "boxes": torch.float32}


def test_fields_without_a_padding_value_are_left_out():
    assert set(pad_rows(ROWS, PADDING)) == {"ids", "weights", "label", "boxes"}


def test_row_alone_is_a_prefix_of_the_row_in_a_batch():
    together = pad_rows(ROWS, PADDING)
    for number, row in enumerate(ROWS):
        for name, value in pad_rows([row], PADDING if row["boxes"] else FLAT).items():
            padded = together[name][number]
            assert torch.equal(padded[: value.shape[1]] if value.ndim > 1 else padded, value[0]), name


def test_lists_that_are_all_empty_keep_their_type():
    batch = pad_rows([{"ids": [], "weights": []}, {"ids": [], "weights": []}], PADDING)
    assert batch["ids"].shape == batch["weights"].shape == (2, 0)
    assert (batch["ids"].dtype, batch["weights"].dtype) == (torch.long, torch.float32)


def test_rows_are_not_changed():
    rows = [{"ids": [1, 2]}, {"ids": [3]}]
    pad_rows(rows, PADDING)
    assert rows == [{"ids": [1, 2]}, {"ids": [3]}]


def test_whole_numbers_of_a_float_field_become_float32():
    assert pad_rows([{"weights": [1, 0]}, {"weights": [1]}], PADDING)["weights"].dtype == torch.float32
