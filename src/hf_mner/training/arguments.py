"""Training arguments: those of transformers, and what the systems add."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from hf_mner.layers.losses import DISTILLATIONS, check_distillation


@dataclass
class MnerTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` plus distillation and learning rates of the heads and of the CRF.

    Adversarial weight perturbation (SCANNER, section 4.2) is not built yet; its settings belong here.

    Args:
        distillation: how far gold labels are trusted (SCANNER, Eq. 4 and Table 3): `none` (plain cross-entropy),
            `half` (a_i = 0.5), `full` (a_i = 0) or `tyt` (a_i = the teacher's probability of the gold class).
        vision_learning_rate: learning rate of the image encoder; `None` = the text encoder's.
        head_learning_rate: learning rate of every parameter outside the pretrained encoders; `None` = the same.
        crf_learning_rate: learning rate of the CRF's transition scores, which want 100 to 1,000 times the encoder's;
            `None` = as the other heads.
    """

    distillation: str = field(default="none", metadata={"help": f"One of {', '.join(DISTILLATIONS)}."})
    vision_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the image encoder."})
    head_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the heads."})
    crf_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the CRF."})

    def __post_init__(self):
        """Check the added fields, then those of transformers."""
        check_distillation(self.distillation)
        super().__post_init__()
