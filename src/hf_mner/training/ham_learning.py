"""How HamLearning is trained: one model, the best validation epoch kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from transformers import PreTrainedModel, set_seed
from transformers.trainer_utils import EvalPrediction

from hf_mner.data.labels import bio_labels
from hf_mner.data.schema import MnerExample
from hf_mner.knowledge.base import add_knowledge
from hf_mner.knowledge.detections import best_objects
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import Row
from hf_mner.models.ham_learning.modeling_ham_learning import HamLearningForTokenClassification
from hf_mner.models.ham_learning.processing_ham_learning import HamLearningProcessor

from .fitting import Training, fit_model, is_finished, load_finished, score_tag_rows, training_device
from .recipes import HamLearningRecipe, JointTaggingRecipe

logger = logging.getLogger(__name__)


class HamLearningTraining(Training):
    """One HamLearning training; see `Training` for the arguments. With distillation, `teacher/` gets the teacher."""

    recipe: HamLearningRecipe

    @cached_property
    def tags(self) -> list[str]:
        """The tags, in the order of the model's classes."""
        return bio_labels(self.types)

    def run(self) -> HamLearningForTokenClassification:
        """Train, or load where it is finished, and return the model."""
        if is_finished(self.output_dir):
            return load_finished(HamLearningForTokenClassification, self.output_dir)
        return self.with_teacher(".", self.recipe.training, self.train_model, "teacher")

    def train_model(
        self, name: str, settings: JointTaggingRecipe, teacher: PreTrainedModel | str | None = None
    ) -> HamLearningForTokenClassification:
        """Train the model, or its teacher, in a folder of `output_dir`, or load it where it is finished."""
        recipe, folder = self.recipe, self.output_dir / name
        if is_finished(folder):
            return load_finished(HamLearningForTokenClassification, folder)
        set_seed(recipe.seed)
        train, validation = (add_knowledge(part, self.sources) for part in (self.train, self.validation))
        labels = object_labels(train, recipe.max_objects) if recipe.reads_images_itself else []
        model, processor = self.new_model(labels).to(training_device()), self.new_processor(labels)
        rows, validation_rows = (self.labelled_rows(model, processor, part) for part in (train, validation))
        if recipe.reads_images_itself:
            warn_of_missing_objects(rows)
        return fit_model(
            model,
            processor,
            folder,
            settings,
            rows,
            validation_rows,
            self.score,
            seed=recipe.seed,
            teacher=teacher,
            callbacks=self.callbacks,
            options=self.options,
        )

    def new_model(self, labels: Sequence[str]) -> HamLearningForTokenClassification:
        """Build the model of the recipe from its encoders, for objects of some classes."""
        recipe = self.recipe
        model = HamLearningForTokenClassification.from_backbones(
            recipe.backbone,
            recipe.vision,
            text_kwargs=recipe.text_kwargs,
            id2label=dict(enumerate(self.tags)),
            label2id={tag: index for index, tag in enumerate(self.tags)},
            object_labels=list(labels),
            **recipe.model,
        )
        return model.train()  # freezes what is frozen before the optimiser is built

    def new_processor(self, labels: Sequence[str]) -> HamLearningProcessor:
        """Build the processor of the recipe."""
        recipe = self.recipe
        options = {name: recipe.model[name] for name in ("image_size", "object_feature_size") if name in recipe.model}
        return HamLearningProcessor.from_backbones(
            recipe.backbone,
            recipe.vision_backbone,
            object_labels=list(labels),
            max_length=recipe.max_length,
            max_objects=recipe.max_objects,
            **options,
        )

    def labelled_rows(
        self,
        model: HamLearningForTokenClassification,
        processor: HamLearningProcessor,
        examples: Sequence[MnerExample],
    ) -> Sequence[Row]:
        """Make training rows; a frozen image encoder sees each image once, before training."""
        rows: Sequence[Row] = processor.rows(examples, "recognition", model.config.label2id)
        if model.config.is_vision_frozen:
            rows = model.encode_shared(rows, processor, self.recipe.training.batch_size, EncodingCache())
        return rows

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """Score decoded tags by typed entities."""
        return score_tag_rows(prediction.predictions, prediction.label_ids, self.tags)


def object_labels(examples: Sequence[MnerExample], max_objects: int) -> list[str]:
    """Return the classes of the objects that are read, sorted.

    Classes of a single object are left out: they train what stands for the classes that are unknown later.
    """
    counts: Counter[str] = Counter()
    for example in examples:
        if example.get("image") is not None:
            objects = best_objects((example.get("knowledge") or {}).get("objects"), max_objects)
            counts.update(item["label"] for item in objects)
    return sorted(label for label, count in counts.items() if count > 1)


def warn_of_missing_objects(rows: Sequence[Row]) -> None:
    """Say how many training texts have no image or no objects."""
    without_image = sum(row["image"] is None for row in rows)
    without_objects = sum(row["image"] is not None and not row["shown"] for row in rows)
    if without_image:
        logger.warning("%d of %d training texts have no image: they are read as text alone.", without_image, len(rows))
    if without_objects:
        logger.warning(
            "%d of %d training texts have an image without objects, which stands as one object itself; fill"
            " `knowledge.objects` by a source such as `objects` or `vinvl_objects`.",
            without_objects,
            len(rows),
        )
