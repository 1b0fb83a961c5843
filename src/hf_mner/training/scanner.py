"""How SCANNER is trained: teacher, stage 1, cross-fitted non-entities, stage 2, and both joined in one checkpoint."""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, set_seed
from transformers.trainer_utils import EvalPrediction

from hf_mner.data.labels import decode_bio
from hf_mner.data.schema import EntityAnnotation, MnerExample
from hf_mner.knowledge.base import add_knowledge
from hf_mner.metrics import score_spans
from hf_mner.models.base.processing_base import Row
from hf_mner.models.base.recognition import run_rows
from hf_mner.models.scanner.configuration_scanner import NON_ENTITY, SPAN_LABELS
from hf_mner.models.scanner.modeling_scanner import (
    ScannerForEntityRecognition,
    ScannerForMultimodalNer,
    ScannerForSpanDetection,
)
from hf_mner.models.scanner.processing_scanner import ScannerProcessor

from .fitting import Training, drop_knowledge, fit_model, is_finished, load_finished, write_whole
from .options import is_main_process, wait_for_all
from .recipes import RecognitionRecipe, ScannerRecipe, StageRecipe

logger = logging.getLogger(__name__)

NON_ENTITIES = "non-entities.json"  # what cross-fitting found


class ScannerTraining(Training):
    """One SCANNER training; see `Training` for the arguments.

    `output_dir` also receives `detection-teacher/`, `detection/`, `non-entities.json`, `recognition-teacher/` and
    `recognition/`; the joined checkpoint lies at its top. An encyclopedia is asked for every candidate.

    Runs that differ in stage 2 alone can share `detection_dir` (stage 1 and its teacher) and `non_entities_dir`
    (`non-entities.json`); by default both are `output_dir`.
    """

    recipe: ScannerRecipe

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.detection_dir = self.non_entities_dir = self.output_dir

    @cached_property
    def id2label(self) -> dict[int, str]:
        """The classes of stage 2."""
        return dict(enumerate([*self.types, NON_ENTITY] if self.recipe.cross_fitting.folds else self.types))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The index of each class of stage 2."""
        return {name: index for index, name in self.id2label.items()}

    @cached_property
    def processor(self) -> ScannerProcessor:
        """The processor of both stages."""
        return scanner_processor(self.recipe)

    def run(self) -> ScannerForMultimodalNer:
        """Train what is not trained yet, join both stages, save them to `output_dir`, and return the model."""
        detection = self.run_detection()
        recognition = self.with_teacher("recognition", self.recipe.recognition, self.recognition_stage)
        model = ScannerForMultimodalNer.from_stages(
            detection, recognition, num_shared_layers=self.recipe.recognition.num_shared_layers
        )
        if is_main_process():  # which scores it; the others have the same model
            model.save_pretrained(self.output_dir)
            self.processor.save_pretrained(self.output_dir)
        return model.eval()

    def run_detection(self) -> ScannerForSpanDetection:
        """Train stage 1, and its teacher where it needs one, and return it."""
        return self.with_teacher("detection", self.recipe.detection, self.detection_stage)

    # ------------------------------------------------------------------------------------------------ stage 1

    def detection_stage(
        self, name: str, stage: StageRecipe, teacher: PreTrainedModel | str | None = None
    ) -> ScannerForSpanDetection:
        """Train stage 1 on all training examples, or load it where it is finished."""
        return self.fit_detection(self.detection_dir / name, stage, self.train, self.validation, teacher)

    def fit_detection(
        self,
        folder: Path,
        stage: StageRecipe,
        train: Sequence[MnerExample],
        validation: Sequence[MnerExample],
        teacher: PreTrainedModel | str | None = None,
    ) -> ScannerForSpanDetection:
        """Train a span detector in a folder; validation examples choose the best epoch."""
        if is_finished(folder):
            return load_finished(ScannerForSpanDetection, folder)
        set_seed(self.recipe.seed)
        model = ScannerForSpanDetection.from_backbones(
            self.recipe.backbone,
            vocab_size=len(self.processor.tokenizer),
            id2label=self.id2label,
            label2id=self.label2id,
        )
        rows = self.processor.rows(train, "detection", self.label2id)
        validation_rows = self.processor.rows(validation, "detection", self.label2id) if validation else []
        return self.fit(model, folder, stage, rows, validation_rows, score_detection, teacher)

    def propose(self, detector: ScannerForSpanDetection, examples: Sequence[MnerExample]) -> list[list[tuple]]:
        """Return the spans that a detector proposes for each example."""
        rows = self.processor.rows(examples, "detection")
        candidates = self.processor.candidates(run_rows(detector, self.processor, rows, 32), rows, examples)
        return [[(span["start"], span["end"]) for span in spans] for spans in candidates]

    def non_entities(self) -> list[list[tuple]]:
        """Return, for each training example, the spans that stage 1 wrongly proposes for it when not trained on it.

        Source: SCANNER, section 4.2 ("dividing the training set into four folds in stage 1 and validating each fold").
        """
        folds = self.recipe.cross_fitting.folds
        if not folds:
            return [[] for _ in self.train]
        path = self.non_entities_dir / NON_ENTITIES
        if not path.is_file():
            order = list(range(len(self.train)))
            random.Random(self.recipe.seed).shuffle(order)
            wrong: list[list[tuple]] = [[] for _ in self.train]
            for fold in range(folds):
                held_out = order[fold::folds]
                for index, spans in zip(held_out, self.cross_fit(fold, held_out), strict=True):
                    wrong[index] = spans
            write_whole(path, json.dumps(wrong))
        return [[tuple(span) for span in spans] for spans in json.loads(path.read_text())]

    def cross_fit(self, fold: int, held_out: Sequence[int]) -> list[list[tuple]]:
        """Train a detector without the held-out examples and return what it wrongly proposes for them."""
        path = self.non_entities_dir / f"non-entities-fold-{fold}.json"
        folder = self.non_entities_dir / f"detection-fold-{fold}"
        is_done = path.is_file()
        wait_for_all()  # else one process could find what another has just finished, and go another way
        if not is_done:
            stage = self.recipe.detection
            epochs = self.recipe.cross_fitting.epochs or stage.epochs
            awp = stage.awp if stage.awp and stage.awp.start_epoch < epochs else None  # else it would never act
            # There is no validation here, for whose scores training could wait.
            stage = replace(stage, distillation="none", epochs=epochs, awp=awp, patience=None)
            excluded = set(held_out)
            rest = [example for index, example in enumerate(self.train) if index not in excluded]
            detector = self.fit_detection(folder, stage, rest, [])
            examples = [self.train[index] for index in held_out]
            proposed = self.propose(detector, examples)
            wrong = [sorted(set(p) - gold_spans(e)) for p, e in zip(proposed, examples, strict=True)]
            if is_main_process():
                write_whole(path, json.dumps(wrong))
            wait_for_all()
            if is_main_process():
                shutil.rmtree(folder, ignore_errors=True)
        return json.loads(path.read_text())

    # ------------------------------------------------------------------------------------------------ stage 2

    def recognition_stage(
        self, name: str, stage: StageRecipe, teacher: PreTrainedModel | str | None = None
    ) -> ScannerForEntityRecognition:
        """Train stage 2 on gold entities and cross-fitted non-entities, or load it where it is finished."""
        folder = self.output_dir / name
        if is_finished(folder):
            return load_finished(ScannerForEntityRecognition, folder)
        train_rows, validation_rows = self.prompts  # the teacher's and the student's alike
        set_seed(self.recipe.seed)
        model = self.new_recognition()
        gold = sum(len(example["entities"]) for example in self.validation)
        scorer = recognition_scorer(self.label2id, gold)
        return self.fit(model, folder, stage, train_rows, validation_rows, scorer, teacher)

    @cached_property
    def detector(self) -> ScannerForSpanDetection:
        """The finished stage 1."""
        return self.detection_stage("detection", self.recipe.detection)

    @cached_property
    def prompts(self) -> tuple[list[Row], list[Row]]:
        """The prompts of the training and of the validation examples."""
        train_rows = self.training_prompts()
        check_knowledge_parts(train_rows, self.recipe.recognition)
        return train_rows, self.validation_prompts(self.detector)

    def new_recognition(self) -> ScannerForEntityRecognition:
        """Build stage 2 from the backbone (the paper) or from stage 1 with shared lower layers."""
        recipe = self.recipe.recognition
        fields: dict[str, Any] = {
            "id2label": self.id2label,
            "label2id": self.label2id,
            "grounding_weight": recipe.grounding_weight,
        }
        if recipe.num_shared_layers is not None:
            return ScannerForEntityRecognition.from_span_detection(self.detector, recipe.num_shared_layers, **fields)
        return ScannerForEntityRecognition.from_backbones(
            self.recipe.backbone, vocab_size=len(self.processor.tokenizer), **fields
        )

    def training_prompts(self) -> list[Row]:
        """Build the prompts of all gold entities and non-entities."""
        examples = []
        for example, spans in zip(self.train, self.non_entities(), strict=True):
            entities = [*example["entities"], *map(wrong_candidate, spans)]
            examples.append(MnerExample({**example, "entities": entities}))
        examples = drop_knowledge(
            add_knowledge(examples, self.sources), self.recipe.recognition.knowledge_dropout, self.recipe.seed
        )
        return self.processor.rows(examples, "recognition", self.label2id)

    def validation_prompts(self, detector: ScannerForSpanDetection) -> list[Row]:
        """Build the prompts of what stage 1 proposes for the validation examples, labelled by the gold entities."""
        if not self.validation:
            return []
        has_non_entity = NON_ENTITY in self.label2id
        examples: list[MnerExample] = []
        for example, spans in zip(self.validation, self.propose(detector, self.validation), strict=True):
            gold = {(entity["start"], entity["end"]): entity for entity in example["entities"]}
            known = [span for span in spans if span in gold or has_non_entity]
            entities = [gold.get(span) or wrong_candidate(span) for span in known]
            examples.append({**example, "entities": entities})
        return self.processor.rows(add_knowledge(examples, self.sources), "recognition", self.label2id)

    def fit(
        self, model: Any, folder: Path, stage: StageRecipe, rows: Any, validation_rows: Any, scorer: Any, teacher: Any
    ) -> Any:
        """Train one model of this training, see `fit_model`."""
        return fit_model(
            model,
            self.processor,
            folder,
            stage,
            rows,
            validation_rows,
            scorer,
            seed=self.recipe.seed,
            teacher=teacher,
            callbacks=self.callbacks,
            options=self.options,
        )


def scanner_processor(recipe: ScannerRecipe) -> ScannerProcessor:
    """Build the processor that a recipe describes."""
    recognition = recipe.recognition
    return ScannerProcessor.from_backbones(
        recipe.backbone,
        max_length=recognition.max_length,
        detection_max_length=recipe.detection.max_length,
        max_objects=recognition.max_objects,
        knowledge=recognition.knowledge,
        grounding_threshold=recognition.grounding_threshold if recognition.grounding_weight else None,
    )


def check_knowledge_parts(rows: Sequence[Row], recipe: RecognitionRecipe) -> None:
    """Warn of knowledge that no training prompt has; refuse to train grounding without objects."""
    seen = {part for row in rows for part in row["shown"]}
    if recipe.grounding_weight and "objects" not in seen:
        raise ValueError(
            f"`recognition.grounding_weight={recipe.grounding_weight}`, but no training example has"
            " `knowledge.objects`; join detected objects, or set it to 0."
        )
    if missing := sorted(set(recipe.knowledge) - seen):
        logger.warning("No training prompt has any of %s: the data bring none along.", ", ".join(missing))


def score_detection(prediction: EvalPrediction) -> dict[str, float]:
    """Score stage 1 by exact spans, whatever their type."""
    predicted, gold = [], []
    for scores, labels in zip(prediction.predictions, prediction.label_ids, strict=True):
        real = labels != -100
        predicted.append(label_spans(scores[real].argmax(-1)))
        gold.append(label_spans(labels[real]))
    scores = score_spans(predicted, gold, typed=False)
    return {name: scores[name] for name in ("precision", "recall", "f1")}


def label_spans(labels: np.ndarray) -> list:
    """Decode indices of `SPAN_LABELS` to spans."""
    return decode_bio(["O" if label == 0 else f"{SPAN_LABELS[label]}-span" for label in labels])


def recognition_scorer(label2id: dict[str, int], num_gold: int) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return a function that scores stage 2 by typed entities, counting those that stage 1 missed."""
    non_entity = label2id.get(NON_ENTITY, -1)

    def score(prediction: EvalPrediction) -> dict[str, float]:
        scores = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        best = scores.argmax(-1)
        proposed = best != non_entity
        right = int((proposed & (best == prediction.label_ids)).sum())
        precision, recall = right / max(int(proposed.sum()), 1), right / max(num_gold, 1)
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}

    return score


def wrong_candidate(span: tuple[int, int]) -> EntityAnnotation:
    """Return the annotation of a span that is not an entity."""
    return {"start": span[0], "end": span[1], "type": NON_ENTITY, "boxes": []}


def gold_spans(example: MnerExample) -> set[tuple]:
    """Return the boundaries of an example's gold entities."""
    return {(entity["start"], entity["end"]) for entity in example["entities"]}
