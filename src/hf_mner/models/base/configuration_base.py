"""What every system's configuration shares."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from typing import Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

Modality = Literal["text_image", "text"]  # of systems that have a variant without images
MODALITIES: tuple[str, ...] = get_args(Modality)


@strict
class MnerConfig(PreTrainedConfig):
    """A configuration whose `id2label` is enough to know `label2id`.

    Args:
        classifier_dropout: dropout before the classifiers.
    """

    classifier_dropout: float | int = 0.1

    def __post_init__(self, **kwargs):
        """Build the encoders' configurations and the labels."""
        super().__post_init__(**kwargs)
        if self.id2label is not None and self.label2id is None:
            self.label2id = {name: index for index, name in self.id2label.items()}

    def validate_classifier_dropout(self):
        """Refuse a dropout outside [0, 1)."""
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"`classifier_dropout` must be in [0, 1), got {self.classifier_dropout}.")
