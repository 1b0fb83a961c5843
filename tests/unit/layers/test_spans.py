"""Spans of several queries: targets from tags, and the choice among overlapping answers."""

import torch

from hf_mner.layers.spans import decode_spans, span_targets

# Two types: 1 and 2 are first and further words of type 0, 3 and 4 those of type 1.
TAGS = torch.tensor([[1, 2, 0, 3, 1, 2, 2], [0, 0, 0, -100, -100, -100, -100], [2, 2, 0, 4, 3, 4, -100]])


def test_targets_of_a_sentence():
    targets = span_targets(TAGS, 2)
    assert targets.start[0, :, 0].nonzero().flatten().tolist() == [0, 4]
    assert targets.end[0, :, 0].nonzero().flatten().tolist() == [1, 6]
    assert targets.start[0, :, 1].nonzero().flatten().tolist() == [3]
    assert targets.end[0, :, 1].nonzero().flatten().tolist() == [3]
    assert targets.match[0, :, :, 0].nonzero().tolist() == [[0, 1], [4, 6]], "not the pair 0, 6"
    assert targets.match[0, :, :, 1].nonzero().tolist() == [[3, 3]]
    assert targets.exists[0].tolist() == [True, True]


def test_targets_of_nothing_and_of_the_end_of_a_cut_entity():
    targets = span_targets(TAGS, 2)
    assert not any(part[1].any() for part in targets)
    assert targets.end[2, :, 0].nonzero().flatten().tolist() == [1], "its start is in the window before"
    assert not targets.start[2, :, 0].any()
    assert not targets.match[2, :, :, 0].any()
    assert targets.match[2, :, :, 1].nonzero().tolist() == [[4, 5]]
    assert targets.exists[2].tolist() == [True, True]


def test_adjacent_entities_of_one_type_stay_two():
    targets = span_targets(torch.tensor([[1, 1, 2]]), 1)
    assert targets.match[0, :, :, 0].nonzero().tolist() == [[0, 0], [1, 2]]


def decode(n, q, spans, mask=None):
    """Decode from probabilities that are 0 but for the given `(first, last, type): (start, end, match)`."""
    start, end, match = torch.zeros(1, n, q), torch.zeros(1, n, q), torch.zeros(1, n, n, q)
    for (first, last, kind), (s, e, m) in spans.items():
        start[0, first, kind] = max(s, start[0, first, kind])
        end[0, last, kind] = max(e, end[0, last, kind])
        match[0, first, last, kind] = m
    tags, scores = decode_spans(start, end, match, torch.ones(1, n, dtype=torch.bool) if mask is None else mask)
    return tags[0].tolist(), [round(score, 3) for score in scores[0].tolist()]


def test_targets_are_decoded_to_their_tags():
    labels = TAGS[:1]
    targets = span_targets(labels, 2)
    start, end, match = (part.float() for part in (targets.start, targets.end, targets.match))
    tags, scores = decode_spans(start, end, match, labels >= 0)
    assert torch.equal(tags, labels)
    assert scores[0].tolist() == [1, 1, 0, 1, 1, 1, 1]


def test_the_better_of_two_types_wins():
    spans = {(0, 2, 0): (0.9, 0.9, 0.6), (1, 1, 1): (0.8, 0.9, 0.9), (3, 3, 1): (0.6, 0.6, 0.6)}
    tags, scores = decode(4, 2, spans)
    assert tags == [0, 3, 0, 3], "0.648 beats 0.486"
    assert scores == [0, 0.648, 0, 0.216]


def test_of_equal_answers_the_longer_one_stays():
    spans = {(0, 0, 0): (1, 1, 1), (0, 2, 0): (1, 1, 1)}
    assert decode(3, 1, spans)[0] == [1, 2, 2]


def test_each_of_the_three_must_be_likely():
    for weak in ((0.5, 0.9, 0.9), (0.9, 0.5, 0.9), (0.9, 0.9, 0.5)):
        assert decode(2, 1, {(0, 1, 0): weak})[0] == [0, 0]


def test_an_end_before_its_start_is_no_span():
    assert decode(3, 1, {(2, 0, 0): (1, 1, 1)})[0] == [0, 0, 0]


def test_padding_is_no_word():
    mask = torch.tensor([[True, True, False]])
    assert decode(3, 1, {(1, 2, 0): (1, 1, 1), (0, 0, 0): (1, 1, 1)}, mask)[0] == [1, 0, -1]
