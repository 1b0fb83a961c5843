"""Training arguments: those of transformers, and what the systems add."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from hf_mner.layers.losses import DISTILLATIONS, check_distillation

from .awp import AWP_KINDS, AdversarialWeightPerturbation, check_awp
from .teacher import TEACHER_MODES, check_teacher_mode


@dataclass
class MnerTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` plus distillation, adversarial weight perturbation and further learning rates.

    Args:
        distillation: how far gold labels are trusted (SCANNER, Eq. 4 and Table 3): `none` (plain cross-entropy),
            `half` (a_i = 0.5), `full` (a_i = 0) or `tyt` (a_i = the teacher's probability of the gold class).
        teacher_mode: `offline`: the teacher reads each training row once, before training, and its scores are kept on
            disk; `online`: it reads every batch, as it must where rows change from epoch to epoch.
        vision_learning_rate: learning rate of the image encoder; `None` = the text encoder's.
        head_learning_rate: learning rate of every parameter outside the pretrained encoders; `None` = the same.
        crf_learning_rate: learning rate of the CRF's transition scores, which want 100 to 1,000 times the encoder's;
            `None` = as the other heads.
        awp_start_epoch: the first epoch, from 0, of adversarial weight perturbation; `None` = never. See
            `AdversarialWeightPerturbation` for this and the next three.
        awp_gamma: size of the perturbation relative to the weights.
        awp_kind: `published` or `competition`.
        awp_learning_rate: read by `competition` alone.
    """

    distillation: str = field(default="none", metadata={"help": f"One of {', '.join(DISTILLATIONS)}."})
    teacher_mode: str = field(default="offline", metadata={"help": f"One of {', '.join(TEACHER_MODES)}."})
    vision_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the image encoder."})
    head_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the heads."})
    crf_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the CRF."})

    awp_start_epoch: float | None = field(default=None, metadata={"help": "First epoch of weight perturbation."})
    awp_gamma: float = field(default=0.01, metadata={"help": "Size of the perturbation relative to the weights."})
    awp_kind: str = field(default="published", metadata={"help": f"One of {', '.join(AWP_KINDS)}."})
    awp_learning_rate: float | None = field(default=None, metadata={"help": "Of the competition kind."})

    def __post_init__(self):
        """Check the added fields, then those of transformers."""
        check_distillation(self.distillation)
        check_teacher_mode(self.teacher_mode)
        start = 0.0 if self.awp_start_epoch is None else self.awp_start_epoch
        check_awp(start, self.awp_gamma, self.awp_kind, self.awp_learning_rate)
        super().__post_init__()

    def weight_perturbation(self) -> AdversarialWeightPerturbation | None:
        """Build what perturbs weights, `None` = nothing does."""
        if self.awp_start_epoch is None:
            return None
        return AdversarialWeightPerturbation(
            self.awp_start_epoch, self.awp_gamma, self.awp_kind, self.awp_learning_rate
        )
