"""MMAVK (Wang et al. 2025): every word is fused with what a multimodal LLM says of the image, then a CRF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from hf_mner.layers.crf import LinearChainCrf
from hf_mner.layers.pooling import gather_tokens
from hf_mner.layers.prefix import VisualPrefix, attend_with_prefix
from hf_mner.models.base.backbones import hidden_size, load_text_encoder, resolve_backbone, text_encoder
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.tagging import TaggingModel, check_tags

from .configuration_mmavk import MmavkConfig


@dataclass
class MmavkOutput(ModelOutput):
    """What `MmavkForTokenClassification` gives.

    Args:
        loss: scalar, when labels were given: Eq. 12.
        logits: `b n c`, the CRF's emissions for each word; rows of padding are meaningless.
        tags: `b n`, long, the best path; -1 marks padding. `None` while training.
        tag_probabilities: `b n`, the marginal probability of each of these tags; 0 at padding. `None` in training.
        knowledge_weight: `b 1`, what the example's knowledge counted, where it had any. `None` in training.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    tags: Tensor | None = None
    tag_probabilities: Tensor | None = None
    knowledge_weight: Tensor | None = None


class MmavkForTokenClassification(TaggingModel):
    """A text encoder, one of the four fusions of Table 4, a linear layer and a CRF (section 3.2).

    `word_level`: words `H` (Eq. 5) and auxiliary text (Eq. 6-7) go through the same encoder; the text's `[CLS]` state
    becomes `h_aux = tanh(Linear(h_[CLS]))` (Eq. 8), and each word `h'_i = W[h_i; h_aux]` (Eq. 9-10).

    An example without knowledge, or whose image is less similar to the text than `similarity_threshold`, is read as
    text alone: `h_aux` is 0 (or weighed with `low_similarity_weight`), `concat` masks the auxiliary text, `prefix` the
    prefix.

    Departure: the paper does not say how `W` starts. Ours starts as the identity for the word and near 0 for the
    knowledge, so that training begins with the pretrained words.
    """

    config_class = MmavkConfig
    base_model_prefix = "mmavk"

    def __init__(self, config: MmavkConfig):
        super().__init__(config)
        check_tags(self.class_names)
        width = hidden_size(config)
        self.text_model = text_encoder(config.text_config)
        if config.fusion == "word_level":
            self.knowledge_projection = nn.Linear(width, width)  # Eq. 8
            self.fusion = WordLevelFusion(width)
        elif config.fusion == "prefix":
            attend_with_prefix(self.text_model)
            self.vision_model = vision_encoder(config)
            self.prefix = VisualPrefix(
                feature_size=feature_size(self.vision_model, config.vision_feature_layers),
                hidden_size=config.prefix_hidden_size,
                key_size=width,
                num_layers=self.text_model.config.num_hidden_layers,
                num_blocks=len(config.vision_feature_layers),
            )
            self.input_modalities = ("text", "image")  # the other fusions read knowledge about images
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(width, config.num_labels)
        self.crf = LinearChainCrf(config.num_labels)
        self.post_init()

    @classmethod
    def from_backbones(
        cls,
        text: str,
        vision: str | None = None,
        *,
        vocab_size: int | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        **config_kwargs: Any,
    ) -> MmavkForTokenClassification:
        """Build a model from pretrained encoders; all else starts at random.

        Args:
            text: Hub name or folder of a text encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vision: Hub name or folder of the image encoder; `fusion="prefix"` needs it, no other fusion takes it.
            vocab_size: rows of the embedding table; `None` = as the encoder has them.
            text_kwargs: fields of the text encoder's configuration to replace.
            config_kwargs: fields of `MmavkConfig`; `id2label` are the BIO tags (`hf_mner.data.bio_labels(types)`).

        Raises:
            ValueError: if `vision` is missing for `prefix`, or given for another fusion.
        """
        fusion = config_kwargs.get("fusion", MmavkConfig.fusion)
        if vision is not None and fusion != "prefix":
            raise ValueError(
                f"`vision={vision!r}` is not read by `fusion={fusion!r}`; leave it out, or use `fusion='prefix'`."
            )
        source = load_text_encoder(text, vocab_size, **(text_kwargs or {}))
        vision_config = AutoConfig.from_pretrained(resolve_backbone(vision)) if vision else None
        model = cls(cls.new_config(text_config=source.config, vision_config=vision_config, **config_kwargs))
        model.text_model.load_state_dict(source.state_dict())
        if vision is not None:
            images = AutoModel.from_pretrained(resolve_backbone(vision), dtype=torch.float32, use_safetensors=True)
            model.vision_model.load_state_dict(images.state_dict())
            model.config.vision_config.name_or_path = vision
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if hasattr(self, "fusion") and module is self.fusion.word:
            # Asked of the layer itself: transformers takes a module without own parameters for initialised.
            init.eye_(module.weight)

    def train(self, mode: bool = True) -> MmavkForTokenClassification:
        """Switch to training or evaluation; the frozen image encoder stays in evaluation."""
        super().train(mode)
        if hasattr(self, "vision_model"):
            self.vision_model.requires_grad_(False).eval()  # loading a checkpoint makes every parameter trainable
        return self

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Choose how attention is computed; an encoder with a prefix keeps the attention that reads it."""
        super().set_attn_implementation(*args, **kwargs)
        if self.config.fusion == "prefix":
            attend_with_prefix(self.text_model)

    # ----------------------------------------------------------------------------------------------- forward

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_subword_index: Tensor,
        token_type_ids: Tensor | None = None,
        knowledge_token_mask: Tensor | None = None,
        knowledge_index: Tensor | None = None,
        knowledge_input_ids: Tensor | None = None,
        knowledge_attention_mask: Tensor | None = None,
        knowledge_states: Tensor | None = None,
        pixel_values: Tensor | None = None,
        visual_features: Tensor | None = None,
        image_mask: Tensor | None = None,
        similarity: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> MmavkOutput:
        """Score, and outside training decode, the tag of every word.

        Args:
            input_ids: `b t`.
            attention_mask: `b t`, 1 for real tokens, 0 for padding.
            first_subword_index: `b n`, long; position of each word's first sub-word, `-1` marks padding.
            token_type_ids: `b t`, segments, for encoders that know them (`concat`).
            knowledge_token_mask: `b t`, 1 for tokens of the auxiliary text (`concat`).
            knowledge_index: `b`, long; row of the knowledge inputs below that belongs to each example, -1 = none.
            knowledge_input_ids: `k s`, distinct auxiliary texts (`word_level`).
            knowledge_attention_mask: `k s`, 1 for real tokens.
            knowledge_states: `k d`, in their place what `encode_knowledge` made of them.
            pixel_values: `k m 3 h w`, distinct images, each with its crops (`prefix`).
            visual_features: `k m p f`, in their place what `encode_images` made of them.
            image_mask: `k m`, 1 for a real image or crop.
            similarity: `b`, Eq. 4; 1 where it is not known.
            labels: `b n`, tag indices; `-100` marks padding. A row without any label counts for nothing.

        Raises:
            ValueError: if the inputs are those of another fusion, or one lacks its mask or `knowledge_index`.
        """
        self.check_fusion(
            concat=knowledge_token_mask is not None,
            word_level=knowledge_states is not None or knowledge_input_ids is not None,
            prefix=visual_features is not None or pixel_values is not None,
        )
        require_with("knowledge_input_ids", knowledge_input_ids, knowledge_attention_mask=knowledge_attention_mask)
        for name, value in (("knowledge_input_ids", knowledge_input_ids), ("knowledge_states", knowledge_states)):
            require_with(name, value, knowledge_index=knowledge_index)
        for name, value in (("pixel_values", pixel_values), ("visual_features", visual_features)):
            require_with(name, value, image_mask=image_mask, knowledge_index=knowledge_index)
        weight = self.knowledge_weight(similarity, len(input_ids), input_ids.device)
        kwargs: dict[str, Any] = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if knowledge_token_mask is not None:
            attention_mask = attention_mask * ~(knowledge_token_mask.bool() & (weight == 0).unsqueeze(1))
        if pixel_values is not None and image_mask is not None:
            visual_features = self.encode_images(pixel_values, image_mask)
        if visual_features is not None:
            kwargs["prefix"] = self.prefix(visual_features, image_mask, knowledge_index, weight)
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        words = gather_tokens(states, first_subword_index)  # b n d, Eq. 5
        if knowledge_input_ids is not None and knowledge_attention_mask is not None:
            knowledge_states = self.encode_knowledge(knowledge_input_ids, knowledge_attention_mask)
        if self.config.fusion == "word_level":
            words = self.fusion(words, knowledge_states, knowledge_index, weight)
        logits = self.classifier(self.dropout(words))  # b n c
        output = MmavkOutput(logits=logits)
        if labels is not None:
            output["loss"] = self.sequence_loss(logits, labels)
        if not self.training:
            output["tags"], output["tag_probabilities"] = self.decode(logits, first_subword_index >= 0)
            output["knowledge_weight"] = weight.unsqueeze(1)
        return output

    def check_fusion(self, **given: bool) -> None:
        """Refuse the inputs of a processor with another fusion; each says whether its inputs are there."""
        for fusion, is_given in given.items():
            if is_given and self.config.fusion != fusion:
                raise ValueError(
                    f"These inputs are for `fusion={fusion!r}`, the model has `fusion={self.config.fusion!r}`; give"
                    " the processor the same `fusion`."
                )

    def knowledge_weight(self, similarity: Tensor | None, size: int, device: torch.device) -> Tensor:
        """Return `b`, what each example's knowledge counts: the filter of section 3.1 (end) on Eq. 4's similarity."""
        if similarity is None:
            return torch.ones(size, device=device)
        is_low = similarity < self.config.similarity_threshold
        return torch.where(is_low, float(self.config.low_similarity_weight), 1.0)

    def encode_knowledge(self, knowledge_input_ids: Tensor, knowledge_attention_mask: Tensor) -> Tensor:
        """Encode auxiliary texts: `k s` tokens give `k d`, Eq. 7 and 8."""
        states = self.text_model(
            input_ids=knowledge_input_ids, attention_mask=knowledge_attention_mask
        ).last_hidden_state  # k s d
        return torch.tanh(self.knowledge_projection(states[:, 0]))

    @torch.no_grad()
    def encode_images(self, pixel_values: Tensor, image_mask: Tensor) -> Tensor:
        """Encode images and crops with the frozen vision encoder: `k m 3 h w` gives `k m 4 f`.

        The chosen feature maps are averaged to 2 x 2 positions and concatenated by channels, as HVPNeT does.
        """
        real = image_mask.bool()
        pixels = pixel_values[real].to(self.vision_model.dtype)
        maps = self.vision_model(pixels, output_hidden_states=True).hidden_states
        pooled = [F.adaptive_avg_pool2d(maps[layer], 2).flatten(2) for layer in self.config.vision_feature_layers]
        features = torch.cat(pooled, dim=1).transpose(1, 2)  # r 4 f
        encoded = features.new_zeros(*real.shape, *features.shape[1:])
        encoded[real] = features
        return encoded

    # ------------------------------------------------------------------------------------- once for each image

    @torch.no_grad()
    def encode_shared(
        self, rows: Sequence[dict[str, Any]], processor: Any, batch_size: int, cache: EncodingCache
    ) -> Sequence[dict[str, Any]]:
        """Encode each distinct auxiliary text, or image, once; see the base class."""
        fusion = getattr(processor, "fusion", None)
        if fusion is None:
            raise ValueError(
                f"`{type(processor).__name__}` does not fit `{type(self).__name__}`; give the model its own processor,"
                " `MmavkProcessor`."
            )
        self.check_fusion(**{fusion: True})
        if self.config.fusion == "word_level":
            return self.share_knowledge(rows, processor, batch_size, cache)
        if self.config.fusion == "prefix":
            return self.share_images(rows, processor, cache)
        return rows

    def share_knowledge(
        self, rows: Sequence[dict[str, Any]], processor: Any, batch_size: int, cache: EncodingCache
    ) -> list[dict[str, Any]]:
        """Give rows `knowledge_state` (`d`) beside their `knowledge_ids`."""
        keys = [row["knowledge_ids"] for row in rows]
        states = {key: cache[key] for key in dict.fromkeys(keys) if key in cache}
        missing = sorted((key for key in dict.fromkeys(keys) if key and key not in states), key=len)
        for start in range(0, len(missing), batch_size):
            chosen = missing[start : start + batch_size]
            inputs = {name: value.to(self.device) for name, value in processor.knowledge_inputs(chosen).items()}
            for key, state in zip(chosen, self.encode_knowledge(**inputs), strict=True):
                states[key] = cache[key] = state
        return [{**row, "knowledge_state": states[key]} if key else row for row, key in zip(rows, keys, strict=True)]

    def share_images(
        self, rows: Sequence[dict[str, Any]], processor: Any, cache: EncodingCache
    ) -> list[dict[str, Any]]:
        """Give rows `visual_features` (`m 4 f`) beside their image and crops."""
        shared = []
        features: dict[Any, Tensor] = {}
        for row in rows:
            key = processor.image_key(row)
            if key is not None and key not in features:
                if key in cache:
                    features[key] = cache[key]
                else:
                    pixels = processor.pixel_values(row).unsqueeze(0).to(self.device)
                    mask = torch.ones(pixels.shape[:2], device=self.device)
                    features[key] = cache[key] = self.encode_images(pixels, mask)[0].cpu()
            shared.append(row if key is None else {**row, "visual_features": features[key]})
        return shared


class WordLevelFusion(nn.Module):
    """Eq. 9: `h'_i = W[h_i; h_aux]`, with `W` kept as its two halves so that `h_aux` is multiplied once a text."""

    def __init__(self, width: int):
        super().__init__()
        self.word = nn.Linear(width, width)
        self.knowledge = nn.Linear(width, width, bias=False)

    def forward(self, words: Tensor, states: Tensor | None, index: Tensor | None, weight: Tensor) -> Tensor:
        """Fuse every word with its example's knowledge.

        Args:
            words: `b n d`.
            states: `k d`, encoded auxiliary texts; `None` = no example has any.
            index: `b`, row of `states` for each example, -1 = none.
            weight: `b`, what the knowledge counts.

        Returns:
            `b n d`.
        """
        fused = self.word(words)  # b n d
        if states is None or index is None:
            return fused
        weight = (weight * (index >= 0)).unsqueeze(1).to(states.dtype)
        knowledge = self.knowledge(states[index.clamp(min=0)] * weight)  # b d
        return fused + knowledge.unsqueeze(1)


def require_with(name: str, value: Tensor | None, **needed: Tensor | None) -> None:
    """Refuse an input that comes without those that say how it is to be read."""
    missing = [other for other, tensor in needed.items() if tensor is None]
    if value is not None and missing:
        raise ValueError(
            f"`{name}` was given without `{'` and `'.join(missing)}`; pass all that `processor.pad` gives."
        )


def vision_encoder(config: MmavkConfig) -> PreTrainedModel:
    """Build the frozen image encoder of `fusion="prefix"`."""
    if config.vision_config is None:
        raise ValueError(
            "`fusion='prefix'` needs an image encoder; pass `vision=`, for example"
            " `from_backbones('bert-base-cased', 'microsoft/resnet-50', fusion='prefix')`."
        )
    return AutoModel.from_config(config.vision_config).requires_grad_(False).eval()


def feature_size(vision_model: PreTrainedModel, layers: Sequence[int]) -> int:
    """Return the number of channels of the chosen feature maps together, read off a small blank image.

    Raises:
        ValueError: if the model gives no feature maps (a ViT), or fewer than `layers` ask for.
    """
    parameter = next(vision_model.parameters())
    given = getattr(vision_model.config, "image_size", None)
    size = given if isinstance(given, int) else 64
    blank = torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad():
        maps = vision_model(blank, output_hidden_states=True).hidden_states
    if any(states.ndim != 4 for states in maps):
        raise ValueError(
            f"`{type(vision_model).__name__}` gives no feature maps (`b c h w`) as hidden states; use an image encoder"
            " such as ResNet, ConvNeXt or MobileNetV2."
        )
    if unknown := [layer for layer in layers if not -len(maps) <= layer < len(maps)]:
        raise ValueError(
            f"`vision_feature_layers` holds {unknown[0]}, and `{type(vision_model).__name__}` has {len(maps)} hidden"
            f" states; choose from {-len(maps)} to {len(maps) - 1}."
        )
    return sum(maps[layer].shape[1] for layer in layers)


__all__ = ["MmavkForTokenClassification", "MmavkOutput"]
