"""Rows are packed into batches by their number and by their tokens."""

from __future__ import annotations

import random

import pytest
from tiny import tiny_examples, tiny_processor, tiny_scanner

from hf_mner import recognize_entities
from hf_mner.models.base.recognition import plan_batches


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_batch_that_keeps_to_the_limits(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(0, 100) for _ in range(200)]
    batches = list(plan_batches(lengths, 16, 300))
    assert sorted(place for batch in batches for place in batch) == list(range(200))
    for batch in batches:
        assert len(batch) <= 16
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 300
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_a_row_that_is_too_long_is_alone_and_equal_rows_keep_their_order():
    assert list(plan_batches([5, 50, 5, 5], 8, 10)) == [[1], [0, 2], [3]]
    assert list(plan_batches([5, 50, 5, 5], 3)) == [[1, 0, 2], [3]]
    assert list(plan_batches([], 3, 10)) == []


def test_the_limit_changes_no_entity():
    model, processor = tiny_scanner(grounding_weight=1.0), tiny_processor(grounding_threshold=0.5)
    expected = recognize_entities(model, processor, tiny_examples())
    found = recognize_entities(model, processor, tiny_examples(), batch_tokens=100)
    for one, other in zip(found, expected, strict=True):
        assert [(e["start"], e["end"], e["type"]) for e in one["entities"]] == [
            (e["start"], e["end"], e["type"]) for e in other["entities"]
        ]
