"""HamLearning (Liu et al. 2023): text and image aligned at several levels, weighed by relevance, then a CRF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from hf_mner.layers.crf import LinearChainCrf
from hf_mner.layers.pooling import sum_subwords
from hf_mner.layers.regions import pool_regions
from hf_mner.layers.relations import relation_graph
from hf_mner.layers.rgcn import GatedRelationalConvolution
from hf_mner.layers.starts import OwnStart, Projection
from hf_mner.layers.transformer import TransformerLayer
from hf_mner.models.base.backbones import hidden_size, text_encoder
from hf_mner.models.base.image_model import ImageModel
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import Row
from hf_mner.models.base.tagging import TaggingModel, check_tags
from hf_mner.models.base.vision import (
    feature_maps,
)

from .configuration_ham_learning import FIRST_LABEL, HamLearningConfig

PLACE = 4  # x, y, h, w
WHOLE_PLACE = (0.5, 0.5, 1.0, 1.0)  # that of the image itself


@dataclass
class HamLearningOutput(ModelOutput):
    """What `HamLearningForTokenClassification` gives.

    Args:
        loss: scalar, when labels were given: Eq. 17.
        logits: `b n c`, the CRF's emissions for each word; rows of padding are meaningless.
        tags: `b n`, long, the best path; -1 marks padding. `None` while training.
        tag_probabilities: `b n`, the marginal probability of each of these tags; 0 at padding. `None` in training.
        relevance: `b v`, M^r of Eq. 9 for each of `config.views`, in (-1, 1); 0 where a text has no image. `None` in
            training, without relevance measuring, and for text alone.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    tags: Tensor | None = None
    tag_probabilities: Tensor | None = None
    relevance: Tensor | None = None


