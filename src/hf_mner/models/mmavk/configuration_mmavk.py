"""Configuration of MMAVK."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from typing import Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto import AutoConfig

from hf_mner.models.base.configuration_base import MnerConfig

Fusion = Literal["word_level", "concat", "none", "prefix"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
TEXT_FUSIONS = ("word_level", "concat")  # those that read the auxiliary text


@strict
class MmavkConfig(MnerConfig):
    """The shape of MMAVK.

    Args:
        text_config: the encoder, which words and auxiliary text share. Any text encoder that `AutoModel` loads.
        vision_config: frozen image encoder of `fusion="prefix"`, `None` for the other arms. Any vision model whose
            `hidden_states` are feature maps (ResNet, MobileNetV2, ...).
        id2label: the tags: `O`, and `B-<type>` and `I-<type>` for each entity type.
        fusion: how knowledge meets the words, the arms of Table 4. `word_level`: Eq. 5-10, the paper's own. `concat`:
            "T+T", the knowledge follows the text in one input. `none`: "T-only". `prefix`: "T+I", visual features
            before the keys and values of every self-attention layer.
        similarity_threshold: knowledge whose image-text similarity (Eq. 4) is lower has the weight
            `low_similarity_weight`. Knowledge of unknown similarity is not filtered. -1 = filter nothing.
        low_similarity_weight: from 0 to 1; `concat` and `prefix` cannot weigh and know 0 (left out) and 1 alone.
        is_constrained: decode only tag sequences that BIO allows.
        vision_feature_layers: indices of the vision model's `hidden_states` that make up the prefix (ResNet: its four
            stages).
        prefix_hidden_size: width between the two layers of the prefix encoder.
    """

    model_type = "mmavk"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True),
    }
    # Tensors that `Trainer` need not gather as predictions; the tags are.
    keys_to_ignore_at_inference = ["logits", "tag_probabilities", "knowledge_weight"]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    fusion: Fusion = "word_level"
    similarity_threshold: float | int = 0.35
    low_similarity_weight: float | int = 0.0
    is_constrained: bool = True
    vision_feature_layers: list[int] | tuple[int, ...] = (-4, -3, -2, -1)
    prefix_hidden_size: int = 800

    def validate_similarity(self):
        """Refuse a threshold that is no cosine, and a weight that the fusion cannot apply."""
        check_filter(self.fusion, self.similarity_threshold, self.low_similarity_weight)

    def validate_vision(self):
        """Refuse a prefix of nothing."""
        if not self.vision_feature_layers or self.prefix_hidden_size < 1:
            raise ValueError(
                f"`vision_feature_layers={self.vision_feature_layers}` and `prefix_hidden_size="
                f"{self.prefix_hidden_size}` leave no prefix; give at least one layer and a width of 1 or more."
            )


def check_filter(fusion: str, similarity_threshold: float, low_similarity_weight: float) -> None:
    """Refuse a threshold that is no cosine, and a weight that the fusion cannot apply."""
    if not -1 <= similarity_threshold <= 1:
        raise ValueError(
            f"`similarity_threshold` is a cosine, from -1 (filter nothing) to 1, got {similarity_threshold};"
            " the paper uses 0.35."
        )
    if not 0 <= low_similarity_weight <= 1:
        raise ValueError(f"`low_similarity_weight` must be in [0, 1] (the paper: 0), got {low_similarity_weight}.")
    if fusion in ("concat", "prefix") and low_similarity_weight not in (0, 1):
        raise ValueError(
            f"`fusion={fusion!r}` cannot weigh knowledge with `low_similarity_weight={low_similarity_weight}`; use 0"
            " or 1, or `fusion='word_level'`."
        )


__all__ = ["FUSIONS", "Fusion", "MmavkConfig", "check_filter"]
