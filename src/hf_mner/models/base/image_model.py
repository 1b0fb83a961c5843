"""What systems share that have an image encoder with feature maps: building, freezing, and encoding images once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_mner.layers.starts import OwnStart

from .backbones import load_text_encoder
from .modeling_base import EncodingCache, MnerPreTrainedModel
from .processing_base import Row
from .vision import STRIDES, feature_channels, feature_map_model, load_feature_map_model, select_feature_maps


class ImageModel(MnerPreTrainedModel):
    """A model whose `vision_model` gives feature maps of certain `strides`, unless its `modality` is `text`.

    Its configuration has `modality`, `vision_config` and `is_vision_frozen`.
    """

    strides: ClassVar[tuple[int, ...]] = STRIDES

    def build_vision_model(self) -> list[int]:
        """Build the image encoder, and return the channels of its maps.

        Raises:
            ValueError: if there is none in the configuration, or its maps are not those of the model's strides.
        """
        config = self.config
        if config.vision_config is None:
            raise ValueError(
                "`modality='text_image'` needs an image encoder; pass `vision=`, for example"
                " `from_backbones('bert-base-cased', 'microsoft/resnet-50', ...)`, or `modality='text'`."
            )
        self.vision_model = feature_map_model(config.vision_config)
        channels = feature_channels(self.vision_model)
        if len(channels) != len(self.strides):
            raise ValueError(
                f"`vision_config` gives {len(channels)} feature maps, expected those of strides"
                f" {', '.join(map(str, self.strides))}; choose them with `select_feature_maps(vision_config, strides)`"
                " of `hf_mner.models.base.vision`."
            )
        self.input_modalities = ("text", "image")
        return channels

    @classmethod
    def from_backbones(
        cls,
        text: str,
        vision: str | PreTrainedConfig | None = None,
        *,
        vocab_size: int | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        **config_kwargs: Any,
    ) -> Any:
        """Build a model from pretrained encoders; all else starts at random.

        Args:
            text: Hub name or folder of a text encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vision: Hub name or folder of an image encoder with feature maps, or the configuration of one that starts
                at random; `modality="text"` takes none.
            vocab_size: rows of the embedding table; `None` = as the encoder has them.
            text_kwargs: fields of the text encoder's configuration to replace, for example `num_hidden_layers=2`.
            config_kwargs: fields of the configuration, `id2label` among them.

        Raises:
            ValueError: if `vision` is missing, or given for text alone.
        """
        if vision is not None and config_kwargs.get("modality", cls.config_class.modality) == "text":
            raise ValueError(f"`vision={vision!r}` is not read with `modality='text'`; leave it out.")
        source = load_text_encoder(text, vocab_size, **(text_kwargs or {}))
        images = load_feature_map_model(vision, cls.strides) if isinstance(vision, str) else None
        vision_config = images.config if images is not None else vision and select_feature_maps(vision, cls.strides)
        model = cls(cls.new_config(text_config=source.config, vision_config=vision_config, **config_kwargs))
        model.text_model.load_state_dict(source.state_dict())
        if images is not None:
            model.vision_model.load_state_dict(images.state_dict())
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, OwnStart):
            module.draw_weights()

    def train(self, mode: bool = True) -> Any:
        """Switch to training or evaluation; a frozen image encoder stays in evaluation."""
        super().train(mode)
        if self.config.is_vision_frozen and hasattr(self, "vision_model"):
            self.vision_model.requires_grad_(False).eval()  # loading a checkpoint makes every parameter trainable
        return self

    def encode_distinct_images(
        self, rows: Sequence[Row], processor: Any, batch_size: int, cache: EncodingCache
    ) -> list[Tensor | None]:
        """Encode each distinct image of some rows once.

        Args:
            rows: as the processor made them.
            processor: with `image_key`.
            batch_size: images in one forward pass.
            cache: encodings of earlier calls with the same weights; new ones are added.

        Returns:
            For each row what `encode_image_rows` makes of its image, `None` without one.
        """
        keys = [processor.image_key(row) for row in rows]
        first = {key: row for key, row in zip(keys, rows, strict=True) if key is not None}
        known = {key: cache[key] for key in first if key in cache}
        missing = [key for key in first if key not in known]
        for start in range(0, len(missing), batch_size):
            chosen = missing[start : start + batch_size]
            encoded = self.encode_image_rows([first[key] for key in chosen], processor)
            for key, encoding in zip(chosen, encoded, strict=True):
                known[key] = cache[key] = encoding
        return [None if key is None else known[key] for key in keys]

    def encode_image_rows(self, rows: Sequence[Row], processor: Any) -> list[Tensor]:
        """Encode the images of some rows, each as one vector on the CPU, so that the cache can count its bytes."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it makes of an image.")
