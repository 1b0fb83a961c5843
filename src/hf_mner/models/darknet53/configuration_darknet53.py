"""Configuration of Darknet-53."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

PYRAMID_LEVELS = 3


@strict
class Darknet53Config(BackboneConfigMixin, PreTrainedConfig):
    """The shape of Darknet-53, by default as in YOLOv3.

    The maps are named `stem` (stride 1), `stage1` (stride 2) to `stage5` (stride 32) and, with a pyramid, `pyramid1`
    (the finest, stride 8) to `pyramid3`. `out_features` or `out_indices` choose among them; without either these are
    the three of the pyramid, or else the last three stages.

    Args:
        num_channels: channels of the image.
        embedding_size: channels of the first convolution, an even number; each stage doubles them.
        depths: residual layers of each stage.
        has_pyramid: YOLOv3's feature pyramid over the last three stages; without it the backbone alone.
        negative_slope: slope of the leaky ReLU below 0.
        batch_norm_eps: added to the variance.
    """

    model_type = "darknet53"

    num_channels: int = 3
    embedding_size: int = 32
    depths: list[int] | tuple[int, ...] = (1, 2, 8, 8, 4)
    has_pyramid: bool = True
    negative_slope: float | int = 0.1
    batch_norm_eps: float = 1e-5

    def __post_init__(self, **kwargs):
        """Name the maps and choose those that are given out."""
        self.depths = list(self.depths)
        # The names follow from the fields, also where a checkpoint's own are given.
        kwargs.pop("stage_names", None)
        stages = [f"stage{index}" for index in range(1, len(self.depths) + 1)]
        pyramid = [f"pyramid{index}" for index in range(1, PYRAMID_LEVELS + 1)] if self.has_pyramid else []
        self.stage_names = ["stem", *stages, *pyramid]
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        if out_features is None and out_indices is None:
            out_features = self.stage_names[-PYRAMID_LEVELS:]
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)
        super().__post_init__(**kwargs)

    def validate_embedding_size(self):
        """Refuse a width that the first residual layer cannot halve."""
        if self.embedding_size < 2 or self.embedding_size % 2:
            raise ValueError(
                f"`embedding_size` must be even and at least 2, got {self.embedding_size}; YOLOv3 has 32."
            )

    def validate_depths(self):
        """Refuse fewer stages than the pyramid reads."""
        if not self.depths or min(self.depths) < 0:
            raise ValueError(f"`depths` counts each stage's residual layers, got {self.depths}; try (1, 2, 8, 8, 4).")
        if self.has_pyramid and len(self.depths) < PYRAMID_LEVELS:
            raise ValueError(
                f"`depths={self.depths}` has {len(self.depths)} stages, and the pyramid reads the last"
                f" {PYRAMID_LEVELS}; give more, or `has_pyramid=False`."
            )


__all__ = ["Darknet53Config"]
