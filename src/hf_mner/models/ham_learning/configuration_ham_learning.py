"""Configuration of HamLearning."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto import AutoConfig

from hf_mner.models.base.configuration_base import MnerConfig, Modality

View = Literal["semantic", "spatial"]
VIEWS: tuple[View, ...] = get_args(View)
# Numbers of objects' classes: of an unknown one, of an image as its own object, of the first of `object_labels`.
UNKNOWN, WHOLE_IMAGE, FIRST_LABEL = range(3)
MIN_IMAGE_SIZE = 32  # pixels, the stride of the map that stands for the whole image


@strict
class HamLearningConfig(MnerConfig):
    """The shape of HamLearning. All Transformers have the width of the text encoder.

    Args:
        text_config: the encoder of texts. Any text encoder that `AutoModel` loads.
        vision_config: the encoder of images: any backbone with a feature map of stride 32 (and 16, where objects are
            pooled from it), or a model whose hidden states are such maps. `None` for `modality="text"`.
        id2label: the tags: `O`, and `B-<type>` and `I-<type>` for each entity type.
        modality: `text_image`, or `text` for the model without images.
        views: the sights of an image, with V^1 and V^2 as outcome. `semantic` is the ViT, `spatial` the R-GCN; leaving
            one out is the row "w/o ViT" or "w/o RGCN" of Table 2.
        has_relevance: weigh the image by its relevance (Eq. 8 and 9); False is the row "w/o RM": M = 1.
        num_iterations: L, times that text and image read each other (Table 3).
        num_text_layers: of the textual Transformer.
        num_semantic_layers: of the ViT over image and objects.
        num_spatial_layers: of the R-GCN.
        num_attention_heads: of every Transformer.
        classifier_dropout: in the Transformers and before the classifier.
        object_labels: classes of the detector; objects of other classes share one embedding.
        label_embedding_size: width of e^v, the embedding of an object's class (Eq. 3).
        object_feature_size: width of the detector's feature of an object, f_i of Eq. 3 (VinVL: 2048). 0 = it is pooled
            from the image encoder's map of stride 16, for detectors that give boxes and classes alone.
        image_size: side in pixels of the squares that images are scaled to, a multiple of 32.
        is_vision_frozen: leave the image encoder as it is.
        is_constrained: decode only tag sequences that BIO allows.
    """

    model_type = "ham_learning"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True),
    }
    # Tensors that `Trainer` need not gather as predictions; the tags are.
    keys_to_ignore_at_inference = ["logits", "tag_probabilities", "relevance"]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    modality: Modality = "text_image"
    views: list[View] | tuple[View, ...] = VIEWS
    has_relevance: bool = True
    num_iterations: int = 3
    num_text_layers: int = 1
    num_semantic_layers: int = 4
    num_spatial_layers: int = 2
    num_attention_heads: int = 12
    object_labels: list[str] | tuple[str, ...] = ()
    label_embedding_size: int = 300
    object_feature_size: int = 0
    image_size: int = 224
    is_vision_frozen: bool = True
    is_constrained: bool = True

    def __post_init__(self, **kwargs):
        """Build the encoders' configurations and the labels; views have one order, and lists are as in JSON."""
        super().__post_init__(**kwargs)
        self.object_labels = list(self.object_labels)
        self.views = [view for view in VIEWS if view in self.views]

    def validate_views(self):
        """Refuse an image that nothing looks at."""
        if not self.views:
            raise ValueError(f"`views=[]` looks at no image; choose from {', '.join(VIEWS)}, or `modality='text'`.")

    def validate_numbers(self):
        """Refuse counts and sizes of nothing, and images that the strides do not divide."""
        for name in ("num_iterations", "num_attention_heads", "label_embedding_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {getattr(self, name)}.")
        for name in ("num_text_layers", "num_semantic_layers", "num_spatial_layers", "object_feature_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {getattr(self, name)}.")
        check_image_side(self.image_size)

    def validate_object_labels(self):
        """Refuse classes that are given twice."""
        check_object_labels(self.object_labels)


def check_object_labels(labels: Sequence[str]) -> None:
    """Refuse classes that are given twice."""
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise ValueError(f"`object_labels` holds {twice[0]!r} more than once; give each class once.")


def check_image_side(image_size: int) -> None:
    """Refuse an image side (pixels) that the stride of the coarsest map does not divide."""
    if image_size < MIN_IMAGE_SIZE or image_size % MIN_IMAGE_SIZE:
        raise ValueError(
            f"`image_size={image_size}` must be a multiple of {MIN_IMAGE_SIZE}, the stride of the coarsest map; ResNet"
            " reads 224."
        )


__all__ = ["VIEWS", "HamLearningConfig", "View"]
