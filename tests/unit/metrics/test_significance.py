"""The tests of significance: exact where all exchanges can be listed, uniform where there is no difference."""

from itertools import product

import numpy
import pytest

from hf_mner.metrics import (
    count_grounded_entities,
    count_spans,
    paired_bootstrap_interval,
    randomization_test,
    score_grounded_entities,
    score_spans,
)


def noisy_system(generator, gold, skill):
    """Counts of a system that finds each gold entity with some probability, and 0 to 2 that are none."""
    correct = generator.binomial(gold, skill)
    return numpy.stack([correct, correct + generator.integers(0, 3, gold.shape), gold], axis=-1)


def systems(seed, num_texts, skills, num_seeds=1):
    generator = numpy.random.default_rng(seed)
    gold = generator.integers(0, 4, num_texts)
    return [numpy.stack([noisy_system(generator, gold, skill) for _ in range(num_seeds)]) for skill in skills]


def f1(counts):
    correct, predicted, gold = numpy.sum(counts, axis=0)
    return 2 * correct / (predicted + gold)


def test_a_system_does_not_differ_from_itself():
    (counts,) = systems(0, 50, [0.7])
    assert randomization_test(counts, counts, rounds=200) == (f1(counts[0]), f1(counts[0]), 0, 1)
    assert paired_bootstrap_interval(counts, counts, rounds=200) == (0, 0)


def test_a_large_difference_is_found_and_has_a_sign():
    good, bad = systems(0, 300, [0.9, 0.6])
    found = randomization_test(good, bad, rounds=1000)
    assert found.p_value == 1 / 1001
    assert found.difference == pytest.approx(f1(good[0]) - f1(bad[0]))
    lower, upper = paired_bootstrap_interval(good, bad, rounds=1000)
    assert 0 < lower < found.difference < upper
    back = paired_bootstrap_interval(bad, good, rounds=1000)
    assert back == pytest.approx((-upper, -lower))
    assert randomization_test(bad, good, rounds=1000).p_value == found.p_value


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_p_value_is_that_of_all_exchanges(num_seeds):
    a, b = systems(3, 8, [0.8, 0.5], num_seeds)

    def difference(coins):
        chosen = numpy.array(coins)[None, :, None]
        first, second = numpy.where(chosen, b, a), numpy.where(chosen, a, b)
        return abs(numpy.mean([f1(run) for run in first]) - numpy.mean([f1(run) for run in second]))

    observed = difference([0] * 8)
    exact = numpy.mean([difference(coins) >= observed - 1e-12 for coins in product((0, 1), repeat=8)])
    assert 0.01 < exact < 0.9, "the case tells something"
    # 10000 draws have a standard error of at most 0.005; 0.02 still catches a one-sided test or a missing tie
    assert randomization_test(a, b).p_value == pytest.approx(exact, abs=0.02)


def test_p_values_are_uniform_where_nothing_differs():
    p_values = [
        randomization_test(*systems(seed, 80, [0.7, 0.7]), rounds=199, seed=seed).p_value for seed in range(200)
    ]
    # 200 uniform values: standard error of the mean 0.02, of the share below 0.1 0.021, below 0.5 0.035; 4 of each
    assert numpy.mean(p_values) == pytest.approx(0.5, abs=0.08)
    assert numpy.mean(numpy.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.085)
    assert numpy.mean(numpy.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.14)


def test_copies_of_a_seed_are_no_new_texts():
    a, b = systems(5, 60, [0.75, 0.7])
    once = randomization_test(a, b, rounds=2000)
    tripled = randomization_test(numpy.repeat(a, 3, 0), numpy.repeat(b, 3, 0), rounds=2000)
    assert tripled == pytest.approx(once)
    intervals = [paired_bootstrap_interval(numpy.repeat(a, k, 0), numpy.repeat(b, k, 0), 2000) for k in (1, 3)]
    assert intervals[0] == pytest.approx(intervals[1])


def test_the_interval_has_the_width_of_the_bootstrap_written_out():
    a, b = systems(6, 40, [0.75, 0.65])
    generator = numpy.random.default_rng(1)
    differences = []
    for _ in range(4000):
        texts = generator.integers(0, 40, 40)
        differences.append(f1(a[0][texts]) - f1(b[0][texts]))
    expected = numpy.quantile(differences, [0.05, 0.95])
    assert paired_bootstrap_interval(a, b, level=0.9) == pytest.approx(expected, abs=0.008)


