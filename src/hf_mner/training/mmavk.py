"""How MMAVK is trained: one model, the best validation epoch kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel, set_seed
from transformers.trainer_utils import EvalPrediction

from hf_mner.data.labels import bio_labels
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import add_knowledge
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import Row
from hf_mner.models.mmavk.modeling_mmavk import MmavkForTokenClassification
from hf_mner.models.mmavk.processing_mmavk import MmavkProcessor

from .fitting import Training, drop_knowledge, fit_model, is_finished, load_finished, score_tag_rows, training_device
from .recipes import MmavkRecipe, TaggingRecipe

logger = logging.getLogger(__name__)


class MmavkTraining(Training):
    """One MMAVK training; see `Training` for the arguments. With distillation, `teacher/` receives the teacher."""

    recipe: MmavkRecipe

    @cached_property
    def tags(self) -> list[str]:
        """The tags, in the order of the model's classes."""
        return bio_labels(self.types)

    def run(self) -> MmavkForTokenClassification:
        """Train, or load where it is finished, and return the model."""
        if is_finished(self.output_dir):
            return load_finished(MmavkForTokenClassification, self.output_dir)
        return self.with_teacher(".", self.recipe.training, self.train_model, "teacher")

    def train_model(
        self, name: str, settings: TaggingRecipe, teacher: PreTrainedModel | str | None = None
    ) -> MmavkForTokenClassification:
        """Train the model, or its teacher, in a folder of `output_dir`, or load it where it is finished."""
        folder = self.output_dir / name
        if is_finished(folder):
            return load_finished(MmavkForTokenClassification, folder)
        set_seed(self.recipe.seed)
        model = self.new_model().to(training_device())
        processor = mmavk_processor(self.recipe)
        train = drop_knowledge(
            add_knowledge(self.train, self.sources), self.recipe.knowledge_dropout, self.recipe.seed
        )
        validation = add_knowledge(self.validation, self.sources)
        rows, validation_rows = (self.labelled_rows(model, processor, part) for part in (train, validation))
        warn_of_missing_knowledge(rows, self.recipe.fusion)
        return fit_model(
            model,
            processor,
            folder,
            settings,
            rows,
            validation_rows,
            self.score,
            seed=self.recipe.seed,
            teacher=teacher,
            callbacks=self.callbacks,
            options=self.options,
        )

    def new_model(self) -> MmavkForTokenClassification:
        """Build the model of the recipe from its pretrained encoders."""
        recipe = self.recipe
        options: dict[str, Any] = {}
        if recipe.attention_dropout is not None:
            options["text_kwargs"] = {"attention_probs_dropout_prob": recipe.attention_dropout}
        if recipe.vision_feature_layers is not None:
            options["vision_feature_layers"] = recipe.vision_feature_layers
        model = MmavkForTokenClassification.from_backbones(
            recipe.backbone,
            recipe.vision_backbone if recipe.fusion == "prefix" else None,
            fusion=recipe.fusion,
            similarity_threshold=recipe.similarity_threshold,
            low_similarity_weight=recipe.low_similarity_weight,
            id2label=dict(enumerate(self.tags)),
            label2id={tag: index for index, tag in enumerate(self.tags)},
            **options,
        )
        if recipe.attention is not None:
            model.text_model.set_attn_implementation(recipe.attention)
        return model

    def labelled_rows(
        self, model: MmavkForTokenClassification, processor: MmavkProcessor, examples: Sequence[MnerExample]
    ) -> Sequence[Row]:
        """Make training rows; the frozen vision encoder sees each image once, before training."""
        rows: Sequence[Any] = processor.rows(examples, "recognition", model.config.label2id)
        if self.recipe.fusion == "prefix":
            rows = model.encode_shared(rows, processor, self.recipe.training.batch_size, EncodingCache())
        return rows

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score decoded tags by typed entities."""
        return score_tag_rows(prediction.predictions, prediction.label_ids, self.tags)


def mmavk_processor(recipe: MmavkRecipe) -> MmavkProcessor:
    """Build the processor that a recipe describes."""
    return MmavkProcessor.from_backbones(
        recipe.backbone,
        recipe.vision_backbone if recipe.fusion == "prefix" else None,
        fusion=recipe.fusion,
        max_length=recipe.max_length,
        knowledge_max_length=recipe.knowledge_max_length,
        knowledge=recipe.knowledge_parts,
    )


def warn_of_missing_knowledge(rows: Sequence[Row], fusion: str) -> None:
    """Say that there is nothing to fuse, where no training row has any knowledge."""
    needed = {"word_level": "knowledge_ids", "concat": "knowledge_ids", "prefix": "image"}.get(fusion)
    if needed is not None and not any(row[needed] for row in rows):
        what = "an image" if fusion == "prefix" else "auxiliary text (`knowledge` and `knowledge_parts` of the recipe)"
        logger.warning("No training text has %s: `fusion: %s` is trained as text alone.", what, fusion)
