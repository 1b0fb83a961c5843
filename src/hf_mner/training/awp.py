"""Adversarial weight perturbation: the loss is trained where the weights are a little worse for the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

AwpKind = Literal["published", "competition"]
AWP_KINDS: tuple[AwpKind, ...] = get_args(AwpKind)
EPOCH_TOLERANCE = 1e-6  # epochs are counted in floating point: (2 / 3) + (1 / 3) need not be 1


class AdversarialWeightPerturbation:
    """Moves weight matrices to where a batch's loss is larger, and puts them back exactly.

    What is perturbed: every trainable parameter of more than one dimension, a shared one once. Biases and the vectors
    of normalisation layers are not.

    - `published`: `w + gamma |w| / |g| g`, with `g` the gradient of the batch's loss and norms of whole tensors. The
      gradient at the perturbed weights alone is trained on.
    - `competition`: `w + learning_rate |w| / |g| g`, each number clipped to `w +- gamma |w|`. The gradients at the
      plain and at the perturbed weights are added.

    A tensor whose gradient is zero, missing or not finite stays where it is.

    Args:
        start_epoch: the first epoch, counted from 0, in which weights are perturbed; 1.5 = from the middle of the
            second one.
        gamma: size of the perturbation relative to the weights; 0.01 in the paper, 0.005 in its TRADES-AWP.
        kind: see above.
        learning_rate: of `competition`, `None` = 1.

    Raises:
        ValueError: if a setting is out of its range, or a `learning_rate` is given that nothing would read.

    Source: Wu, Xia and Wang 2020, Eq. 7 to 10 and public code (https://arxiv.org/abs/2004.05884); SCANNER, section
        4.2. `competition` is what Kaggle's notebooks call AWP.
    Departure: the public code lets a proxy model take a step of gradient descent and rescales the difference of the
        weights. The step's learning rate cancels in the rescaling; we rescale the gradient itself, which does not lose
        the digits that a sum of large weights and a small step loses. The public code skips parameters without
        "weight" in their names too; ours perturbs every matrix, such as a CRF's transitions.
    """

    def __init__(
        self,
        start_epoch: float,
        gamma: float = 0.01,
        kind: str = "published",
        learning_rate: float | None = None,
    ):
        check_awp(start_epoch, gamma, kind, learning_rate)
        self.start_epoch, self.gamma, self.kind = start_epoch, gamma, kind
        self.learning_rate = 1.0 if learning_rate is None else learning_rate

    def acts(self, epoch: float | None) -> bool:
        """Tell whether weights are perturbed at a time in epochs from 0; `None` = before training."""
        return epoch is not None and epoch >= self.start_epoch - EPOCH_TOLERANCE

    @property
    def adds_plain_gradient(self) -> bool:
        """Tell whether the gradient at the unperturbed weights is trained on as well."""
        return self.kind == "competition"

    def perturbation(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return what is added to a weight tensor, float32, of its shape.

        Args:
            weight: of any shape with two or more dimensions.
            gradient: of the loss, by the weight; any positive multiple of it gives the same.
        """
        weight, gradient = weight.float(), gradient.float()
        # Divided by the largest number first, whose square might not fit float32 (loss scaling, tiny gradients).
        largest = gradient.abs().max()
        direction = gradient / largest
        step = direction * (weight.norm() / direction.norm())  # as long as the weight
        step = torch.where(torch.isfinite(largest) & (largest > 0), step, 0.0)
        if self.kind == "published":
            return self.gamma * step
        bound = self.gamma * weight.abs()
        return torch.clamp(self.learning_rate * step, -bound, bound)

    @contextmanager
    def perturbed(self, gradients: Mapping[nn.Parameter, Tensor | None]) -> Iterator[None]:
        """Perturb weights inside of a `with`; behind it they are what they were, bit for bit.

        Args:
            gradients: the gradient of each trainable parameter, `None` where the loss does not depend on it.
        """
        saved: dict[nn.Parameter, Tensor] = {}
        try:
            with torch.no_grad():
                for parameter, gradient in gradients.items():
                    if parameter.ndim > 1 and gradient is not None:
                        saved[parameter] = parameter.detach().clone()
                        parameter.copy_(parameter + self.perturbation(parameter, gradient))
            yield
        finally:
            with torch.no_grad():
                for parameter, weight in saved.items():
                    parameter.copy_(weight)


def check_awp(start_epoch: float, gamma: float, kind: str, learning_rate: float | None) -> None:
    """Raise a `ValueError` that names a setting that is out of its range, see `AdversarialWeightPerturbation`."""
    if kind not in AWP_KINDS:
        raise ValueError(
            f"`kind={kind!r}` of adversarial weight perturbation is not known; choose {' or '.join(AWP_KINDS)}."
        )
    if not start_epoch >= 0:
        raise ValueError(
            f"`start_epoch={start_epoch}` is not possible; count epochs from 0, such as 1 for the second."
        )
    if not 0 <= gamma < 1:
        raise ValueError(f"`gamma={gamma}` is not possible; choose a share of the weights in [0, 1), such as 0.01.")
    if learning_rate is not None and kind == "published":
        raise ValueError(
            f"`learning_rate={learning_rate}` is read by nothing: the length of the step cancels in `kind: published`;"
            " leave it out, or use `kind: competition`."
        )
    if learning_rate is not None and not learning_rate > 0:
        raise ValueError(f"`learning_rate={learning_rate}` is not possible; choose more than 0, such as 1.0.")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let a forward pass inside of a `with` leave no trace: buffers and random numbers are what they were before.

    So running means see each batch once, and the dropout of the next forward pass is that of the one inside.
    """
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    device = next(model.parameters()).device
    devices = [] if device.type == "cpu" else [device]
    try:
        with torch.random.fork_rng(devices, device_type=None if device.type == "cpu" else device.type):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
