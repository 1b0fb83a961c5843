"""MNER-QG (Jia et al. 2023): each entity type is a query, answered by spans of the text and a box of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from hf_mner.layers.anchors import AnchorGrid, anchor_grid
from hf_mner.layers.attention import AttentionPooling, CrossAttention, LabelAttention
from hf_mner.layers.balance import LossBalance
from hf_mner.layers.grounding import GroundingHead, GroundingScores, ground, grounding_loss
from hf_mner.layers.losses import (
    IGNORE_INDEX,
    Distillation,
    classification_loss,
    trust_your_teacher_binary_loss,
)
from hf_mner.layers.pooling import gather_tokens
from hf_mner.layers.pyramid import FeaturePyramid, MapProjection
from hf_mner.layers.spans import SpanTargets, decode_spans, span_targets
from hf_mner.layers.starts import Projection
from hf_mner.models.base.backbones import hidden_size, text_encoder
from hf_mner.models.base.image_model import ImageModel
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import Row
from hf_mner.models.base.vision import (
    STRIDES,
    feature_maps,
)

from .configuration_mner_qg import MnerQgConfig


@dataclass
class MnerQgOutput(ModelOutput):
    """What the MNER-QG models give; boxes are those of `image_size` squares (see `hf_mner.data.letterbox`).

    Args:
        loss: scalar, when labels were given: Eq. 6.
        logits: `b n q 2`, raw scores that a word starts and that it ends an entity of each type (Eq. 4);
            `MnerQgForVisualGrounding`: `b a`, raw confidence of each place.
        tags: `b n`, long, the decoded entities: 0 = outside, `1 + 2 k` and `2 + 2 k` = first and further words of an
            entity of type `k`; -1 marks padding. `None` while training.
        tag_scores: `b n`, the score of the entity that each word belongs to. `None` while training.
        existence_logits: `b q`, raw score that the text has an entity of the type (Eq. 3).
        boxes: `b q 4`, the box of each query, corners as fractions of the square. `None` while training.
        box_scores: `b q`, its confidence in [0, 1]; 0 where there is no image. `None` while training.
        match_logits: `b n n q`, raw scores that a start (second dimension) and an end (third) belong together
            (Eq. 5), while training and on request.
        grounding_loss: scalar, the weighted and balanced L_QG of Eq. 6, while training with boxes.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    tags: Tensor | None = None
    tag_scores: Tensor | None = None
    existence_logits: Tensor | None = None
    boxes: Tensor | None = None
    box_scores: Tensor | None = None
    match_logits: Tensor | None = None
    grounding_loss: Tensor | None = None


