"""The order of training rows: decided by seed and epoch, and the epoch reaches it."""

from __future__ import annotations

import random

import pytest
import torch
from tiny import tiny_examples, tiny_mmavk, tiny_mmavk_processor

from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.sampler import RowLengthSampler
from hf_mner.training.trainer import TrustYourTeacherTrainer

LENGTHS = random.Random(0).choices(range(1, 100), k=413)


def order(epoch: int = 0, seed: int = 42, batch_size: int = 8) -> list[int]:
    sampler = RowLengthSampler(LENGTHS, batch_size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_every_row_comes_once(epoch):
    assert sorted(order(epoch)) == list(range(len(LENGTHS)))


def test_seed_and_epoch_alone_decide():
    first = order(3)
    torch.manual_seed(5)
    random.seed(5)
    state = torch.random.get_rng_state()
    assert order(3) == first
    assert torch.equal(torch.random.get_rng_state(), state), "dropout draws from it"
    assert len({tuple(order(epoch, seed)) for epoch in range(5) for seed in (1, 2)}) == 10


def test_a_sampler_goes_back_to_an_epoch():
    sampler = RowLengthSampler(LENGTHS, 8, 42)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]


def test_rows_of_an_update_have_similar_lengths():
    rows = order()
    assert LENGTHS[rows[0]] == max(LENGTHS), "the longest come first, so that memory fails early"

    def spread(numbers: list[int]) -> float:
        updates = [numbers[start : start + 8] for start in range(0, len(numbers), 8)]
        return sum(max(LENGTHS[n] for n in u) - min(LENGTHS[n] for n in u) for u in updates) / len(updates)

    # Of 99 lengths: 2 to 3 measured (50 updates are sorted at once), some 77 in random order.
    assert spread(rows) < 10 < 50 < spread(random.Random(1).sample(rows, len(rows)))


def test_the_dataloader_tells_it_the_epoch(tmp_path):
    model, processor = tiny_mmavk(), tiny_mmavk_processor()
    rows = processor.rows(tiny_examples(), label2id=model.config.label2id)
    args = MnerTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        num_train_epochs=3,
        per_device_train_batch_size=2,
        train_sampling_strategy="group_by_length",
    )
    seen: list[torch.Tensor] = []

    class Watched(TrustYourTeacherTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            seen.append(inputs["labels"].clone())
            return super().training_step(model, inputs, num_items_in_batch)

    Watched(model, args, processing_class=processor, train_dataset=rows).train()
    sampler = RowLengthSampler([processor.row_length(row) for row in rows], 2, args.seed)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        numbers = list(sampler)
        for step in range(3):
            batch = processor.pad([rows[number] for number in numbers[2 * step : 2 * step + 2]])
            assert torch.equal(seen[3 * epoch + step], batch["labels"])
