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
    check_distillation(distillation)
    if teacher_logits.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"The teacher scores {teacher_logits.shape[-1]} classes and the student {logits.shape[-1]};"
            " train the teacher with the same labels."
        )
    labelled = labels != IGNORE_INDEX
    student = F.log_softmax(logits[labelled].float(), dim=-1)  # m c
    teacher = F.log_softmax(teacher_logits[labelled].float(), dim=-1).detach()  # m c
    gold = labels[labelled].unsqueeze(-1)  # m 1
    cross_entropy = -student.gather(-1, gold).squeeze(-1)  # m
    divergence = (student.exp() * (student - teacher)).sum(-1)  # m, KL(S || T)
    trust = teacher_trust(teacher.gather(-1, gold).squeeze(-1).exp(), distillation)  # m
    return (trust * cross_entropy + (1 - trust) * divergence).sum() / labelled.sum().clamp(min=1)


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