class MnerQgPreTrainedModel(ImageModel):
    """What the joint model and its grounding alone share: the encoders, the query's summary and the grounding."""

    config_class = MnerQgConfig
    base_model_prefix = "mner_qg"

    def build_encoders(self) -> None:
        """Build what reads text and images."""
        config = self.config
        self.text_model = text_encoder(config.text_config)
        self.text_projection = Projection(hidden_size(config), config.hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        if config.modality == "text_image":
            self.build_vision()

    def build_vision(self) -> None:
        """Build the image encoder, the maps' projections and, where it is trained, the grounding."""
        config = self.config
        self.map_channels = channels = self.build_vision_model()
        if config.has_feature_pyramid:
            self.pyramid = FeaturePyramid(channels, config.hidden_size)
            channels = [config.hidden_size] * len(channels)
        self.map_projections = nn.ModuleList(MapProjection(width, config.hidden_size) for width in channels)
        if config.has_grounding:
            self.query_pooling = AttentionPooling(config.hidden_size)
            self.grounding = GroundingHead(config.hidden_size, len(channels), config.has_coordinates)

    def train(self, mode: bool = True) -> Any:
        """Switch to training or evaluation; frozen encoders stay in evaluation."""
        super().train(mode)
        if self.config.is_text_frozen:
            self.text_model.requires_grad_(False).eval()
        return self

    def count_labels(self, labels: Tensor) -> Tensor:
        """Count the labelled texts, or phrases with a box; the parts of the loss are means over parts of them.

        Args:
            labels: `b n`, -100 marks padding, or `b 1 4`, negative boxes mark what has none.
        """
        return ((labels >= 0).flatten(1)).any(1).sum()

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Encode `[CLS] query [SEP] sentence [SEP]`: `r t` gives `H'`, `r t d`."""
        kwargs = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.is_text_frozen):
            states = self.text_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        return self.text_projection(self.dropout(states))

    def encode_images(self, pixel_values: Tensor) -> list[Tensor]:
        """Run the image encoder: `k 3 h w` gives its maps, `k c h w`, the finest first."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.is_vision_frozen):
            return feature_maps(self.vision_model, pixel_values.to(self.vision_model.dtype))

    def project_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Project the image encoder's maps: `U_i`, `k d h w`."""
        maps = self.pyramid(maps) if self.config.has_feature_pyramid else maps
        return [project(features) for project, features in zip(self.map_projections, maps, strict=True)]

    def read_maps(
        self, pixel_values: Tensor | None, maps: Sequence[Tensor | None], image_index: Tensor | None
    ) -> list[Tensor] | None:
        """Return the projected maps of the images, or of what `encode_images` made of them; `None` without any.

        The text variant reads none, whatever the batch holds.
        """
        if self.config.modality == "text":
            return None
        if image_index is None and (pixel_values is not None or any(features is not None for features in maps)):
            raise ValueError("Images were given without `image_index`; pass all that `processor.pad` gives.")
        if pixel_values is not None:
            return self.project_maps(self.encode_images(pixel_values))
        dtype = self.text_projection.weight.dtype
        given = [features.to(dtype) for features in maps if features is not None]
        return self.project_maps(given) if given else None

    def score_places(
        self, states: Tensor, query_token_mask: Tensor, maps: Sequence[Tensor], image_index: Tensor
    ) -> GroundingScores:
        """Score every place of an image for a query.

        Args:
            states: `m t d`, encoded queries.
            query_token_mask: `m t`, 1 for the query's own tokens.
            maps: `k d h w` for each scale.
            image_index: `m`, long, the image of each.
        """
        queries = self.dropout(self.query_pooling(states, query_token_mask))  # m d, Eq. 1
        if self.config.has_normalized_features:
            queries, maps = F.normalize(queries, dim=-1), [F.normalize(features, dim=1) for features in maps]
        return self.grounding(queries, maps, image_index)

    def anchor_grid(self, maps: Sequence[Tensor]) -> AnchorGrid:
        """Lay the anchors on the maps."""
        return anchor_grid(self.config.anchors, [features.shape[-1] for features in maps], maps[0].device)

    # ------------------------------------------------------------------------------------- once for each image

    @torch.no_grad()
    def encode_shared(
        self, rows: Sequence[dict[str, Any]], processor: Any, batch_size: int, cache: EncodingCache
    ) -> Sequence[dict[str, Any]]:
        """Encode each distinct image once; rows get `feature_maps` (`c h w` each) beside their image."""
        if "image" not in self.input_modalities:
            return rows
        if processor.image_size != self.config.image_size:
            raise ValueError(
                f"The processor has `image_size={processor.image_size}` and the model {self.config.image_size}; give"
                " both the same."
            )
        shapes = self.map_shapes()
        encoded = self.encode_distinct_images(rows, processor, batch_size, cache)
        return [
            row if flat is None else {**row, "feature_maps": split_maps(flat, shapes)}
            for row, flat in zip(rows, encoded, strict=True)
        ]

    def encode_image_rows(self, rows: Sequence[Row], processor: Any) -> list[Tensor]:
        """Encode the images of some rows: all maps of an image in one vector, which `split_maps` cuts up."""
        pixels = torch.stack([processor.pixel_values(row) for row in rows]).to(self.device)
        return list(torch.cat([features.flatten(1) for features in self.encode_images(pixels)], dim=1).cpu())

    def map_shapes(self) -> list[tuple[int, int, int]]:
        """Return channels, height and width of the image encoder's maps."""
        sides = [self.config.image_size // stride for stride in STRIDES]
        return [(width, side, side) for width, side in zip(self.map_channels, sides, strict=True)]


class MnerQgForMultimodalNer(MnerQgPreTrainedModel):
    """Entity spans and image boxes from one model, by answering one query for each entity type.

    Departures: answers are words of the sentence, so the heads read the states of the words' first sub-words alone,
    where the paper asks every token. A text without an image is read with `H_a` = 0.
    """

    stages = ("recognition",)
    teacher_fields = {"logits": 1, "existence_logits": 0, "match_logits": 2}

    def __init__(self, config: MnerQgConfig):
        super().__init__(config)
        width = config.hidden_size
        self.build_encoders()
        if config.modality == "text_image":
            self.image_attention = nn.ModuleList(CrossAttention(width, config.num_attention_heads) for _ in STRIDES)
        self.fusion = nn.Sequential(
            Projection(width * (2 if config.modality == "text_image" else 1), width),
            nn.GELU(),
            Projection(width, width),
        )
        self.existence_pooling = AttentionPooling(width)
        self.start_labels, self.end_labels, self.existence_labels = (LabelAttention(width) for _ in range(3))
        self.start_existence, self.end_existence = ExistenceAwareness(width), ExistenceAwareness(width)
        self.existence_attention = CrossAttention(width, 1)
        self.existence_norm = nn.LayerNorm(width)
        self.existence_classifier = nn.Linear(width, 2)  # W_exist, Eq. 3
        self.start_classifier = nn.Linear(width, 2)  # W_s, Eq. 4
        self.end_classifier = nn.Linear(width, 2)
        self.match_classifier = nn.Linear(2 * width, 1)  # W_m, Eq. 5
        if config.has_grounding:
            self.balance = LossBalance()
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        first_subword_index: Tensor,
        query_token_mask: Tensor,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        feature_map_8: Tensor | None = None,
        feature_map_16: Tensor | None = None,
        feature_map_32: Tensor | None = None,
        image_index: Tensor | None = None,
        labels: Tensor | None = None,
        box_labels: Tensor | None = None,
        return_match_logits: bool = False,
    ) -> MnerQgOutput:
        """Answer the queries of all types about each text.

        Args:
            input_ids: `(b q) t`, `[CLS] query [SEP] sentence [SEP]`: the `q` queries of the first text, then those of
                the second, and so on.
            attention_mask: `(b q) t`, 1 for real tokens, 0 for padding.
            first_subword_index: `(b q) n`, long; position of each word's first sub-word, -1 marks padding.
            query_token_mask: `(b q) t`, 1 for the query's own tokens.
            token_type_ids: `(b q) t`, segments, for encoders that know them.
            pixel_values: `k 3 h w`, distinct images.
            feature_map_8: `k c h w`, in their place the maps that `encode_images` made of them: stride 8,
            feature_map_16: stride 16,
            feature_map_32: and stride 32.
            image_index: `b`, long, the image of each text, -1 = none.
            labels: `b n`, see `span_targets`; -100 marks padding. A text without any label counts for nothing.
            box_labels: `b q 4`, gold box of each query, corners as fractions of the square; negative where the query
                is not in the image.
            return_match_logits: also give `match_logits`.

        Raises:
            ValueError: if the queries are not those of the model's types.
        """
        num_types = self.config.num_labels
        if len(input_ids) % num_types:
            raise ValueError(
                f"{len(input_ids)} inputs cannot be {num_types} queries for each text; give the processor one query"
                " for each of the model's types."
            )
        states = self.encode_text(input_ids, attention_mask, token_type_ids)  # (b q) t d, H'
        maps = self.read_maps(pixel_values, (feature_map_8, feature_map_16, feature_map_32), image_index)
        fused = self.fusion(self.read_image(states, maps, image_index))  # (b q) t d, H_u
        start, end, existence = self.interact(fused, states, attention_mask)
        start, end = gather_tokens(start, first_subword_index), gather_tokens(end, first_subword_index)  # (b q) n d
        by_text = (len(input_ids) // num_types, num_types)
        start_scores = self.start_classifier(start).unflatten(0, by_text)  # b q n 2
        end_scores = self.end_classifier(end).unflatten(0, by_text)
        existence_scores = self.existence_classifier(existence).unflatten(0, by_text)  # b q 2
        match_logits = self.match(start, end).unflatten(0, by_text).movedim(1, -1)  # b n n q
        logits = torch.stack([log_odds(start_scores), log_odds(end_scores)], dim=-1).transpose(1, 2)  # b n q 2
        output = MnerQgOutput(logits=logits, existence_logits=log_odds(existence_scores))
        if return_match_logits or self.training:
            output["match_logits"] = match_logits
        text_mask = (first_subword_index >= 0).unflatten(0, by_text)[:, 0]  # b n
        if labels is not None:
            output["loss"] = self.text_loss(start_scores, end_scores, existence_scores, match_logits, labels)
        if not self.training:
            start_probability, end_probability = logits.float().sigmoid().unbind(-1)
            output["tags"], output["tag_scores"] = decode_spans(
                start_probability, end_probability, match_logits.float().sigmoid(), text_mask
            )
        if self.config.has_grounding:
            self.ground_queries(output, states, query_token_mask, maps, image_index, labels, box_labels)
        return output

    def ground_queries(
        self,
        output: MnerQgOutput,
        states: Tensor,
        query_token_mask: Tensor,
        maps: Sequence[Tensor] | None,
        image_index: Tensor | None,
        labels: Tensor | None,
        box_labels: Tensor | None,
    ) -> None:
        """Ground the queries of the texts that have an image, and add loss and boxes to the output.

        Args:
            output: of `forward`; texts without an image get boxes of zeros.
            states: `(b q) t d`, `H'`.
            query_token_mask: `(b q) t`.
            maps: `k d h w` for each scale, `None` = no text has an image.
            image_index: `b`, -1 = none.
            labels: `b n`.
            box_labels: `b q 4`.
        """
        num_types = self.config.num_labels
        num_texts = len(states) // num_types
        boxes = torch.zeros(num_texts, num_types, 4, device=states.device)  # not in half precision: 1/256 is coarse
        box_scores = torch.zeros(num_texts, num_types, device=states.device)
        if maps is not None and image_index is not None:
            with_image = torch.nonzero(image_index >= 0).squeeze(-1)
            chosen = (with_image.unsqueeze(1) * num_types + torch.arange(num_types, device=self.device)).flatten()
            images = image_index[with_image].repeat_interleave(num_types)
            scores = self.score_places(states[chosen], query_token_mask[chosen], maps, images)
            grid = self.anchor_grid(maps)
            if labels is not None and box_labels is not None:
                added = self.balanced_grounding_loss(
                    output["loss"], scores, labels[with_image], box_labels[with_image], grid
                )
                output["loss"] = output["loss"] + added
                if self.training:
                    output["grounding_loss"] = added
            if not self.training:
                found, confidence = ground(scores, grid, self.config.object_loss)
                boxes[with_image] = found.unflatten(0, (-1, num_types))
                box_scores[with_image] = confidence.unflatten(0, (-1, num_types))
        if not self.training:
            output["boxes"], output["box_scores"] = boxes, box_scores

    def read_image(self, states: Tensor, maps: Sequence[Tensor] | None, image_index: Tensor | None) -> Tensor:
        """Let tokens read their image at three scales, and put what they read before them: `[H_a; H']`, `(b q) t 2d`.

        All queries of a text read the image together, so that its keys and values are computed once for them.
        """
        if self.config.modality == "text":
            return states
        if maps is None or image_index is None:
            return torch.cat([torch.zeros_like(states), states], dim=-1)
        texts = states.unflatten(0, (len(image_index), -1))  # b q t d
        together = texts.flatten(1, 2)
        index = image_index.clamp(min=0)
        read = [
            attend(together, features.flatten(2).transpose(1, 2)[index])
            for attend, features in zip(self.image_attention, maps, strict=True)
        ]
        seen = torch.stack(read).mean(0) * (image_index >= 0)[:, None, None]  # b (q t) d, H_a
        return torch.cat([seen.unflatten(1, texts.shape[1:3]).flatten(0, 1), states], dim=-1)

    def interact(self, fused: Tensor, states: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Existence-aware uni-modality interaction: tokens and the text's existence signal inform each other.

        The paper writes one symbol for the label-enhanced and for the updated existence representation. We update it
        first, by one attention of existence over all start and end representations, which have read the image, and
        give the updated one to Eq. 2: so what the image tells of existence reaches the spans.

        Args:
            fused: `r t d`, `H_u`.
            states: `r t d`, `H'`.
            attention_mask: `r t`.

        Returns:
            Start and end representations (`r t d`) and the existence representation (`r d`).
        """
        existence = self.existence_labels(self.existence_pooling(states, attention_mask))  # r d
        start, end = self.start_labels(fused), self.end_labels(fused)
        both, both_mask = torch.cat([start, end], dim=1), torch.cat([attention_mask, attention_mask], dim=1)
        read = self.existence_attention(existence.unsqueeze(1), both, both_mask).squeeze(1)
        existence = self.existence_norm(existence + read)
        aware_start, aware_end = self.start_existence(start, existence), self.end_existence(end, existence)
        return self.dropout(aware_start), self.dropout(aware_end), self.dropout(existence)

    def match(self, start: Tensor, end: Tensor) -> Tensor:
        """Eq. 5 for all pairs: `r n d` twice gives `r n n`. A linear layer on `[s; e]` is a sum of two."""
        first, second = self.match_classifier.weight[0].chunk(2)
        return (start @ first).unsqueeze(2) + (end @ second).unsqueeze(1) + self.match_classifier.bias

    def text_loss(self, start: Tensor, end: Tensor, existence: Tensor, match_logits: Tensor, labels: Tensor) -> Tensor:
        """Return `lambda_1 L_ED + lambda_2 L_ESP`.

        Args:
            start: `b q n 2`.
            end: `b q n 2`.
            existence: `b q 2`.
            match_logits: `b n n q`.
            labels: `b n`.

        Departure: the paper does not say over which pairs L_match runs. Ours runs over pairs of gold starts and gold
        ends (one of the choices of BERT-MRC's public code): with predicted ones among them, the number of pairs jumps
        whenever wrong starts pass one half, and the loss with it. So the match tells ends of other entities of the
        type from the right one, and never sees a start or an end that is wrong itself.
        """
        targets, asked = self.answers(labels)
        start_loss, end_loss, existence_loss = (
            classification_loss(scores, target.long().masked_fill(~counts, IGNORE_INDEX))
            for scores, target, counts in (
                (start.transpose(1, 2), targets.start, asked.start),
                (end.transpose(1, 2), targets.end, asked.end),
                (existence, targets.exists, asked.exists),
            )
        )
        errors = F.binary_cross_entropy_with_logits(
            match_logits[asked.match].float(), targets.match[asked.match].float(), reduction="sum"
        )
        return self.weigh(existence_loss, start_loss, end_loss, errors / asked.match.sum().clamp(min=1))

    def answers(self, labels: Tensor) -> tuple[SpanTargets, SpanTargets]:
        """Return the gold answers, and which of them the losses ask for (bool, True = asked), see `text_loss`."""
        targets = span_targets(labels, self.config.num_labels)
        labelled = labels != IGNORE_INDEX
        words = labelled.unsqueeze(-1).expand_as(targets.start)
        in_order = torch.triu(labelled.unsqueeze(2) & labelled.unsqueeze(1)).unsqueeze(-1)  # b n n 1
        pairs = targets.start.unsqueeze(2) & targets.end.unsqueeze(1) & in_order
        return targets, SpanTargets(words, words, pairs, labelled.any(1, keepdim=True).expand_as(targets.exists))

    def weigh(self, existence: Tensor, start: Tensor, end: Tensor, match: Tensor) -> Tensor:
        """Add up losses to `lambda_1 L_ED + lambda_2 L_ESP`."""
        return self.config.existence_weight * existence + self.config.span_weight * (start + end + match)

    def read_as_teacher(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the raw scores of starts and ends (`b n q 2`), existence (`b q`) and pairs (`b n n q`)."""
        unlabelled = {name: value for name, value in inputs.items() if name not in ("labels", "box_labels")}
        outputs = self(**unlabelled, return_match_logits=True)
        return {name: outputs[name] for name in self.teacher_fields}

    def distillation_loss(
        self,
        outputs: Any,
        inputs: Mapping[str, Any],
        teacher: Mapping[str, Tensor],
        distillation: Distillation,
    ) -> Tensor:
        """Return Eq. 6 with Eq. 4 of SCANNER in each loss of the text; L_QG and its balance never see the teacher.

        Each of existence, start, end and match is a choice of yes or no for each position that its plain loss asks,
        with a trust `a_i` of its own. The losses are means and have the weights of the plain ones. A softmax over two
        scores is the sigmoid of their difference, which the outputs hold. The balance of Eq. 6 follows the plain loss.

        Source: SCANNER, Eq. 4, which has no spans; the formulation is ours.
        """
        targets, asked = self.answers(inputs["labels"])
        start, end = outputs.logits.unbind(-1)  # b n q
        teacher_start, teacher_end = teacher["logits"].unbind(-1)
        existence, match = outputs.existence_logits, outputs.match_logits
        loss = self.weigh(
            *(
                trust_your_teacher_binary_loss(student, said, target, counts, distillation)
                for student, said, target, counts in (
                    (existence, teacher["existence_logits"], targets.exists, asked.exists),
                    (start, teacher_start, targets.start, asked.start),
                    (end, teacher_end, targets.end, asked.end),
                    (match, teacher["match_logits"], targets.match, asked.match),
                )
            )
        )
        return loss if outputs.grounding_loss is None else loss + outputs.grounding_loss

    def balanced_grounding_loss(
        self, text_loss: Tensor, scores: GroundingScores, labels: Tensor, box_labels: Tensor, grid: AnchorGrid
    ) -> Tensor:
        """Return the balanced and weighted L_QG, which Eq. 6 adds to the loss of the text.

        Args:
            text_loss: a scalar.
            scores: of the queries of `b` texts with an image.
            labels: `b n`; a text without any label counts for nothing.
            box_labels: `b q 4`.
            grid: the places.
        """
        counts = (labels != IGNORE_INDEX).any(1).repeat_interleave(self.config.num_labels)  # m
        boxes = box_labels.flatten(0, 1)[counts]
        kept = GroundingScores(scores.confidence[counts], scores.shifts[counts])
        loss = grounding_loss(kept, boxes, boxes[:, 2] > 0, grid, self.config.object_loss)
        factor = self.balance(text_loss, loss) if self.config.balance == "dynamic" else 1.0
        return self.config.grounding_weight * factor * loss


class MnerQgForVisualGrounding(MnerQgPreTrainedModel):
    """FA-VG: the box of a phrase, with the encoders and the grounding head of MNER-QG and no text task.

    Departure: Yang et al. average the `[CLS]` states of BERT's last four layers; we sum the phrase's own tokens up by
    Eq. 1, so that the weights are those of the joint model's grounding.
    """

    stages = ("grounding",)

    def __init__(self, config: MnerQgConfig):
        super().__init__(config)
        if not config.has_grounding:
            raise ValueError(
                "`MnerQgForVisualGrounding` grounds; give it `modality='text_image'` and a `grounding_weight` above 0."
            )
        self.build_encoders()
        self.post_init()

    @property
    def entity_types(self) -> list[str]:
        """Name the entity types that the model can give: none, it grounds what it is given."""
        return []

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        query_token_mask: Tensor,
        image_index: Tensor,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        feature_map_8: Tensor | None = None,
        feature_map_16: Tensor | None = None,
        feature_map_32: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> MnerQgOutput:
        """Find each phrase in its image.

        Args:
            input_ids: `b t`, `[CLS] phrase [SEP]`.
            attention_mask: `b t`, 1 for real tokens.
            query_token_mask: `b t`, 1 for the phrase's own tokens.
            image_index: `b`, long, the image of each phrase.
            token_type_ids: `b t`, segments.
            pixel_values: `k 3 h w`, distinct images.
            feature_map_8: `k c h w`, in their place the maps that `encode_images` made of them: stride 8,
            feature_map_16: stride 16,
            feature_map_32: and stride 32.
            labels: `b 1 4`, gold boxes, corners as fractions of the square; negative = no label.
        """
        states = self.encode_text(input_ids, attention_mask, token_type_ids)
        maps = self.read_maps(pixel_values, (feature_map_8, feature_map_16, feature_map_32), image_index)
        if maps is None:
            raise ValueError("Grounding needs an image; give `pixel_values`, or the three `feature_map_*`.")
        scores = self.score_places(states, query_token_mask, maps, image_index)
        grid = self.anchor_grid(maps)
        output = MnerQgOutput(logits=scores.confidence)
        if labels is not None:
            boxes = labels.flatten(0, 1)
            known = boxes[:, 2] > 0
            kept = GroundingScores(scores.confidence[known], scores.shifts[known])
            output["loss"] = grounding_loss(kept, boxes[known], known[known], grid, self.config.object_loss)
        if not self.training:
            boxes, confidence = ground(scores, grid, self.config.object_loss)
            output["boxes"], output["box_scores"] = boxes.unsqueeze(1), confidence.unsqueeze(1)
        return output


class ExistenceAwareness(nn.Module):
    """Eq. 2: words attend to the existence representation and are normalised.

    There is one key, so the softmax of Eq. 2 is 1 whatever `Q_s` and `K_g` are. We keep `V_g` alone; the result is the
    printed one.
    """

    def __init__(self, width: int):
        super().__init__()
        self.value = Projection(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, existence: Tensor) -> Tensor:
        """Inform words: `r n d` and `r d` give `r n d`."""
        return self.norm(words + self.value(existence).unsqueeze(1))


def log_odds(scores: Tensor) -> Tensor:
    """Return the raw score of "yes" of a softmax over no and yes: `... 2` gives `...`."""
    return scores[..., 1] - scores[..., 0]


def split_maps(flat: Tensor, shapes: Sequence[tuple[int, int, int]]) -> list[Tensor]:
    """Cut one long vector into maps of the given shapes."""
    parts = flat.split([channels * height * width for channels, height, width in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


__all__ = ["MnerQgForMultimodalNer", "MnerQgForVisualGrounding", "MnerQgOutput", "MnerQgPreTrainedModel"]
