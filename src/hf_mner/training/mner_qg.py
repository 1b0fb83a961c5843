"""How MNER-QG is trained: the joint model, or its grounding alone; the best validation epoch kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, set_seed
from transformers.trainer_utils import EvalPrediction

from hf_mner.data.labels import bio_labels
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import add_knowledge
from hf_mner.metrics import score_grounding
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import Row
from hf_mner.models.mner_qg.modeling_mner_qg import (
    MnerQgForMultimodalNer,
    MnerQgForVisualGrounding,
    MnerQgPreTrainedModel,
)
from hf_mner.models.mner_qg.processing_mner_qg import MnerQgProcessor

from .fitting import Training, fit_model, is_finished, load_finished, score_tag_rows, training_device
from .recipes import GroundingRecipe, MnerQgRecipe

logger = logging.getLogger(__name__)

MODELS = {"recognition": MnerQgForMultimodalNer, "grounding": MnerQgForVisualGrounding}
MAX_KEPT_BYTES = 2**32  # of a frozen image encoder's maps; beyond, images are encoded anew in every step


class MnerQgTraining(Training):
    """One MNER-QG training; see `Training` for the arguments. With distillation, `teacher/` receives the teacher."""

    recipe: MnerQgRecipe

    def run(self) -> MnerQgPreTrainedModel:
        """Train, or load where it is finished, and return the model."""
        if is_finished(self.output_dir):
            return load_finished(MODELS[self.recipe.task], self.output_dir)
        return self.with_teacher(".", self.recipe.training, self.train_model, "teacher")

    def train_model(
        self, name: str, settings: GroundingRecipe, teacher: PreTrainedModel | str | None = None
    ) -> MnerQgPreTrainedModel:
        """Train the model, or its teacher, in a folder of `output_dir`, or load it where it is finished."""
        recipe, folder = self.recipe, self.output_dir / name
        if is_finished(folder):
            return load_finished(MODELS[recipe.task], folder)
        set_seed(recipe.seed)
        processor = self.new_processor()
        train, validation = (add_knowledge(part, self.sources) for part in (self.train, self.validation))
        model = self.new_model(has_boxes=any(map(has_gold_box, train))).to(training_device())
        rows = self.labelled_rows(model, processor, train, recipe.training.is_distorted)
        validation_rows = self.labelled_rows(model, processor, validation)
        if "image" in model.input_modalities and all(row["image"] is None for row in rows):
            logger.warning("No training text has an image: the model is trained as text alone.")
        return fit_model(
            model,
            processor,
            folder,
            settings,
            rows,
            validation_rows,
            self.score if recipe.task == "recognition" else self.score_phrases,
            seed=recipe.seed,
            teacher=teacher,
            callbacks=self.callbacks,
            metric="f1" if recipe.task == "recognition" else "accu@0.5",
            options=self.options,
        )

    def new_model(self, has_boxes: bool) -> MnerQgPreTrainedModel:
        """Build the model of the recipe from its encoders; without any gold box it learns no grounding."""
        recipe, fields = self.recipe, dict(self.recipe.model)
        if recipe.reads_images_itself and not has_boxes and recipe.task == "recognition":
            logger.warning("No training text has a box: `grounding_weight` becomes 0, and the model gives no boxes.")
            fields["grounding_weight"] = 0
        model = MODELS[recipe.task].from_backbones(
            recipe.backbone,
            recipe.vision,
            text_kwargs=recipe.text_kwargs,
            id2label=dict(enumerate(self.types)),
            label2id={name: index for index, name in enumerate(self.types)},
            **fields,
        )
        return model.train()  # freezes what is frozen before the optimiser is built

    def new_processor(self) -> MnerQgProcessor:
        """Build the processor of the recipe."""
        recipe = self.recipe
        options = {"image_size": recipe.model["image_size"]} if "image_size" in recipe.model else {}
        return MnerQgProcessor.from_backbones(
            recipe.backbone,
            recipe.vision_backbone,
            types=self.types,
            query_style=recipe.query_style,
            queries=recipe.queries,
            max_length=recipe.max_length,
            query_max_length=recipe.query_max_length,
            grounding_threshold=recipe.grounding_threshold,
            **options,
        )

    def labelled_rows(
        self,
        model: MnerQgPreTrainedModel,
        processor: MnerQgProcessor,
        examples: Sequence[MnerExample],
        is_distorted: bool = False,
    ) -> Sequence[Row]:
        """Make labelled rows; a frozen image encoder sees each image once, before training, unless it is distorted."""
        rows: Any = processor.rows(examples, self.recipe.task, model.config.label2id)
        if "image" not in model.input_modalities:
            return rows
        if is_distorted:
            return [{**row, "is_distorted": row["image"] is not None} for row in rows]
        if model.config.is_vision_frozen:
            numbers = sum(channels * height * width for channels, height, width in model.map_shapes())
            images = {key for row in rows if (key := processor.image_key(row)) is not None}
            if 4 * numbers * len(images) <= MAX_KEPT_BYTES:
                rows = model.encode_shared(rows, processor, self.recipe.training.batch_size, EncodingCache())
        return rows

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score decoded tags by typed entities, and the boxes of the queries that have one."""
        tags, boxes = prediction.predictions, None  # with grounding, the tags and the boxes
        if isinstance(tags, tuple):
            tags, boxes = tags
        labels, box_labels = prediction.label_ids
        scores = score_tag_rows(tags, labels, bio_labels(self.types))
        return scores if boxes is None else {**scores, **score_boxes(boxes, box_labels)}

    def score_phrases(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score the boxes of phrases."""
        return score_boxes(prediction.predictions, prediction.label_ids)


def score_boxes(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score the boxes of queries in the letterboxed square, as FA-VG does; queries without a gold box do not count.

    Args:
        predicted: `b q 4`.
        labels: `b q 4`, negative without a gold box.
    """
    has_box = labels[..., 2] > 0
    found = [box if box[2] > box[0] and box[3] > box[1] else None for box in predicted[has_box].tolist()]
    scores = score_grounding(found, [[box] for box in labels[has_box].tolist()])
    return {name: scores[name] for name in ("accu@0.5", "accu@0.75", "miou")}


def has_gold_box(example: MnerExample) -> bool:
    """Tell whether an entity of the example has a box in an image that is there."""
    return example.get("image") is not None and any(entity["boxes"] for entity in example.get("entities") or ())
