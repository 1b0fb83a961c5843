"""Configuration of MNER-QG."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto import AutoConfig

from hf_mner.layers.anchors import PHRASE_ANCHORS
from hf_mner.layers.grounding import ObjectLoss
from hf_mner.models.base.configuration_base import MnerConfig, Modality

COARSEST_STRIDE = 32
SMALLEST_IMAGE = 64  # pixels; a coarsest map of one cell has no variance to normalise by


@strict
class MnerQgConfig(MnerConfig):
    """The shape of MNER-QG.

    Args:
        text_config: the encoder of queries and sentences. Any text encoder that `AutoModel` loads.
        vision_config: the encoder of images: any backbone with feature maps of strides 8, 16 and 32, or a model whose
            hidden states are such maps (see `hf_mner.models.base.vision`). `None` for `modality="text"`.
        id2label: the entity types, one query for each.
        modality: `text_image`, or `text` for the variant MNER-QG-Text, which has no image encoder and no grounding.
        hidden_size: width `d` to which words and maps are projected (paper: 512).
        num_attention_heads: of the attention between words and maps.
        classifier_dropout: after the text encoder and before the heads (paper: 0.3).
        image_size: side in pixels of the images, a multiple of 32 (paper: 256).
        has_feature_pyramid: put a feature pyramid on the image encoder. `Darknet53Backbone` has its own.
        is_vision_frozen: leave the image encoder as it is.
        is_text_frozen: leave the text encoder as it is, as FA-VG does.
        anchors: nine pairs of width and height in pixels of a 416-pixel image, small to large.
        object_loss: `bce` (the MNER-QG paper) or `cross_entropy` (FA-VG's public code), see `grounding_loss`.
        has_coordinates: let the grounding head read where a location is, as FA-VG does.
        has_normalized_features: L2-normalise maps and queries before the grounding head, as FA-VG does.
        existence_weight: lambda_1 of Eq. 6; 0 is the row "w/o ED loss" of Table 3.
        span_weight: lambda_2 of Eq. 6.
        grounding_weight: factor of L_QG beside the balance factor; 0 is the row "w/o QG loss": the image is still
            read, and no boxes are given.
        balance: `dynamic`: omega_f of Eq. 6 follows the two losses (see `LossBalance`); `fixed`: it is 1.
    """

    model_type = "mner_qg"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="darknet53", optional=True),
    }
    # Tensors that `Trainer` need not gather as predictions; the tags, or the boxes, are.
    keys_to_ignore_at_inference = ["logits", "existence_logits", "tag_scores", "box_scores", "match_logits"]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    modality: Modality = "text_image"
    hidden_size: int = 512
    num_attention_heads: int = 8
    classifier_dropout: float | int = 0.3
    image_size: int = 256
    has_feature_pyramid: bool = False
    is_vision_frozen: bool = False
    is_text_frozen: bool = False
    anchors: list | tuple = PHRASE_ANCHORS
    object_loss: ObjectLoss = "bce"
    has_coordinates: bool = False
    has_normalized_features: bool = False
    existence_weight: float | int = 1.0
    span_weight: float | int = 2.0
    grounding_weight: float | int = 1.0
    balance: Literal["dynamic", "fixed"] = "dynamic"

    def __post_init__(self, **kwargs):
        """Build the encoders' configurations and the labels; anchors are lists, as JSON keeps them."""
        super().__post_init__(**kwargs)
        self.anchors = [list(anchor) for anchor in self.anchors]

    @property
    def has_grounding(self) -> bool:
        """Tell whether the model gives boxes."""
        return self.modality == "text_image" and self.grounding_weight > 0

    def validate_sizes(self):
        """Refuse widths that heads cannot share and images that the strides do not divide."""
        if self.hidden_size < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size={self.hidden_size}` cannot be cut into `num_attention_heads="
                f"{self.num_attention_heads}`; choose a multiple of it."
            )
        check_image_size(self.image_size)

    def validate_anchors(self):
        """Refuse anchors that three grids cannot share."""
        is_pairs = all(len(anchor) == 2 and min(anchor) > 0 for anchor in self.anchors)
        if len(self.anchors) != 9 or not is_pairs:
            raise ValueError(
                f"`anchors={self.anchors!r}`: expected nine pairs of a width and a height in pixels of a 416-pixel"
                " image, small to large, such as `hf_mner.layers.anchors.YOLOV3_ANCHORS`."
            )

    def validate_weights(self):
        """Refuse negative weights, and a loss of nothing."""
        weights = {name: getattr(self, name) for name in ("existence_weight", "span_weight", "grounding_weight")}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {weight}.")
        if not any(weights.values()):
            raise ValueError(f"All of {', '.join(weights)} are 0, so nothing would be learned; the paper: 1, 2, 1.")


def check_image_size(image_size: int) -> None:
    """Refuse an image side (pixels) that the strides of the maps do not divide."""
    if image_size < SMALLEST_IMAGE or image_size % COARSEST_STRIDE:
        raise ValueError(
            f"`image_size={image_size}` must be a multiple of {COARSEST_STRIDE}, the stride of the coarsest map, and"
            f" {SMALLEST_IMAGE} or more; the paper uses 256."
        )


__all__ = ["MnerQgConfig", "check_image_size"]
