"""Configuration of SCANNER."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from copy import deepcopy

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto import AutoConfig

from hf_mner.models.base.configuration_base import MnerConfig

NON_ENTITY = "non-entity"
SPAN_LABELS = ("O", "B", "I")


@strict
class ScannerConfig(MnerConfig):
    """The shape of SCANNER's two stages.

    Args:
        text_config: encoder of stage 1 (span candidate detection), or the only encoder of a single-stage model. Any
            text encoder that `AutoModel` loads.
        recognition_text_config: encoder of stage 2 in `ScannerForMultimodalNer`; `None` = the same as stage 1.
        id2label: the classes of stage 2; the entity types and, where trained with cross-fitting, `non-entity`. Stage 1
            always has the three classes of `SPAN_LABELS`.
        grounding_weight: lambda of Eq. 3; 1 for GMNER, 0 for NER and MNER. Whether boxes are proposed is the
            processor's `grounding_threshold`.
        num_shared_layers: `None` = the stages share nothing (the paper). A number = stage 2 uses the embeddings and
            that many lower layers of stage 1; a departure that halves a compact checkpoint.
    """

    model_type = "scanner"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "recognition_text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
    }
    # Tensors that `Trainer` need not gather as predictions.
    keys_to_ignore_at_inference = ["grounding_loss", "overlap_logits"]

    text_config: dict | PreTrainedConfig | None = None
    recognition_text_config: dict | PreTrainedConfig | None = None
    grounding_weight: float | int = 0.0
    num_shared_layers: int | None = None
    tie_word_embeddings: bool = True  # transformers ties shared layers only under this name

    def validate_grounding_weight(self):
        """Refuse a negative weight of the grounding loss."""
        if self.grounding_weight < 0:
            raise ValueError(
                f"`grounding_weight` must be 0 or more (the paper: 1 for GMNER), got {self.grounding_weight}."
            )

    def validate_num_shared_layers(self):
        """Refuse a negative number of shared layers."""
        if self.num_shared_layers is not None and self.num_shared_layers < 0:
            raise ValueError(f"`num_shared_layers` must be None or 0 or more, got {self.num_shared_layers}.")

    def recognition_stage(self) -> "ScannerConfig":
        """Return the configuration of stage 2 alone, with its encoder as `text_config`."""
        config = deepcopy(self)
        config.text_config = deepcopy(self.recognition_text_config or self.text_config)
        config.recognition_text_config = None
        return config


__all__ = ["NON_ENTITY", "SPAN_LABELS", "ScannerConfig"]