class HamLearningForTokenClassification(TaggingModel, ImageModel):
    """Intra-modality learning of text and image, relevance measuring, inter-modality learning, and a CRF.

    Departures, and choices that the paper leaves open:

    - A text without an image is read by itself: there is nothing for its words to read. An image without objects has
      one, itself.
    - v_[IMG] (Eq. 2) is linear in the mean of the map, not in its 49 positions.
    - The ViT has no position embeddings: objects have no order.
    - The outcome of the R-GCN is normalised, as that of a ViT is: Eq. 5 is a sum over neighbours, so the super-node
      would grow with the number of objects and saturate Eq. 8 and 9.
    - Each view has its own theta^M (Eq. 10): its nodes have a width of their own. W_gcn (Eq. 6) has a bias, the two
      layers of Eq. 12 a GELU between them, and each Transformer of section 3.3 is one layer, normalised as BERT's.
    - M^r (Eq. 9) is one number for an image, a score; Eq. 9 prints W_TI for two matrices, which are two here.
    - The three parts of inter-modality learning keep their weights over the L iterations, and read what the iteration
      before left ("synchronous").
    """

    config_class = HamLearningConfig
    strides = (16, 32)  # of the maps that objects are pooled from, and that stands for the whole image
    base_model_prefix = "ham_learning"
    teacher_shares = ("object_labels",)

    def __init__(self, config: HamLearningConfig):
        super().__init__(config)
        check_tags(self.class_names)
        width, heads, dropout = hidden_size(config), config.num_attention_heads, config.classifier_dropout
        check_heads(width, heads)
        self.text_model = text_encoder(config.text_config)
        self.text_layers = nn.ModuleList(
            TransformerLayer(width, heads, dropout) for _ in range(config.num_text_layers)
        )
        if config.modality == "text_image":
            self.build_vision()
            self.image_views = nn.ModuleDict({view: VIEW_CLASSES[view](config) for view in config.views})
            self.interaction = InterModality(config)
        self.transformation = nn.Sequential(Projection(width, width), nn.GELU(), Projection(width, width))  # Eq. 12
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, config.num_labels)
        self.crf = LinearChainCrf(config.num_labels)
        self.post_init()

    def build_vision(self) -> None:
        """Build the image encoder and what makes v_[IMG] and v_i of its maps."""
        config, width = self.config, hidden_size(self.config)
        fine, coarse = self.build_vision_model()
        self.image_projection = Projection(coarse, width)  # Eq. 2
        self.object_projection = Projection(config.object_feature_size or fine, width)  # Eq. 3
        num_classes = FIRST_LABEL + len(config.object_labels)
        self.label_embedding = nn.Embedding(num_classes, config.label_embedding_size)  # E^v
        self.label_projection = Projection(config.label_embedding_size, width, bias=False)  # W_e

    # ----------------------------------------------------------------------------------------------- forward

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        word_index: Tensor,
        image_index: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        image_sizes: Tensor | None = None,
        object_boxes: Tensor | None = None,
        object_labels: Tensor | None = None,
        object_mask: Tensor | None = None,
        object_features: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> HamLearningOutput:
        """Score, and outside training decode, the tag of every word.

        Args:
            input_ids: `b t`.
            attention_mask: `b t`, 1 for real tokens, 0 for padding.
            word_index: `b t`, long, the word that a token belongs to, -1 for special tokens and padding.
            image_index: `b`, long, the image of each text, -1 = none.
            pixel_values: `k 3 h w`, distinct images.
            image_features: `k c`, in their place what `encode_images` made of the whole images.
            image_sizes: `k 2`, width and height of the images in pixels.
            object_boxes: `k m 4`, corners in pixels of the image as it is.
            object_labels: `k m`, long, numbers of the objects' classes, from 2; 0 = none of `config.object_labels`,
                1 = the whole image.
            object_mask: `k m`, 1 for a real object.
            object_features: `k m f`, the detector's features, or what `encode_images` pooled.
            labels: `b n`, tag indices; -100 marks padding. A text without any label counts for nothing.

        Raises:
            ValueError: if images come without their objects or `image_index`.
        """
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        words, is_word = sum_subwords(states, word_index)  # b n d, b n; Eq. 1
        sentence, words = self.encode_text(states[:, :1], words, is_word)  # b d, b n d
        text = self.transformation(words)  # b n d, Eq. 12
        relevance = None
        if self.config.modality == "text_image" and image_index is not None:
            graph = self.image_graph(
                pixel_values, image_features, image_sizes, object_boxes, object_labels, object_mask, object_features
            )
            sights, relevance, can_see = self.look(graph, sentence, image_index)
            text = self.interaction(text, sights, is_word, can_see)
        elif self.config.modality == "text_image":
            if pixel_values is not None or image_features is not None:
                raise ValueError("Images were given without `image_index`; pass all that `processor.pad` gives.")
            text = self.interaction(text, [], is_word, None)
        logits = self.classifier(self.dropout(text))  # b n c
        output = HamLearningOutput(logits=logits)
        if labels is not None:
            output["loss"] = self.sequence_loss(logits, labels)
        if not self.training:
            output["tags"], output["tag_probabilities"] = self.decode(logits, is_word)
            output["relevance"] = relevance
        return output

    def encode_text(self, sentence: Tensor, words: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
        """Run the textual Transformer over `[CLS]` (`b 1 d`) and the words (`b n d`); return `b d` and `b n d`."""
        states = torch.cat([sentence, words], dim=1)
        mask = nn.functional.pad(is_word, (1, 0), value=True)
        for layer in self.text_layers:
            states = layer(states, mask)
        return states[:, 0], states[:, 1:]

    def image_graph(
        self,
        pixel_values: Tensor | None,
        image_features: Tensor | None,
        image_sizes: Tensor | None,
        object_boxes: Tensor | None,
        object_labels: Tensor | None,
        object_mask: Tensor | None,
        object_features: Tensor | None,
    ) -> ImageGraph:
        """Make the nodes v_[IMG] (Eq. 2) and v_i (Eq. 3) of each image, and their graph; see `forward`."""
        if image_sizes is None or object_boxes is None or object_labels is None or object_mask is None:
            raise ValueError("Images were given without their sizes or objects; pass all that `processor.pad` gives.")
        if pixel_values is not None:
            image_features, pooled = self.encode_images(pixel_values, in_fractions(object_boxes, image_sizes))
            object_features = pooled if object_features is None else object_features
        if image_features is None or object_features is None:
            raise ValueError(
                "`image_index` was given without images; pass `pixel_values`, or `image_features` and"
                " `object_features`, as `processor.pad` gives them."
            )
        self.check_features(image_features, object_features, object_labels)
        dtype = self.image_projection.weight.dtype
        image = self.image_projection(image_features.to(dtype)).unsqueeze(1)  # k 1 d
        objects = self.object_projection(object_features.to(dtype))  # k m d
        objects = objects + self.label_projection(self.label_embedding(object_labels))
        return ImageGraph(
            nodes=torch.cat([image, objects], dim=1),
            mask=nn.functional.pad(object_mask.bool(), (1, 0), value=True),
            places=node_places(in_fractions(object_boxes, image_sizes)).to(dtype),
            relations=relation_graph(object_boxes, object_mask, image_sizes),
        )

    def check_features(self, image_features: Tensor, object_features: Tensor, object_labels: Tensor) -> None:
        """Refuse features of other widths, and classes that are not in the table."""
        for name, features, layer in (
            ("image_features", image_features, self.image_projection),
            ("object_features", object_features, self.object_projection),
        ):
            if features.shape[-1] != layer.in_features:
                raise ValueError(
                    f"`{name}` has {features.shape[-1]} numbers for each, expected {layer.in_features}; encode images"
                    " with this model, and give `object_feature_size` the width of the detector's features."
                )
        if object_labels.numel() and object_labels.max() >= self.label_embedding.num_embeddings:
            raise ValueError(
                f"`object_labels` holds {int(object_labels.max())}, and the model knows"
                f" {self.label_embedding.num_embeddings} classes; give the processor the model's `object_labels`."
            )

    def encode_images(self, pixel_values: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the image encoder.

        Args:
            pixel_values: `k 3 h w`.
            boxes: `k m 4`, corners as fractions of the image.

        Returns:
            The mean of the last map (`k c`), and the mean of the finer map over each box (`k m f`), `None` where the
            detector's features are read.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.is_vision_frozen):
            fine, coarse = feature_maps(self.vision_model, pixel_values.to(self.vision_model.dtype))
            pooled = None if self.config.object_feature_size else pool_regions(fine, boxes)
            return coarse.mean((2, 3)), pooled

    def look(
        self, graph: ImageGraph, sentence: Tensor, image_index: Tensor
    ) -> tuple[list[Tensor], Tensor | None, Tensor]:
        """See each text's image in every view: the local-global features V^r (Eq. 11).

        Args:
            graph: of `k` images.
            sentence: `b d`, h_[CLS].
            image_index: `b`.

        Returns:
            V^r of each view (`b m d`), the relevance (`b v`, `None` without relevance measuring), and `b m`, whether
            there is an object.
        """
        has_image = image_index >= 0  # b
        index = image_index.clamp(min=0)
        sights, scores = [], []
        view: Any
        for view in self.image_views.values():  # in the order of `config.views`
            nodes = view(graph)[index]  # b 1+m d'
            seen, score = view.relate(nodes, sentence)
            sights.append(seen)
            if score is not None:
                scores.append(score * has_image)
        relevance = torch.stack(scores, dim=-1) if scores else None
        return sights, relevance, graph.mask[index][:, 1:] & has_image.unsqueeze(1)

    # ------------------------------------------------------------------------------------- once for each image

    @torch.no_grad()
    def encode_shared(
        self, rows: Sequence[dict[str, Any]], processor: Any, batch_size: int, cache: EncodingCache
    ) -> Sequence[dict[str, Any]]:
        """Encode each distinct image once; rows get `image_features` (`c`) and `object_features` (`m f`)."""
        if "image" not in self.input_modalities:
            return rows
        processor.check_model(self.config)
        width = self.image_projection.in_features
        encoded = []
        for row, flat in zip(rows, self.encode_distinct_images(rows, processor, batch_size, cache), strict=True):
            if flat is None:
                encoded.append(row)
                continue
            given = {"image_features": flat[:width]}
            if row["object_features"] is None:
                given["object_features"] = flat[width:].view(len(row["object_boxes"]), -1)
            encoded.append({**row, **given})
        return encoded

    def encode_image_rows(self, rows: Sequence[Row], processor: Any) -> list[Tensor]:
        """Encode the images of some rows: the whole image, then its objects, in one vector for each."""
        batch = processor.pad_images(rows)
        boxes = in_fractions(batch["object_boxes"], batch["image_sizes"]).to(self.device)
        features, pooled = self.encode_images(batch["pixel_values"].to(self.device), boxes)
        if pooled is None:
            return list(features.cpu())
        counts = [len(row["object_boxes"]) for row in rows]
        return [
            torch.cat([image, objects[:count].flatten()]).cpu()
            for image, objects, count in zip(features, pooled, counts, strict=True)
        ]


@dataclass
class ImageGraph:
    """Images as nodes, the image itself first, and relations between them.

    Args:
        nodes: `k 1+m d`, v_[IMG] and v_i.
        mask: `k 1+m`, bool, True for a real node.
        places: `k 1+m 4`, centre (x, y), height and width as fractions of the image.
        relations: `k 1+m 1+m`, long, see `relation_graph`.
    """

    nodes: Tensor
    mask: Tensor
    places: Tensor
    relations: Tensor


class ImageView(nn.Module):
    """What both views share: the relevance of the image to the text, and the local-global features.

    Args:
        config: of the model.
        width: of the view's nodes.
    """

    def __init__(self, config: HamLearningConfig, width: int):
        super().__init__()
        text_width = hidden_size(config)
        self.relevance = Relevance(text_width, width) if config.has_relevance else None
        self.local_global = Projection(2 * width, text_width)

    def relate(self, nodes: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor | None]:
        """Join each object with the image, as far as it is relevant: Eq. 10.

        Args:
            nodes: `b 1+m d'`.
            sentence: `b d`.

        Returns:
            V^r, `b m d`, and M^r, `b`; `None` without relevance measuring.
        """
        image, objects = nodes[:, 0], nodes[:, 1:]
        score = None
        if self.relevance is not None:
            score = self.relevance(sentence, image)
            image = image * score.unsqueeze(-1)
        joined = torch.cat([image.unsqueeze(1).expand_as(objects), objects], dim=-1)
        return self.local_global(joined), score


class SemanticView(ImageView):
    """Eq. 4: a ViT over image and objects."""

    def __init__(self, config: HamLearningConfig):
        width = hidden_size(config)
        super().__init__(config, width)
        heads, dropout = config.num_attention_heads, config.classifier_dropout
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, dropout, is_prenorm=True) for _ in range(config.num_semantic_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, graph: ImageGraph) -> Tensor:
        """Return v^1 of all nodes, `k 1+m d`."""
        nodes = graph.nodes
        for layer in self.layers:
            nodes = layer(nodes, graph.mask)
        return self.norm(nodes)


class SpatialView(ImageView):
    """Eq. 5-7: a gated R-GCN over nodes that know their place, `[x, y, h, w, v]`."""

    def __init__(self, config: HamLearningConfig):
        width = hidden_size(config) + PLACE
        super().__init__(config, width)
        self.layers = nn.ModuleList(GatedRelationalConvolution(width) for _ in range(config.num_spatial_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, graph: ImageGraph) -> Tensor:
        """Return v^2 of all nodes, `k 1+m d+4`."""
        nodes = torch.cat([graph.places, graph.nodes], dim=-1)
        for layer in self.layers:
            nodes = layer(nodes, graph.relations)
        return self.norm(nodes)


VIEW_CLASSES: dict[str, Callable[[HamLearningConfig], ImageView]] = {"semantic": SemanticView, "spatial": SpatialView}


class Relevance(nn.Module, OwnStart):
    """How relevant an image is to a text: `C = tanh(h W v)`, `M = tanh(W_T h + W_I v C)`.

    The parameters are the paper's matrices times a constant: W is `affinity / sqrt(d d')`, W_T is `text / sqrt(d)`,
    W_I is `image / sqrt(d')`, and all parameters start at a size of 1. The equations and the start are the same, but a
    step of Adam, which moves every parameter by the learning rate, moves the arguments of both tanh by so much less.
    With the matrices themselves as parameters, one step moves `h W v` by some ten; within ten steps every image has
    an M of 1 or -1 for good.

    Source: HamLearning, Eq. 8 and 9.
    """

    def __init__(self, text_width: int, image_width: int):
        super().__init__()
        self.affinity = nn.Parameter(torch.empty(text_width, image_width))  # W_TI of Eq. 8
        self.text = nn.Parameter(torch.empty(text_width))  # W_TI of Eq. 9
        self.image = nn.Parameter(torch.empty(image_width))  # W_I
        self.draw_weights()

    def draw_weights(self) -> None:
        """Draw all parameters at a size of 1: for states of that size, so are the arguments of both tanh."""
        for parameter in self.parameters():
            init.normal_(parameter, std=1.0)

    def forward(self, sentence: Tensor, image: Tensor) -> Tensor:
        """Score pairs: `b d` and `b d'` give `b`, in (-1, 1)."""
        text_term, image_term = self.terms(sentence, image)
        return (text_term + image_term).tanh()

    def terms(self, sentence: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two terms of Eq. 9, `W_T h` and `W_I v C`, `b` each."""
        sentence, image = sentence / len(self.text) ** 0.5, image / len(self.image) ** 0.5
        affinity = torch.einsum("bd,de,be->b", sentence, self.affinity, image).tanh()  # C, Eq. 8
        # Sums, not products with a vector: BLAS rounds those by how their memory is aligned.
        return (sentence * self.text).sum(-1), (image * self.image).sum(-1) * affinity


class InterModality(nn.Module):
    """Section 3.3: text and image read each other L times."""

    def __init__(self, config: HamLearningConfig):
        super().__init__()
        width, heads, dropout = hidden_size(config), config.num_attention_heads, config.classifier_dropout
        self.num_iterations = config.num_iterations
        self.gate = FusionGate(width) if len(config.views) > 1 else None
        self.text_reads = TransformerLayer(width, heads, dropout)  # Eq. 15
        # What the views read in the last iteration is read by nobody, so it is left out; of one iteration, all of it.
        readers = config.views if config.num_iterations > 1 else []
        self.views_read = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in readers)

    def forward(self, text: Tensor, sights: Sequence[Tensor], is_word: Tensor, can_see: Tensor | None) -> Tensor:
        """Return the final `H`.

        Args:
            text: `b n d`, H of Eq. 12.
            sights: V^r of each view, `b m d`; empty = no text of the batch has an image.
            is_word: `b n`.
            can_see: `b m`, whether there is an object; `None` without any image.
        """
        sights = list(sights) or [text.new_zeros(len(text), 1, text.shape[-1])] * (1 if self.gate is None else 2)
        if can_see is None:
            can_see = torch.zeros(len(text), 1, dtype=torch.bool, device=text.device)
        for iteration in range(1, self.num_iterations + 1):
            before, fused = text, sights[0] if self.gate is None else self.gate(*sights)
            text = self.text_reads(before, can_see, fused)
            if iteration < self.num_iterations:
                sights = [read(sight, is_word, before) for read, sight in zip(self.views_read, sights, strict=True)]
        return text


class FusionGate(nn.Module):
    """Eq. 13 and 14: `a = W s(W_1 V^1 + W_2 V^2)`, `V = a V^1 + (1 - a) V^2`, where `s` is the logistic function."""

    def __init__(self, width: int):
        super().__init__()
        self.semantic = Projection(width, width, bias=False)
        self.spatial = Projection(width, width, bias=False)
        self.output = Projection(width, width, bias=False)

    def forward(self, semantic: Tensor, spatial: Tensor) -> Tensor:
        """Fuse two views, `b m d` each."""
        share = self.output((self.semantic(semantic) + self.spatial(spatial)).sigmoid())
        return share * semantic + (1 - share) * spatial


def in_fractions(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Divide corners in pixels (`k m 4`) by width and height of their image (`k 2`)."""
    return boxes / image_sizes.repeat(1, 2).unsqueeze(1)


def node_places(boxes: Tensor) -> Tensor:
    """Return centre (x, y), height and width of the whole image and of boxes: `k m 4` gives `k 1+m 4`, fractions."""
    left, top, right, bottom = boxes.unbind(-1)
    places = torch.stack([(left + right) / 2, (top + bottom) / 2, bottom - top, right - left], dim=-1)
    whole = boxes.new_tensor(WHOLE_PLACE).expand(len(boxes), 1, PLACE)
    return torch.cat([whole, places], dim=1)


def check_heads(width: int, num_heads: int) -> None:
    """Refuse heads that cannot share the text encoder's width."""
    if width % num_heads:
        raise ValueError(
            f"`num_attention_heads={num_heads}` cannot share the text encoder's width of {width}; choose a divisor"
            " of it."
        )


__all__ = ["HamLearningForTokenClassification", "HamLearningOutput"]
