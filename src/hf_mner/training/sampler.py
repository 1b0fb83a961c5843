"""The order of training rows: random, rows of similar length together, the same in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices


class RowLengthSampler(LengthGroupedSampler):
    """Groups rows by length, in an order that the seed and the epoch alone decide.

    So several processes agree on it, whatever random numbers each has drawn, and a run that was stopped goes on with
    it. Trainer's own draws from the state that dropout draws from, too.

    Args:
        lengths: of all rows.
        batch_size: rows of one update, in all processes.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        super().__init__(batch_size, lengths=list(lengths))
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the dataloader calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the rows' numbers."""
        generator = torch.Generator().manual_seed(1_000_003 * self.epoch + self.seed)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))
