from __future__ import annotations

import math

import pytest
import torch

from hf_mner.layers.losses import (
    DISTILLATIONS,
    classification_loss,
    grounding_loss,
    trust_your_teacher_binary_loss,
    trust_your_teacher_loss,
)

CLASSES = 4


@pytest.fixture
def scores() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student scores, teacher scores and labels of 2 texts with 5 words, two of them without a label."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 2, 5, CLASSES, generator=generator) * 2
    labels = torch.randint(CLASSES, (2, 5), generator=generator)
    labels[0, 4] = labels[1, 1] = -100
    return student, teacher, labels


def probabilities(row: torch.Tensor) -> list[float]:
    exponentials = [math.exp(value) for value in row.tolist()]
    return [value / sum(exponentials) for value in exponentials]


def equation_4(student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, distillation: str) -> float:
    """Eq. 4 position by position: a_i CE(y_i, S_i) + (1 - a_i) KL(S_i || T_i), averaged over labelled positions."""
    terms = []
    for scores, teacher_scores, label in zip(
        student.flatten(0, -2), teacher.flatten(0, -2), labels.flatten().tolist(), strict=True
    ):
        if label == -100:
            continue
        s, t = probabilities(scores), probabilities(teacher_scores)
        trust = {"tyt": t[label], "half": 0.5, "full": 0.0, "none": 1.0}[distillation]
        divergence = sum(p * math.log(p / q) for p, q in zip(s, t, strict=True))
        terms.append(trust * -math.log(s[label]) + (1 - trust) * divergence)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("distillation", DISTILLATIONS)
def test_tyt_is_equation_4(scores, distillation):
    expected = equation_4(*scores, distillation)
    # float32 sums of 8 terms of size about 1; the reversed divergence or a wrong trust differ in the first digits.
    assert trust_your_teacher_loss(*scores, distillation).item() == pytest.approx(expected, rel=1e-5)


def test_tyt_divergence_is_student_first(scores):
    student, teacher, labels = scores
    one_way = trust_your_teacher_loss(student, teacher, labels, "full").item()
    other_way = trust_your_teacher_loss(teacher, student, labels, "full").item()
    assert abs(one_way - other_way) > 0.05


def test_none_is_cross_entropy(scores):
    student, teacher, labels = scores
    expected = torch.nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert torch.allclose(trust_your_teacher_loss(student, teacher, labels, "none"), expected)
    assert torch.allclose(classification_loss(student, labels), expected)


@pytest.mark.parametrize("distillation", DISTILLATIONS)
def test_unlabelled_positions_change_nothing(scores, distillation):
    student, teacher, labels = scores
    before = trust_your_teacher_loss(student, teacher, labels, distillation)
    student, teacher = student.clone(), teacher.clone()
    student[labels == -100], teacher[labels == -100] = 50.0, -50.0
    student[0, 4, 1] = -70.0
    assert trust_your_teacher_loss(student, teacher, labels, distillation) == before


def test_teacher_gets_no_gradient(scores):
    student, teacher, labels = scores
    student.requires_grad_()
    teacher.requires_grad_()
    trust_your_teacher_loss(student, teacher, labels).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    assert not student.grad[labels == -100].any()


def test_teacher_equal_to_student_has_no_divergence(scores):
    student, _, labels = scores
    # Exactly 0 up to rounding of float32; the cross-entropy of these scores is above 1.
    assert trust_your_teacher_loss(student, student.clone(), labels, "full").item() == pytest.approx(0, abs=1e-6)
    assert classification_loss(student, labels).item() > 1


def test_tyt_follows_a_sure_teacher(scores):
    """A teacher that is sure of the gold class leaves cross-entropy, one that is sure of another leaves divergence."""
    student, _, labels = scores
    labels = labels.clamp(min=0)
    gold = torch.nn.functional.one_hot(labels, CLASSES) * 30.0
    assert torch.allclose(trust_your_teacher_loss(student, gold, labels), classification_loss(student, labels))
    wrong = gold.roll(1, dims=-1)
    assert torch.allclose(
        trust_your_teacher_loss(student, wrong, labels), trust_your_teacher_loss(student, wrong, labels, "full")
    )


@pytest.mark.parametrize("distillation", DISTILLATIONS)
def test_tyt_without_labels_is_zero_with_finite_gradients(scores, distillation):
    student, teacher, labels = scores
    student.requires_grad_()
    loss = trust_your_teacher_loss(student, teacher, torch.full_like(labels, -100), distillation)
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


def test_tyt_of_sequence_labels(scores):
    """`b c` scores with `b` labels (stage 2) are the same function."""
    student, teacher, labels = (value[0] for value in scores)
    expected = equation_4(student, teacher, labels, "tyt")
    assert trust_your_teacher_loss(student, teacher, labels).item() == pytest.approx(expected, rel=1e-5)


def test_tyt_of_half_precision_is_computed_in_float32(scores):
    student, teacher, labels = scores
    student, teacher = student.bfloat16(), teacher.bfloat16()
    loss = trust_your_teacher_loss(student, teacher, labels)
    assert loss.dtype == torch.float32
    assert loss == trust_your_teacher_loss(student.float(), teacher.float(), labels)


