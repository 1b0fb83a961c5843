"""What every system's configuration shares."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from typing import Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

Modality = Literal["text_image", "text"]  # of systems that have a variant without images
MODALITIES: tuple[str, ...] = get_args(Modality)
REMOTE_CODE_FIELDS = ("auto_map", "custom_pipelines")  # of published checkpoints, see `hf_mner.hub.remote_code`


@strict
class MnerConfig(PreTrainedConfig):
    """A configuration whose `id2label` is enough to know `label2id`.

    What a published `config.json` says of code in its repository is not kept: whoever holds this class has the
    package, so that no code of a repository is needed, run or asked for, and a copy that is saved names no file that
    it lacks.

    Args:
        classifier_dropout: dropout before the classifiers.
    """

    classifier_dropout: float | int = 0.1

    def __post_init__(self, **kwargs):
        """Build the encoders' configurations and the labels."""
        own = {name: value for name, value in kwargs.items() if name not in REMOTE_CODE_FIELDS}
        super().__post_init__(**own)
        if self.id2label is not None and self.label2id is None:
            self.label2id = {name: index for index, name in self.id2label.items()}

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:  # noqa: ARG003 of the base class
        """Do nothing, where transformers would copy this file into every folder that is saved."""

    def validate_classifier_dropout(self):
        """Refuse a dropout outside [0, 1)."""
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"`classifier_dropout` must be in [0, 1), got {self.classifier_dropout}.")
