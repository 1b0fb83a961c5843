"""Losses of the four systems, as functions of scores and targets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -100

Distillation = Literal["none", "half", "full", "tyt"]
DISTILLATIONS: tuple[Distillation, ...] = ("none", "half", "full", "tyt")


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the labelled positions.

    Args:
        logits: `... c`, raw scores.
        labels: `...`, long; `-100` marks positions without a label.

    Returns:
        The mean over labelled positions; 0 (with a gradient of 0) when there is none.

    Source: SCANNER, Eq. 1.
    Departure: Eq. 1 sums over candidates; the mean keeps the learning rate independent of the batch's size.
    """
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


def trust_your_teacher_loss(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, distillation: Distillation = "tyt"
) -> Tensor:
    """Blend the gold labels with a teacher's prediction, trusting the gold label as far as the teacher does.

    For each labelled position `i`: `a_i CE(y_i, S_i) + (1 - a_i) KL(S_i || T_i)`, with the divergence in the printed
    order (student first) and `a_i` the teacher's probability of the gold class (`tyt`), 0.5 (`half`) or 0 (`full`).
    `none` is plain cross-entropy (`a_i = 1`).

    Args:
        logits: `... c`, the student's raw scores.
        teacher_logits: `... c`, the teacher's raw scores; no gradient flows into them.
        labels: `...`, long; `-100` marks positions without a label, where the teacher is not read either.
        distillation: how `a_i` is chosen.

    Returns:
        The mean over labelled positions; 0 when there is none.

    Raises:
        ValueError: if the teacher has other classes, or `distillation` is unknown.

    Source: SCANNER, Eq. 4 and Table 3 (https://arxiv.org/abs/2404.01914).
    Departure: Eq. 4 sums over samples; the mean keeps the learning rate independent of the batch's size.
    """
    if teacher_logits.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"The teacher scores {teacher_logits.shape[-1]} classes and the student {logits.shape[-1]};"
            " train the teacher with the same labels."
        )
    labelled = labels != IGNORE_INDEX
    student = F.log_softmax(logits[labelled].float(), dim=-1)  # m c
    teacher = F.log_softmax(teacher_logits[labelled].float(), dim=-1)  # m c
    return blended_losses(student, teacher, labels[labelled], distillation).sum() / labelled.sum().clamp(min=1)


def trust_your_teacher_binary_loss(
    logits: Tensor, teacher_logits: Tensor, targets: Tensor, asked: Tensor, distillation: Distillation = "tyt"
) -> Tensor:
    """Blend yes-or-no answers with a teacher's, see `trust_your_teacher_loss`.

    A raw score `x` stands for the two classes no and yes with the probabilities `sigmoid(-x)` and `sigmoid(x)`. So it
    serves Bernoulli outputs, and a softmax over two scores, of which `x` is the difference (yes less no).

    Args:
        logits: `...`, the student's raw scores of "yes".
        teacher_logits: `...`, the teacher's; no gradient flows into them.
        targets: `...`, bool, the gold answers.
        asked: `...`, bool, True for the positions that count; the others are not read.
        distillation: how `a_i` is chosen.

    Returns:
        The mean over the positions that count; 0 when there is none.

    Raises:
        ValueError: if the teacher's scores have another shape, or `distillation` is unknown.

    Source: SCANNER, Eq. 4 and Table 3, for two classes.
    """
    if teacher_logits.shape != logits.shape:
        raise ValueError(
            f"The teacher's scores have the shape {tuple(teacher_logits.shape)} and the student's"
            f" {tuple(logits.shape)}; let both read the same rows and the same classes."
        )
    student, teacher = (two_class_log_probs(scores[asked].float()) for scores in (logits, teacher_logits))  # m 2
    return blended_losses(student, teacher, targets[asked].long(), distillation).sum() / asked.sum().clamp(min=1)


def two_class_log_probs(logits: Tensor) -> Tensor:
    """Return the log-probabilities of no and yes, `... 2`, of raw scores of yes (`...`)."""
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=-1)


def blended_losses(student: Tensor, teacher: Tensor, gold: Tensor, distillation: Distillation) -> Tensor:
    """Return the term of Eq. 4 of each position: `a_i CE(y_i, S_i) + (1 - a_i) KL(S_i || T_i)`.

    Args:
        student: `m c`, log-probabilities.
        teacher: `m c`, log-probabilities; no gradient flows into them.
        gold: `m`, long.
        distillation: how `a_i` is chosen.

    Returns:
        `m`.
    """
    check_distillation(distillation)
    teacher, gold = teacher.detach(), gold.unsqueeze(-1)
    cross_entropy = -student.gather(-1, gold).squeeze(-1)  # m
    divergence = (student.exp() * (student - teacher)).sum(-1)  # m, KL(S || T)
    trust = teacher_trust(teacher.gather(-1, gold).squeeze(-1).exp(), distillation)  # m
    return trust * cross_entropy + (1 - trust) * divergence


def check_distillation(distillation: str) -> None:
    """Raise a `ValueError` that lists the choices if `distillation` is none of them."""
    if distillation not in DISTILLATIONS:
        raise ValueError(f"`distillation={distillation!r}` is not known; choose one of {', '.join(DISTILLATIONS)}.")


def teacher_trust(gold_probability: Tensor, distillation: Distillation) -> Tensor:
    """Return Eq. 4's balancing factor `a_i` from the teacher's probability of the gold class; same shape."""
    if distillation == "tyt":
        return gold_probability
    return torch.full_like(gold_probability, {"none": 1.0, "half": 0.5, "full": 0.0}[distillation])


def grounding_loss(overlap_logits: Tensor, overlaps: Tensor) -> Tensor:
    """Binary cross-entropy between predicted overlap scores and IoU targets.

    Args:
        overlap_logits: `b r`, raw scores of each `[obj]` token.
        overlaps: `b r`, the largest IoU of each object with the entity's gold boxes, in [0, 1]; 0 for every object of
            an entity that is not in the image; negative values (`-100`) mark padding.

    Returns:
        The sum over each candidate's objects, averaged over the `b` candidates; 0 when there is no object.

    Source: SCANNER, Eq. 2.
    Departure: Eq. 1 and Eq. 2 both sum over the candidates; both are averaged over them here, so that lambda of Eq. 3
        weighs the two as printed.
    """
    real = overlaps >= 0
    losses = F.binary_cross_entropy_with_logits(
        overlap_logits.float(), overlaps.float().clamp(min=0), reduction="none"
    )  # b r
    return (losses * real).sum() / len(overlaps)