def test_teacher_with_other_classes_is_refused(scores):
    student, teacher, labels = scores
    with pytest.raises(ValueError, match="teacher scores 3 classes and the student 4"):
        trust_your_teacher_loss(student, teacher[..., :3], labels)


def test_unknown_distillation_is_refused(scores):
    with pytest.raises(ValueError, match="distillation='all'.*choose one of none, half, full, tyt"):
        trust_your_teacher_loss(*scores, "all")


def test_classification_loss_without_labels_is_zero_with_finite_gradients():
    logits = torch.randn(3, CLASSES, requires_grad=True)
    loss = classification_loss(logits, torch.full((3,), -100))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def equation_2(scores: torch.Tensor, overlaps: torch.Tensor) -> float:
    """Eq. 2 object by object, averaged over the candidates."""
    terms = []
    for score, overlap in zip(scores.flatten().tolist(), overlaps.flatten().tolist(), strict=True):
        if overlap >= 0:
            predicted = 1 / (1 + math.exp(-score))
            terms.append(-overlap * math.log(predicted) - (1 - overlap) * math.log(1 - predicted))
    return sum(terms) / len(scores)


def test_grounding_loss_is_equation_2():
    scores = torch.tensor([[0.3, -1.2, 2.0], [4.0, -3.0, 0.0]])
    overlaps = torch.tensor([[0.0, 1.0, 0.45], [0.7, -100.0, -100.0]])
    assert grounding_loss(scores, overlaps).item() == pytest.approx(equation_2(scores, overlaps), rel=1e-5)


def test_grounding_loss_ignores_padding():
    scores = torch.tensor([[0.3, 99.0]], requires_grad=True)
    loss = grounding_loss(scores, torch.tensor([[0.5, -100.0]]))
    assert loss == grounding_loss(scores[:, :1], torch.tensor([[0.5]]))
    loss.backward()
    assert scores.grad[0, 1] == 0


def test_grounding_loss_is_least_at_the_target():
    target = torch.tensor([[0.3]])
    best = grounding_loss(torch.logit(target), target)
    assert best < grounding_loss(torch.logit(target) + 0.2, target)
    assert best < grounding_loss(torch.logit(target) - 0.2, target)


@pytest.mark.parametrize("overlaps", [torch.full((2, 3), -100.0), torch.zeros(2, 0)], ids=["padding", "no objects"])
def test_grounding_loss_of_nothing_is_zero(overlaps):
    scores = torch.ones_like(overlaps).requires_grad_()
    loss = grounding_loss(scores, overlaps)
    loss.backward()
    assert loss == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


# ------------------------------------------------------------------------------------------------------- yes and no


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student scores, teacher scores, gold answers, and which count, of 3 texts with 6 questions."""
    generator = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, 3, 6, generator=generator) * 2
    targets, asked = (torch.rand(2, 3, 6, generator=generator) > 0.4).unbind()
    return student, teacher, targets, asked


@pytest.mark.parametrize("distillation", DISTILLATIONS)
def test_binary_tyt_is_that_of_two_classes(answers, distillation):
    student, teacher, targets, asked = answers
    two = [torch.stack([torch.full_like(scores, 0.3), scores + 0.3], dim=-1) for scores in (student, teacher)]
    labels = targets.long().masked_fill(~asked, -100)
    expected = trust_your_teacher_loss(*two, labels, distillation)
    assert torch.allclose(trust_your_teacher_binary_loss(*answers, distillation), expected)


def test_binary_none_is_binary_cross_entropy(answers):
    student, _, targets, asked = answers
    expected = torch.nn.functional.binary_cross_entropy_with_logits(student[asked], targets[asked].float())
    assert torch.allclose(trust_your_teacher_binary_loss(*answers, "none"), expected)


def test_a_teacher_that_is_sure_of_gold_leaves_binary_cross_entropy(answers):
    student, _, targets, asked = answers
    sure = torch.where(targets, 40.0, -40.0)
    expected = trust_your_teacher_binary_loss(*answers, "none")
    assert torch.allclose(trust_your_teacher_binary_loss(student, sure, targets, asked, "tyt"), expected)


def test_positions_that_are_not_asked_are_not_read(answers):
    student, teacher, targets, asked = answers
    before = trust_your_teacher_binary_loss(*answers)
    student, teacher = (scores.masked_fill(~asked, math.nan) for scores in (student, teacher))
    assert trust_your_teacher_binary_loss(student, teacher, targets ^ ~asked, asked) == before
    assert trust_your_teacher_binary_loss(student, teacher, targets, torch.zeros_like(asked)) == 0


def test_answers_to_other_questions_are_refused(answers):
    student, teacher, targets, asked = answers
    with pytest.raises(ValueError, match=r"shape \(3, 5\) and the student's \(3, 6\); let both read the same rows"):
        trust_your_teacher_binary_loss(student, teacher[:, 1:], targets, asked)
