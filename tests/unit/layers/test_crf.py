"""The CRF against the enumeration of all paths, against pytorch-crf, and against itself under changes of the input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from hf_mner.layers import forward_backward
from hf_mner.layers.crf import LinearChainCrf, bio_constraints

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]

# float32 keeps 7 digits. Log-likelihoods here are below 100 and sum some ten terms, probabilities are below 1.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# Expected counts sum the probabilities of a batch, and pytorch-crf's own gradients are off by as much as 1e-5.
CLOSE_SUMS = {"rtol": 1e-4, "atol": 1e-4}


def make(num_tags: int = 3, lengths: tuple[int, ...] = (4, 0, 1, 5, 2), scale: float = 2.0, seed: int = 0):
    """Return a CRF, emissions `b n c`, tags and mask `b n`; what stands under padding is not a number, or no tag."""
    torch.manual_seed(seed)
    layer = LinearChainCrf(num_tags)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    emissions = torch.randn(*mask.shape, num_tags) * scale
    tags = torch.randint(num_tags, mask.shape)
    return layer, emissions.masked_fill(~mask[..., None], math.nan), tags.masked_fill(~mask, -100), mask


def path_score(layer: LinearChainCrf, emission: Tensor, path) -> Tensor:
    """Add up the score of one path, term by term as the definition does."""
    score = layer.start_transitions[path[0]] + layer.end_transitions[path[-1]]
    score = score + sum(emission[step, tag] for step, tag in enumerate(path))
    return score + sum(layer.transitions[before, after] for before, after in itertools.pairwise(path))


def enumerate_paths(layer: LinearChainCrf, emission: Tensor) -> tuple[list[tuple[int, ...]], Tensor]:
    """Return all paths of one unpadded sequence, and their scores."""
    paths = list(itertools.product(range(layer.num_tags), repeat=len(emission)))
    return paths, torch.stack([path_score(layer, emission, path) for path in paths])


def enumerated_log_likelihood(layer: LinearChainCrf, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
    """Return `b`, with a graph for autograd."""
    values = []
    for emission, path, real in zip(emissions, tags, mask, strict=True):
        if not real.any():
            values.append(torch.zeros(()))
            continue
        scores = enumerate_paths(layer, emission[real])[1]
        values.append(path_score(layer, emission[real], path[real].tolist()) - scores.logsumexp(0))
    return torch.stack(values)


def gradients(layer: LinearChainCrf, emissions: Tensor, log_likelihood) -> list[Tensor]:
    """Return the gradients of the emissions and of all parameters for weights that differ between sequences."""
    emissions = emissions.clone().requires_grad_()
    weights = torch.linspace(-1.0, 2.0, len(emissions))
    loss = (weights * log_likelihood(emissions)).sum()
    return list(torch.autograd.grad(loss, [emissions, *layer.parameters()], materialize_grads=True, allow_unused=True))


def is_valid_bio(labels: list[str]) -> bool:
    """Tell whether every `I-X` follows `B-X` or `I-X`."""
    return all(
        not label.startswith("I-") or (before[2:] == label[2:]) for before, label in itertools.pairwise(["O", *labels])
    )


@pytest.fixture(params=["scaled", "logarithm"])
def either_pass(request, monkeypatch):
    """Run a test on plain weights and in the logarithm."""
    if request.param == "logarithm":
        monkeypatch.setattr(forward_backward, "normalising_interval", lambda *_: 0)
    return request.param


SIZES = [
    {"num_tags": 1, "lengths": (3, 1, 0)},
    {"num_tags": 2, "lengths": (1, 1)},
    {"num_tags": 3},
    {"num_tags": 4, "lengths": (4, 4, 3)},
    {"num_tags": 3, "lengths": (0, 6), "scale": 5.0},
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("either_pass")
def test_log_likelihood_is_that_of_enumeration(size):
    layer, emissions, tags, mask = make(**size)
    expected = enumerated_log_likelihood(layer, emissions, tags, mask)
    torch.testing.assert_close(layer(emissions, tags, mask), expected, **CLOSE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("either_pass")
def test_gradients_are_those_of_enumeration(size):
    layer, emissions, tags, mask = make(**size)
    expected = gradients(layer, emissions, lambda scores: enumerated_log_likelihood(layer, scores, tags, mask))
    found = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("either_pass")
def test_marginals_are_those_of_enumeration(size):
    layer, emissions, _, mask = make(**size)
    marginals = layer.marginals(emissions, mask)
    assert torch.equal(marginals[~mask], torch.zeros_like(marginals[~mask]))
    for found, emission, real in zip(marginals, emissions, mask, strict=True):
        if real.any():
            paths, scores = enumerate_paths(layer, emission[real])
            chosen = torch.nn.functional.one_hot(torch.tensor(paths), layer.num_tags).float()  # paths n c
            torch.testing.assert_close(found[real], torch.tensordot(scores.softmax(0), chosen, 1), **CLOSE)


@pytest.mark.parametrize("size", SIZES)
def test_best_path_is_that_of_enumeration(size):
    layer, emissions, _, mask = make(**size)
    best = layer.decode(emissions, mask)
    assert (best.tags[~mask] == -1).all()
    for tags, found, emission, real in zip(*best, emissions, mask, strict=True):
        if not real.any():
            assert found == 0
            continue
        paths, scores = enumerate_paths(layer, emission[real])
        assert tuple(tags[real].tolist()) == paths[int(scores.argmax())]
        torch.testing.assert_close(found, scores.max(), **CLOSE)


@pytest.mark.parametrize("scale", [1.0, 1e6])  # 1e6: a finite penalty would be outbid
def test_constrained_path_is_the_best_valid_one(scale):
    layer, emissions, _, mask = make(len(LABELS), lengths=(4, 1, 3, 2), scale=scale)
    best = layer.decode(emissions, mask, bio_constraints(LABELS))
    for tags, found, emission, real in zip(*best, emissions, mask, strict=True):
        paths, scores = enumerate_paths(layer, emission[real])
        valid = torch.tensor([is_valid_bio([LABELS[tag] for tag in path]) for path in paths])
        assert tuple(tags[real].tolist()) == paths[int(scores.masked_fill(~valid, -math.inf).argmax())]
        torch.testing.assert_close(found, scores[valid].max(), **CLOSE)


def test_constraints_never_give_an_invalid_sequence():
    layer, emissions, _, mask = make(len(LABELS), lengths=tuple(range(1, 41)), scale=3.0)
    free, bound = layer.decode(emissions, mask), layer.decode(emissions, mask, bio_constraints(LABELS))
    valid = [
        [is_valid_bio([LABELS[tag] for tag in row if tag >= 0]) for row in best.tags.tolist()]
        for best in (free, bound)
    ]
    assert not all(valid[0])
    assert all(valid[1])
    assert (bound.scores <= free.scores + 1e-3).all()  # float32 at scores of some hundreds


def test_path_score_and_normaliser_make_the_likelihood_of_the_best_path():
    layer, emissions, _, mask = make(9, lengths=(30, 17))
    best = layer.decode(emissions, mask)
    other = torch.where(mask, (best.tags + 1) % 9, 0)
    ratio = layer(emissions, best.tags, mask) - layer(emissions, other, mask)
    scores = [
        path_score(layer, row[real], tags[real].tolist())
        for row, tags, real in zip(emissions, other, mask, strict=True)
    ]
    torch.testing.assert_close(ratio, best.scores - torch.stack(scores), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("num_tags", "lengths"), [(9, (128, 60, 1, 127)), (3, (7, 7)), (23, (33, 2))])
def test_equals_pytorch_crf(num_tags, lengths):
    torchcrf = pytest.importorskip("torchcrf")
    layer, emissions, tags, mask = make(num_tags, lengths)
    emissions, tags = emissions.nan_to_num(), tags.clamp(min=0)
    other = torchcrf.CRF(num_tags, batch_first=True)
    other.load_state_dict(layer.state_dict())
    # pytorch-crf adds scores of up to a thousand: its sums are good to 1e-4, its gradients to 1e-4 per step.
    expected = other(emissions, tags, mask, reduction="none")
    torch.testing.assert_close(layer(emissions, tags, mask), expected, rtol=1e-5, atol=5e-4)
    found = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    theirs = gradients(other, emissions, lambda scores: other(scores, tags, mask, reduction="none"))
    for ours, reference in zip(found, theirs, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-3)
    best = layer.decode(emissions, mask).tags
    assert [row[real].tolist() for row, real in zip(best, mask, strict=True)] == other.decode(emissions, mask)


def test_takes_weights_of_pytorch_crf():
    torchcrf = pytest.importorskip("torchcrf")
    layer, emissions, tags, mask = make(4, lengths=(6, 3))
    other = torchcrf.CRF(4, batch_first=True)
    layer.load_state_dict(other.state_dict())
    expected = other(emissions.nan_to_num(), tags.clamp(min=0), mask, reduction="none")
    torch.testing.assert_close(layer(emissions, tags, mask), expected, **CLOSE)


@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])
def test_both_passes_agree_on_long_sequences(scale, monkeypatch):
    layer, emissions, tags, mask = make(9, lengths=(128, 100, 5), scale=scale)
    results = []
    for _ in range(2):
        values = layer(emissions, tags, mask)
        slopes = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
        results.append([values, layer.marginals(emissions, mask), *slopes])
        monkeypatch.setattr(forward_backward, "normalising_interval", lambda *_: 0)
    for scaled, logarithm in zip(*results, strict=True):
        torch.testing.assert_close(scaled, logarithm, **CLOSE_SUMS)


@pytest.mark.parametrize(
    ("spread", "interval"), [(2.0, 15), (20.0, 2), (59.0, 1), (61.0, 0), (math.inf, 0), (math.nan, 0)]
)
def test_normalising_interval(spread, interval):
    steps = torch.tensor([[[0.0, -spread + 1.0 + math.log(2)]]])
    assert forward_backward.normalising_interval(steps, torch.tensor([[0.0, 0.0], [-1.0, 0.0]])) == interval


def test_scores_at_the_limit_of_the_scaled_pass():
    """Every step and every transition pull to the other side with all that plain weights allow."""
    layer, emissions, tags, mask = make(2, lengths=(8,), scale=0.0)
    with torch.no_grad():
        layer.transitions.copy_(torch.tensor([[0.0, -29.0], [-29.0, 0.0]]))
    emissions[0, :, 1] = torch.tensor([0.0, -29.0] * 4)
    emissions[0, :, 0] = -29.0 - emissions[0, :, 1]
    steps, transitions = forward_backward.drop_shared(emissions.transpose(0, 1), layer.transitions.detach())
    assert forward_backward.normalising_interval(steps, transitions) == 1
    expected = enumerated_log_likelihood(layer, emissions, tags, mask)
    torch.testing.assert_close(layer(emissions, tags, mask), expected, **CLOSE)
    found = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    slopes = gradients(layer, emissions, lambda scores: enumerated_log_likelihood(layer, scores, tags, mask))
    for ours, theirs in zip(found, slopes, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_extreme_scores_are_finite_and_right():
    layer, emissions, tags, mask = make(3, lengths=(5, 0, 3, 1))
    emissions = emissions.sign() * 1e4
    with torch.no_grad():
        layer.transitions[0, 1] = layer.transitions[2, 2] = layer.start_transitions[1] = -1e4
    values = layer(emissions, tags, mask)
    # float32 holds 1e5 to 0.008
    torch.testing.assert_close(values, enumerated_log_likelihood(layer, emissions, tags, mask), rtol=1e-6, atol=0.05)
    found = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    assert all(slope.isfinite().all() for slope in found)
    torch.testing.assert_close(layer.marginals(emissions, mask).sum(-1), mask.float(), **CLOSE)
    for best, emission, real in zip(layer.decode(emissions, mask).scores, emissions, mask, strict=True):
        if real.any():
            torch.testing.assert_close(best, enumerate_paths(layer, emission[real])[1].max(), rtol=1e-6, atol=0.05)


def test_impossible_tags_may_have_minus_infinity():
    layer, emissions, tags, mask = make(3, lengths=(4, 2))
    emissions[:, 1, 2] = -math.inf
    tags[:, 1] = 0
    expected = enumerated_log_likelihood(layer, emissions, tags, mask)
    torch.testing.assert_close(layer(emissions, tags, mask), expected, **CLOSE)
    assert (layer.marginals(emissions, mask)[:, 1, 2] == 0).all()
    assert (layer.decode(emissions, mask).tags[:, 1] != 2).all()


def test_a_sequence_without_words_has_no_likelihood_to_improve():
    layer, emissions, tags, _ = make(3, lengths=(4, 3))
    nothing = torch.zeros(emissions.shape[:2], dtype=torch.bool)
    assert torch.equal(layer(emissions, tags, nothing), torch.zeros(2))
    assert all(
        (slope == 0).all() for slope in gradients(layer, emissions, lambda scores: layer(scores, tags, nothing))
    )
    assert (layer.decode(emissions, nothing).tags == -1).all()


def test_an_empty_batch():
    layer = LinearChainCrf(3)
    assert layer(torch.zeros(0, 4, 3), torch.zeros(0, 4, dtype=torch.long)).shape == (0,)
    assert layer.decode(torch.zeros(0, 4, 3)).tags.shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_float32(dtype):
    layer, emissions, tags, mask = make(9, lengths=(40, 7))
    rounded = emissions.to(dtype)
    half, single = rounded.clone().requires_grad_(), rounded.float().requires_grad_()
    values, expected = layer(half, tags, mask), layer(single, tags, mask)
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)
    values.sum().backward()
    expected.sum().backward()
    assert torch.equal(half.grad, single.grad.to(dtype))
    assert torch.equal(layer.marginals(rounded, mask), layer.marginals(rounded.float(), mask))
    assert torch.equal(layer.decode(rounded, mask).scores, layer.decode(rounded.float(), mask).scores)


@pytest.mark.usefixtures("either_pass")
def test_autocast_changes_nothing():
    layer, emissions, tags, mask = make(9, lengths=(40, 7))
    expected = [layer(emissions, tags, mask), layer.marginals(emissions, mask), layer.decode(emissions, mask).scores]
    slopes = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    with torch.autocast("cpu", torch.bfloat16):
        found = [layer(emissions, tags, mask), layer.marginals(emissions, mask), layer.decode(emissions, mask).scores]
        cast_slopes = gradients(layer, emissions, lambda scores: layer(scores, tags, mask))
    for ours, theirs in zip([*found, *cast_slopes], [*expected, *slopes], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(context):
    layer, emissions, tags, mask = make(3)
    expected = layer(emissions, tags, mask).detach()
    with context():
        assert torch.equal(layer(emissions, tags, mask), expected)
        assert torch.equal(layer.decode(emissions, mask).tags >= 0, mask)
        torch.testing.assert_close(layer.marginals(emissions, mask).sum(-1), mask.float(), **CLOSE)


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.inf, -math.inf, math.nan])
def test_what_padding_holds_does_not_matter(garbage):
    layer, emissions, tags, mask = make(3)
    changed = emissions.masked_fill(~mask[..., None], garbage)
    assert torch.equal(layer(changed, tags, mask), layer(emissions, tags, mask))
    assert torch.equal(layer.marginals(changed, mask), layer.marginals(emissions, mask))
    for ours, theirs in zip(layer.decode(changed, mask), layer.decode(emissions, mask), strict=True):
        assert torch.equal(ours, theirs)
    slopes = gradients(layer, changed, lambda scores: layer(scores, tags, mask))
    assert all(slope.isfinite().all() for slope in slopes)
    assert (slopes[0][~mask] == 0).all()


def test_more_padding_changes_nothing():
    layer, emissions, tags, mask = make(3)
    wide = torch.nn.functional.pad(emissions, (0, 0, 0, 6), value=3.0)
    wide_tags, wide_mask = torch.nn.functional.pad(tags, (0, 6)), torch.nn.functional.pad(mask, (0, 6))
    torch.testing.assert_close(layer(wide, wide_tags, wide_mask), layer(emissions, tags, mask), **CLOSE)
    torch.testing.assert_close(layer.marginals(wide, wide_mask)[:, :-6], layer.marginals(emissions, mask), **CLOSE)
    assert torch.equal(layer.decode(wide, wide_mask).tags[:, :-6], layer.decode(emissions, mask).tags)


def test_permuting_the_batch_permutes_the_results():
    layer, emissions, tags, mask = make(5, lengths=(9, 0, 1, 12, 12, 5))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(
        layer(emissions[order], tags[order], mask[order]), layer(emissions, tags, mask)[order], **CLOSE
    )
    torch.testing.assert_close(
        layer.marginals(emissions[order], mask[order]), layer.marginals(emissions, mask)[order], **CLOSE
    )
    for ours, theirs in zip(layer.decode(emissions[order], mask[order]), layer.decode(emissions, mask), strict=True):
        assert torch.equal(ours, theirs[order])


def test_no_mask_means_no_padding():
    layer, emissions, tags, mask = make(3, lengths=(4, 4))
    assert torch.equal(layer(emissions, tags), layer(emissions, tags, mask))
    assert torch.equal(layer.decode(emissions).tags, layer.decode(emissions, mask).tags)
    assert torch.equal(layer.marginals(emissions), layer.marginals(emissions, mask.long()))


def test_marginals_sum_to_1_on_words_and_to_0_on_padding():
    layer, emissions, _, mask = make(9, lengths=(128, 64, 0))
    # a probability is normalised at its own step: only the last sum rounds
    torch.testing.assert_close(layer.marginals(emissions, mask).sum(-1), mask.float(), rtol=0, atol=1e-6)


def test_refuses_a_mask_with_a_hole():
    layer, emissions, tags, _ = make(3, lengths=(3, 3))
    mask = torch.tensor([[1, 1, 1], [1, 0, 1]])
    for run in (lambda: layer(emissions, tags, mask), lambda: layer.decode(emissions, mask)):
        with pytest.raises(ValueError, match=r"`mask` of sequence 1 has a hole: .* Pack the words of each sequence"):
            run()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 0, 3)])
def test_refuses_emissions_of_another_shape(shape):
    with pytest.raises(
        ValueError, match=r"`emissions` has the shape \(2, .*; expected `b n 3`, one score for each tag"
    ):
        LinearChainCrf(3).decode(torch.zeros(shape))


def test_refuses_a_mask_or_tags_of_another_shape():
    layer, emissions, tags, mask = make(3, lengths=(3, 3))
    with pytest.raises(ValueError, match=r"`mask` has the shape \(2, 2\); expected \(2, 3\)"):
        layer.decode(emissions, mask[:, :2])
    with pytest.raises(ValueError, match=r"`tags` has the shape \(2, 2\); expected \(2, 3\), as the mask"):
        layer(emissions, tags[:, :2], mask)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_refuses_tags_that_do_not_exist(wrong):
    layer, emissions, tags, mask = make(3, lengths=(3, 2))
    tags[1, 1] = wrong
    with pytest.raises(ValueError, match=f"`tags` holds {wrong} at a word; expected 0 to 2"):
        layer(emissions, tags, mask)


def test_refuses_a_crf_without_tags():
    with pytest.raises(ValueError, match="`num_tags` must be 1 or more, got 0"):
        LinearChainCrf(0)


@pytest.mark.parametrize("num_tags", ["5", 5.0, None, True])
def test_refuses_a_number_of_tags_that_is_none(num_tags):
    with pytest.raises(ValueError, match=f"`num_tags` is {num_tags!r}; expected a whole number of 1 or more"):
        LinearChainCrf(num_tags)


def test_tags_are_whole_numbers_of_any_size():
    layer, emissions, tags, mask = make(3, lengths=(3, 2))
    with pytest.raises(ValueError, match=r"`tags` are torch.float32; expected whole numbers, one for each word"):
        layer(emissions, tags.float(), mask)
    assert torch.equal(layer(emissions, tags.int(), mask), layer(emissions, tags, mask))


def test_bio_constraints_of_each_pair():
    constraints = bio_constraints(LABELS)
    assert constraints.starts.tolist() == [True, True, False, True, False]
    for before, after in itertools.product(range(len(LABELS)), repeat=2):
        assert constraints.steps[before, after] == is_valid_bio(
            [f"B-{LABELS[before][2:]}" if before else "O", LABELS[after]]
        )


# --------------------------------------------------------------------------------------------------- given the history


def enumerated_conditionals(layer: LinearChainCrf, emission: Tensor, history: list[int]) -> Tensor:
    """Return `n c`: of all paths that begin with the history, the share that goes on with each tag."""
    paths, scores = enumerate_paths(layer, emission)
    rows = []
    for step in range(len(emission)):
        weights = [
            torch.stack(
                [
                    score
                    for path, score in zip(paths, scores, strict=True)
                    if list(path[: step + 1]) == [*history[:step], tag]
                ]
            ).logsumexp(0)
            for tag in range(layer.num_tags)
        ]
        rows.append(torch.log_softmax(torch.stack(weights), dim=0))
    return torch.stack(rows)


def test_conditionals_are_those_of_all_paths():
    layer, emissions, tags, mask = make()
    found = layer.conditional_log_probs(emissions, tags, mask)
    assert not found[~mask].any()
    for row, emission, path, real in zip(found, emissions, tags, mask, strict=True):
        if real.any():
            expected = enumerated_conditionals(layer, emission[real], path[real].tolist())
            assert torch.allclose(row[real], expected, **CLOSE)


@pytest.mark.parametrize("scale", [0.5, 2.0, 30.0])
def test_conditionals_sum_to_1_and_those_of_the_path_to_its_likelihood(scale):
    layer, emissions, tags, mask = make(num_tags=5, lengths=(1, 7, 0, 4, 40), scale=scale)
    found = layer.conditional_log_probs(emissions, tags, mask)
    assert found.dtype == torch.float32
    assert torch.allclose(found.exp().sum(-1)[mask], torch.ones(()), **CLOSE)
    gold = found.gather(-1, tags.clamp(min=0).unsqueeze(-1)).squeeze(-1).sum(1)
    assert torch.allclose(gold, layer(emissions, tags, mask), rtol=1e-5, atol=1e-4)  # 40 terms of up to 100


def test_conditionals_of_the_path_have_the_likelihoods_gradient():
    layer, emissions, tags, mask = make(num_tags=4, lengths=(3, 6, 1))
    index = tags.clamp(min=0).unsqueeze(-1)
    found = gradients(
        layer, emissions, lambda e: layer.conditional_log_probs(e, tags, mask).gather(-1, index).squeeze(-1).sum(1)
    )
    expected = gradients(layer, emissions, lambda e: layer(e, tags, mask))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, **CLOSE_SUMS)


def test_a_long_text_keeps_its_conditionals():
    layer, emissions, tags, mask = make(num_tags=5, lengths=(600,), scale=4.0)
    found = layer.conditional_log_probs(emissions, tags, mask)
    exact = layer.double()
    exact.scores = lambda: (exact.start_transitions, exact.transitions, exact.end_transitions)
    exact.check_inputs = lambda emissions, mask: (emissions, mask)
    # Messages that were not normalised would be about 5,000 and have lost three digits.
    assert torch.allclose(found.double(), exact.conditional_log_probs(emissions.double(), tags, mask), **CLOSE)


def test_conditionals_are_float32_under_autocast():
    layer, emissions, tags, mask = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer.conditional_log_probs(emissions, tags, mask)
    assert torch.equal(found, layer.conditional_log_probs(emissions, tags, mask))