def test_chunks_do_not_change_the_statistic(monkeypatch):
    a, b = systems(7, 30, [0.75, 0.7])
    whole = randomization_test(a, b, rounds=100), paired_bootstrap_interval(a, b, rounds=100)
    monkeypatch.setattr("hf_mner.metrics.significance.CHUNK", 30 * 7)
    parts = randomization_test(a, b, rounds=100), paired_bootstrap_interval(a, b, rounds=100)
    assert parts[0].difference == whole[0].difference
    assert parts[0].p_value == pytest.approx(whole[0].p_value, abs=0.3)
    assert parts[1] == pytest.approx(whole[1])


def test_the_seed_decides():
    a, b = systems(8, 30, [0.75, 0.7])
    assert randomization_test(a, b, 500, seed=1) == randomization_test(a, b, 500, seed=1)
    assert paired_bootstrap_interval(a, b, 500, seed=1) != paired_bootstrap_interval(a, b, 500, seed=2)


def test_lists_are_counts_too_and_texts_without_entities_are_fine():
    none = [[(0, 0, 0), (0, 0, 0)]]
    assert randomization_test(none, none, rounds=10) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[(1, 1, 1)] * 4], [[(1, 1, 1)] * 3], "`a` has 1 seeds of 4 texts but `b` has 1 seeds of 3 texts"),
        ([[(1, 1, 1)]] * 2, [[(1, 1, 1)]], "`a` has 2 seeds of 1 texts but `b` has 1 seeds"),
        ([(1, 1, 1)], [(1, 1, 1)], r"`a` has the shape \(1, 3\).*one run are given as `\[counts\]`"),
        ([[(1, 1, 1)], [(1, 1, 1)] * 2], [[(1, 1, 1)]], r"seeds of `a` have \[1, 2\] texts"),
        ([[(1, 1, 1)]], [[(2, 2, 2)]], "Text 0 has 2 gold entities in seed 0 of `b` but 1"),
        ([[(2, 1, 2)]], [[(1, 1, 2)]], r"Text 0 in seed 0 of `a` has the counts \[2, 1, 2\]"),
        ([[(0.5, 1, 2)]], [[(1, 1, 2)]], "`a` holds float64; expected whole numbers"),
        ([], [], r"`a` has the shape \(0,\)"),
    ],
)
def test_counts_that_do_not_fit_are_named(a, b, message):
    with pytest.raises(ValueError, match=message):
        randomization_test(a, b)
    with pytest.raises(ValueError, match=message):
        paired_bootstrap_interval(a, b)


def test_settings_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        randomization_test([[(1, 1, 1)]], [[(1, 1, 1)]], rounds=0)
    with pytest.raises(ValueError, match="`level` must be in"):
        paired_bootstrap_interval([[(1, 1, 1)]], [[(1, 1, 1)]], level=95)


def test_spans_are_counted_as_they_are_scored():
    predictions = [[(0, 1, "PER"), (0, 1, "PER"), (2, 3, "LOC")], [], [(0, 2, "ORG")]]
    references = [[(0, 1, "PER")], [(1, 2, "LOC")], [(0, 2, "MISC"), (3, 4, "PER")]]
    counts = count_spans(predictions, references)
    assert counts == [(1, 2, 1), (0, 0, 1), (0, 1, 2)], "a span listed twice counts once"
    assert f1(counts) == score_spans(predictions, references)["f1"]
    with pytest.raises(ValueError, match="2 sentences but `references` has 1"):
        count_spans([[], []], [[]])
    with pytest.raises(ValueError, match="Sentence 1: .* is not a span"):
        count_spans([[], [(2, 1, "PER")]], [[], []])


def test_grounded_entities_are_counted_as_they_are_scored():
    def entity(start, entity_type, *boxes):
        return {"start": start, "end": start + 1, "type": entity_type, "boxes": list(boxes)}

    predictions = [
        [entity(0, "PER", [0, 0, 10, 10]), entity(2, "LOC", [0, 0, 5, 5])],
        [entity(1, "ORG"), entity(1, "PER")],
        [],
    ]
    references = [[entity(0, "PER", [0, 0, 10, 9]), entity(2, "LOC")], [entity(1, "PER")], [entity(0, "PER")]]
    counts = count_grounded_entities(predictions, references)
    assert counts == [(1, 2, 2), (1, 1, 1), (0, 0, 1)], "the last prediction of a span counts"
    assert f1(counts) == score_grounded_entities(predictions, references)["f1"]
    exact = [entity(0, "PER", [0, 0, 10, 5])], [entity(0, "PER", [0, 0, 10, 10])]
    assert count_grounded_entities(*([side] for side in exact)) == [(0, 1, 1)]
    assert count_grounded_entities(*([side] for side in exact), inclusive=True) == [(1, 1, 1)]
    with pytest.raises(ValueError, match="Tweet 1, prediction .* lacks"):
        count_grounded_entities([[], [{"start": 0, "end": 1, "type": "PER"}]], [[], []])
