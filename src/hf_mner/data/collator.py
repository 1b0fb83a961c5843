"""Padding rows of unequal length to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def pad_rows(rows: Sequence[Mapping[str, Any]], pad_values: Mapping[str, int | float]) -> dict[str, Tensor]:
    """Stack the fields of several rows, padding lists to the longest of the batch.

    Args:
        rows: one mapping for each network input; a field is a number, a list of numbers, or a list of equally long
            lists of numbers. All rows have the same fields.
        pad_values: the fields to stack and the value that fills them up; other fields are left out.

    Returns:
        One tensor for each field: `b`, `b t` or `b t c`; long for whole numbers, float32 otherwise.
    """
    names = [name for name in pad_values if name in rows[0]]
    return {name: pad_field([row[name] for row in rows], pad_values[name]) for name in names}


def pad_field(values: Sequence[Any], pad_value: int | float) -> Tensor:
    """Stack one field of all rows, see `pad_rows`."""
    if not isinstance(values[0], (list, tuple)):
        return torch.tensor(values)
    longest = max(map(len, values))
    filler: Any = pad_value
    widest = next((value for value in values if value), [0])
    if isinstance(widest[0], (list, tuple)):
        filler = [pad_value] * len(widest[0])
    padded = torch.tensor([[*value, *[filler] * (longest - len(value))] for value in values])
    is_float = isinstance(pad_value, float)
    return padded.float() if is_float else padded.long()
