"""SCANNER (Ok et al., NAACL 2024): detect span candidates, then type and ground each one in a knowledge prompt."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hf_mner.layers.losses import Distillation, classification_loss, grounding_loss
from hf_mner.layers.pooling import gather_token, gather_tokens
from hf_mner.models.base.backbones import encoder_layers, hidden_size, load_text_encoder, text_encoder
from hf_mner.models.base.modeling_base import MnerPreTrainedModel

from .configuration_scanner import NON_ENTITY, SPAN_LABELS, ScannerConfig


@dataclass
class SpanDetectionOutput(ModelOutput):
    """Stage 1.

    Args:
        loss: scalar, when labels were given.
        logits: `b n 3`, raw scores of O, B, I for each word; rows of padding are meaningless.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


@dataclass
class EntityRecognitionOutput(ModelOutput):
    """Stage 2.

    Args:
        loss: scalar, when labels were given: Eq. 3.
        logits: `b c`, raw scores of the entity types and `non-entity`.
        overlap_logits: `b r`, raw overlap score of each object (a sigmoid gives Eq. 2's `o_ij`); `None` = no objects.
        grounding_loss: scalar, Eq. 2 alone, unweighted, when overlaps were given.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    overlap_logits: Tensor | None = None
    grounding_loss: Tensor | None = None


class ScannerPreTrainedModel(MnerPreTrainedModel):
    """What the heads share: configuration, and building from pretrained encoders."""

    config_class = ScannerConfig
    base_model_prefix = "scanner"

    @property
    def entity_types(self) -> list[str]:
        """Name the entity types that stage 2 can give."""
        return [name for name in super().entity_types if name != NON_ENTITY]

    @classmethod
    def from_backbones(cls, text: str, *, vocab_size: int | None = None, **config_kwargs) -> ScannerPreTrainedModel:
        """Build a model from a pretrained text encoder; heads start at random.

        Args:
            text: Hub name or folder of an encoder; names of `PACKAGED_BACKBONES` work without the Hub.
            vocab_size: rows of the embedding table, at least `len(processor.tokenizer)`; `None` = one more than the
                encoder has, for the processor's `[obj]`.
            config_kwargs: fields of `ScannerConfig`.
        """
        source = load_text_encoder(text, vocab_size, added_tokens=1)
        model = cls(cls.new_config(text_config=source.config, **config_kwargs))
        for encoder in model.text_encoders():
            encoder.load_state_dict(source.state_dict())
        return model


class ScannerForSpanDetection(ScannerPreTrainedModel):
    """Stage 1: an encoder and a linear layer over O, B, I on the first sub-word of each word (section 3.1)."""

    stages = ("detection",)
    teacher_fields = {"logits": 1}

    @property
    def class_names(self) -> list[str]:
        """Name the classes of `logits`."""
        return list(SPAN_LABELS)

    def __init__(self, config: ScannerConfig):
        super().__init__(config)
        self.text_model = text_encoder(config.text_config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(hidden_size(config), len(SPAN_LABELS))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_subword_index: Tensor,
        labels: Tensor | None = None,
    ) -> SpanDetectionOutput:
        """Score O, B and I for every word.

        Args:
            input_ids: `b t`.
            attention_mask: `b t`, 1 for real tokens, 0 for padding.
            first_subword_index: `b n`, long; position of each word's first sub-word, `-1` marks padding.
            labels: `b n`, indices of `SPAN_LABELS`; `-100` marks padding and words without a label.
        """
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # b t d
        words = gather_tokens(states, first_subword_index)  # b n d
        logits = self.classifier(self.dropout(words))  # b n 3
        loss = None if labels is None else classification_loss(logits, labels)
        return SpanDetectionOutput(loss=loss, logits=logits)


class ScannerForEntityRecognition(ScannerPreTrainedModel):
    """Stage 2: type a candidate at `<mask>` and score every `[obj]` of its prompt (section 3.2.2, Eq. 1-3)."""

    stages = ("recognition",)
    teacher_fields = {"logits": 0}

    def __init__(self, config: ScannerConfig):
        super().__init__(config)
        self.text_model = text_encoder(config.text_config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(hidden_size(config), config.num_labels)
        self.grounding = nn.Linear(hidden_size(config), 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        mask_token_index: Tensor,
        object_token_index: Tensor | None = None,
        labels: Tensor | None = None,
        overlaps: Tensor | None = None,
    ) -> EntityRecognitionOutput:
        """Type each prompt's candidate and score its objects.

        Args:
            input_ids: `b t`, one prompt for each candidate.
            attention_mask: `b t`, 1 for real tokens, 0 for padding.
            mask_token_index: `b`, long; position of `<mask>`.
            object_token_index: `b r`, long; position of the r-th `[obj]`, `-1` marks padding.
            labels: `b`, class indices; `-100` = no label.
            overlaps: `b r`, IoU targets in [0, 1]; `-100` marks padding.
        """
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # b t d
        logits = self.classifier(self.dropout(gather_token(states, mask_token_index)))  # b c
        overlap_logits = self.score_objects(states, object_token_index)  # b r
        ground = None
        if overlaps is not None and overlap_logits is not None:
            ground = grounding_loss(overlap_logits, overlaps)
        loss = None if labels is None else classification_loss(logits, labels)
        if loss is not None and ground is not None:
            loss = loss + self.config.grounding_weight * ground  # Eq. 3
        return EntityRecognitionOutput(loss=loss, logits=logits, overlap_logits=overlap_logits, grounding_loss=ground)

    def distillation_loss(
        self,
        outputs: EntityRecognitionOutput,
        inputs: Mapping[str, Any],
        teacher: Mapping[str, Tensor],
        distillation: Distillation,
    ) -> Tensor:
        """Return Eq. 3 with Eq. 4 in the place of Eq. 1; the grounding loss never sees the teacher."""
        loss = super().distillation_loss(outputs, inputs, teacher, distillation)
        if outputs.grounding_loss is not None:
            loss = loss + self.config.grounding_weight * outputs.grounding_loss
        return loss

    @classmethod
    def from_span_detection(
        cls, span_detection: ScannerForSpanDetection, num_frozen_layers: int, **config_kwargs
    ) -> ScannerForEntityRecognition:
        """Start stage 2 from a trained stage 1, with its embeddings and lower layers frozen so as to be shared.

        Args:
            span_detection: the trained stage 1.
            num_frozen_layers: lower layers that stay as they are, `num_shared_layers` of `from_stages`.
            config_kwargs: fields of `ScannerConfig`; the encoder is stage 1's.

        Raises:
            ValueError: if the encoder has fewer layers.

        Departure: the paper trains both stages from the pretrained encoder and shares nothing.
        """
        model = cls(cls.new_config(text_config=deepcopy(span_detection.config.text_config), **config_kwargs))
        model.text_model.load_state_dict(span_detection.text_model.state_dict())
        frozen = set(lower_parameter_names(model.text_model, num_frozen_layers))
        for name, parameter in model.text_model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        return model

    def score_objects(self, states: Tensor, object_token_index: Tensor | None) -> Tensor | None:
        """Score the `[obj]` tokens: `b t d` states and `b r` positions give `b r`; `None` where no prompt has one."""
        if object_token_index is None or object_token_index.shape[1] == 0:
            return None
        objects = gather_tokens(states, object_token_index)  # b r d
        return self.grounding(self.dropout(objects)).squeeze(-1)


class ScannerForMultimodalNer(ScannerPreTrainedModel):
    """Both stages in one checkpoint: `span_detection` and `entity_recognition`."""

    def __init__(self, config: ScannerConfig):
        super().__init__(config)
        self.span_detection = ScannerForSpanDetection(config)
        self.entity_recognition = ScannerForEntityRecognition(config.recognition_stage())
        if config.num_shared_layers is not None:
            self._tied_weights_keys = self.shared_parameter_names()
        self.post_init()

    @classmethod
    def from_stages(
        cls,
        span_detection: ScannerForSpanDetection,
        entity_recognition: ScannerForEntityRecognition,
        num_shared_layers: int | None = None,
    ) -> ScannerForMultimodalNer:
        """Join two trained stages.

        Args:
            span_detection: stage 1.
            entity_recognition: stage 2.
            num_shared_layers: share the embeddings and this many lower layers; they must be equal in both stages
                (stage 2 was trained from stage 1 with them frozen). `None` = share nothing.

        Raises:
            ValueError: if the layers to share differ.
        """
        config = entity_recognition.config.recognition_stage()
        config.recognition_text_config = config.text_config
        config.text_config = span_detection.config.text_config
        config.num_shared_layers = num_shared_layers
        model = cls(config)
        states = {
            **{f"span_detection.{name}": value for name, value in span_detection.state_dict().items()},
            **{f"entity_recognition.{name}": value for name, value in entity_recognition.state_dict().items()},
        }
        for copy, original in (model._tied_weights_keys or {}).items():
            if not torch.equal(states[copy].cpu(), states[original].cpu()):
                raise ValueError(
                    f"`num_shared_layers={num_shared_layers}`, but {copy!r} and {original!r} differ; train stage 2"
                    " from stage 1 with these layers frozen, or pass `num_shared_layers=None`."
                )
        model.load_state_dict(states)
        return model

    def text_encoders(self) -> list[PreTrainedModel]:
        """Return the encoders of stage 1 and stage 2."""
        return [self.span_detection.text_model, self.entity_recognition.text_model]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **kwargs) -> nn.Module:
        """Resize the embeddings of both stages, which one tokenizer serves; returns those of stage 1."""
        first = self.span_detection.resize_token_embeddings(new_num_tokens, **kwargs)
        if self.config.num_shared_layers is None:
            self.entity_recognition.resize_token_embeddings(new_num_tokens, **kwargs)
        else:
            self.entity_recognition.set_input_embeddings(first)
        for config in (self.config.text_config, self.config.recognition_text_config):
            if config is not None:
                config.vocab_size = first.num_embeddings
        return first

    def shared_parameter_names(self) -> dict[str, str]:
        """Map each parameter of stage 2 that is shared to the parameter of stage 1 that it equals."""
        names = lower_parameter_names(self.span_detection.text_model, self.config.num_shared_layers)
        return {f"entity_recognition.text_model.{name}": f"span_detection.text_model.{name}" for name in names}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_subword_index: Tensor | None = None,
        mask_token_index: Tensor | None = None,
        object_token_index: Tensor | None = None,
    ) -> SpanDetectionOutput | EntityRecognitionOutput:
        """Run the stage that the inputs belong to: words (`first_subword_index`) or prompts (`mask_token_index`).

        The shapes are those of `ScannerForSpanDetection.forward` (`b t`, `b n`) and
        `ScannerForEntityRecognition.forward` (`b t`, `b`, `b r`). The stages are trained one after the other, so
        there are no labels here.

        Raises:
            ValueError: if neither or both were given.
        """
        if (first_subword_index is None) == (mask_token_index is None):
            raise ValueError(
                "Pass either `first_subword_index` (stage 1: `processor(examples, stage='detection')`) or"
                " `mask_token_index` (stage 2: `processor(examples, stage='recognition')`)."
            )
        if first_subword_index is not None:
            return self.span_detection(input_ids, attention_mask, first_subword_index)
        return self.entity_recognition(input_ids, attention_mask, mask_token_index, object_token_index)


def lower_parameter_names(text_model: PreTrainedModel, num_layers: int) -> list[str]:
    """Name the parameters of the embeddings and of the first `num_layers` layers of an encoder.

    Raises:
        ValueError: if the encoder has fewer layers.
    """
    layers = encoder_layers(text_model)
    if num_layers > len(layers):
        raise ValueError(f"`num_shared_layers={num_layers}`, but the encoder has {len(layers)} layers; share fewer.")
    lower = [text_model.embeddings, *layers[:num_layers]]
    shared = {id(parameter) for module in lower for parameter in module.parameters()}
    return [name for name, parameter in text_model.named_parameters() if id(parameter) in shared]


__all__ = [
    "EntityRecognitionOutput",
    "ScannerForEntityRecognition",
    "ScannerForMultimodalNer",
    "ScannerForSpanDetection",
    "ScannerPreTrainedModel",
    "SpanDetectionOutput",
]
