"""Recipes: one YAML file for each system and data set, parsed strictly."""

# No `from __future__ import annotations` here: `@strict` cannot check field types that are strings.

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig

from hf_mner.data.readers import DATASET_NAMES
from hf_mner.knowledge.registry import parse_specs, read_images
from hf_mner.layers.losses import Distillation
from hf_mner.models.base.configuration_base import MnerConfig
from hf_mner.models.base.processing_base import MIN_LENGTH
from hf_mner.models.ham_learning.configuration_ham_learning import HamLearningConfig
from hf_mner.models.mmavk.configuration_mmavk import Fusion, check_filter
from hf_mner.models.mner_qg.configuration_mner_qg import MnerQgConfig
from hf_mner.models.mner_qg.queries import QueryStyle

from .awp import AwpKind, check_awp
from .recipe_parsing import parse_recipe, require, set_dotted
from .teacher import TeacherMode


@strict
@dataclass(kw_only=True)
class AwpRecipe:
    """Adversarial weight perturbation, see `AdversarialWeightPerturbation`.

    Args:
        start_epoch: the first epoch, counted from 0, in which weights are perturbed; may be a fraction.
        gamma: size of the perturbation relative to the weights.
        kind: `published` or `competition`.
        learning_rate: read by `competition` alone.
    """

    start_epoch: float | int
    gamma: float | int = 0.01
    kind: AwpKind = "published"
    learning_rate: float | int | None = None

    def validate_awp(self):
        """Refuse settings out of their range."""
        check_awp(self.start_epoch, self.gamma, self.kind, self.learning_rate)


@strict
@dataclass(kw_only=True)
class LoraRecipe:
    """Low-rank adapters in the text encoder, which stays as it is, see `add_lora`.

    They want a `learning_rate` some ten times that of full fine-tuning.

    Args:
        rank: inner width of the adapters.
        alpha: their outcome is scaled by `alpha / rank`.
        dropout: of what they read.
        targets: the last parts of the names of layers, or `[all-linear]`.
    """

    rank: int = 8
    alpha: float | int = 16
    dropout: float | int = 0.05
    targets: list[str] = field(default_factory=lambda: ["query", "value"])

    def validate_lora(self):
        """Refuse adapters that are none."""
        require(self.rank >= 1, "rank", self.rank, "1 or more")
        require(self.alpha > 0, "alpha", self.alpha, "more than 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        require(bool(self.targets), "targets", self.targets, "a list of names of layers, or ['all-linear']")


@strict
@dataclass(kw_only=True)
class FittingRecipe:
    """How one model is trained.

    Args:
        epochs: passes over the training rows.
        batch_size: rows in one update.
        learning_rate: of the encoder; linear decay to 0.
        weight_decay: of AdamW, not on biases and normalisation.
        head_learning_rate: of what is no pretrained encoder; `None` = the encoder's.
        warmup: share of the updates over which the learning rate rises.
        adam_beta2: of AdamW, the memory of squared gradients. Where parts of a model begin to learn late, 0.98 lets
            them forget the large gradients of the first steps, which hold their steps small.
        bf16: bfloat16 autocast.
        awp: a section that switches adversarial weight perturbation on.
        distillation: Eq. 4 of SCANNER; anything but `none` needs a teacher.
        teacher: folder of a trained model of the same kind; `None` = one is trained first, with the same settings and
            the plain loss.
        teacher_mode: `offline`: the teacher reads each training row once, before training; `online`: every batch.
        patience: stop after so many epochs without a better validation score; `None` = never.
        lora: a section that trains low-rank adapters in the place of the text encoder.
    """

    epochs: float | int
    batch_size: int
    learning_rate: float
    weight_decay: float | int
    head_learning_rate: float | None = None
    warmup: float | int = 0.0
    adam_beta2: float = 0.999
    bf16: bool = False
    awp: AwpRecipe | None = None
    distillation: Distillation = "none"
    teacher: str | None = None
    teacher_mode: TeacherMode = "offline"
    patience: int | None = None
    lora: LoraRecipe | None = None

    def validate_schedule(self):
        """Refuse numbers that train nothing."""
        require(self.epochs > 0, "epochs", self.epochs, "more than 0")
        require(self.batch_size > 0, "batch_size", self.batch_size, "1 or more")
        for name in ("learning_rate", "head_learning_rate", "crf_learning_rate", "vision_learning_rate"):
            rate = getattr(self, name, None)
            require(rate is None or rate > 0, name, rate, "more than 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "a share in [0, 1)")
        require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "between 0 and 1 (usual: 0.999)")
        require(self.patience is None or self.patience >= 1, "patience", self.patience, "1 or more epochs")
        if self.awp is not None:
            first = self.awp.start_epoch
            require(first < self.epochs, "awp.start_epoch", first, f"less than `epochs` ({self.epochs})")


@strict
@dataclass(kw_only=True)
class StageRecipe(FittingRecipe):
    """How one stage of SCANNER is trained (Tables 9 and 10).

    Args:
        max_length: tokens in a row or prompt.
    """

    max_length: int = 256


@strict
@dataclass(kw_only=True)
class RecognitionRecipe(StageRecipe):
    """Stage 2 in addition.

    Args:
        max_objects: objects in a prompt (Table 10).
        grounding_weight: lambda of Eq. 3.
        grounding_threshold: see `ScannerProcessor`; read only with a `grounding_weight`.
        knowledge: the parts that go into the prompt, see `ScannerProcessor`.
        knowledge_dropout: share of the training tweets that are shown without knowledge, so that the model also works
            with text alone (0 in the paper).
        num_shared_layers: start from stage 1 and keep its embeddings and this many lower layers (`None` in the paper).
    """

    max_objects: int = 15
    grounding_weight: float | int = 0.0
    grounding_threshold: float = 0.5
    knowledge: list[Literal["encyclopedia", "auxiliary", "caption", "objects"]] = field(
        default_factory=lambda: ["encyclopedia", "caption", "objects"]
    )
    knowledge_dropout: float | int = 0.0
    num_shared_layers: int | None = None

    def validate_recognition(self):
        """Refuse shares and counts that mean nothing."""
        require(self.max_objects >= 0, "max_objects", self.max_objects, "0 or more")
        require(self.grounding_weight >= 0, "grounding_weight", self.grounding_weight, "0 or more")
        require(0 <= self.knowledge_dropout <= 1, "knowledge_dropout", self.knowledge_dropout, "a share in [0, 1]")
        is_own = self.num_shared_layers is None or self.lora is None
        wanted = "null with `lora`, whose adapters belong to the pretrained encoder and change every layer"
        require(is_own, "num_shared_layers", self.num_shared_layers, wanted)


@strict
@dataclass(kw_only=True)
class CrossFittingRecipe:
    """How `non-entity` examples are collected (section 4.2): train on all folds but one, propose on that one.

    Args:
        folds: number of folds; 4 in the paper, 0 = no `non-entity` class.
        epochs: passes of each fold's model; `None` = as stage 1.
    """

    folds: int = 4
    epochs: float | int | None = None

    def validate_folds(self):
        """Refuse folds that leave nothing to train on."""
        require(self.folds == 0 or self.folds > 1, "folds", self.folds, "0 (none) or 2 and more")
        require(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "None or more than 0")


@strict
@dataclass(kw_only=True)
class Recipe:
    """What every training depends on.

    Args:
        dataset: a name that `load_mner_dataset` knows.
        backbone: the text encoder.
        seed: of everything.
        granularity: types of `twitter_fmnerg`.
        knowledge: knowledge to join, folder names of `<data-dir>/knowledge`; for `folder`, `knowledge.jsonl`.
        sources: knowledge sources that are asked for what the data do not bring along, see `open_sources`: names of
            `hf_mner.knowledge.registry.SOURCES`, or mappings from a name to its settings.
        train_splits: the splits that are trained on; more than `train` means no choice by validation score.
        label_noise: share of the training entities that are spoilt on purpose, see `corrupt_labels` (SCANNER,
            Figure 5).
    """

    dataset: str
    backbone: str
    seed: int = 42
    granularity: Literal["coarse", "fine"] = "coarse"
    knowledge: list[str] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    train_splits: list[Literal["train", "validation"]] = field(default_factory=lambda: ["train"])
    label_noise: float | int = 0.0

    def validate_dataset(self):
        """Refuse a data set that no loader knows."""
        require(self.dataset in DATASET_NAMES, "dataset", self.dataset, f"one of {', '.join(DATASET_NAMES)}")
        require("train" in self.train_splits, "train_splits", self.train_splits, "a list with 'train'")
        require(0 <= self.label_noise <= 1, "label_noise", self.label_noise, "a share in [0, 1]")

    def validate_sources(self):
        """Refuse sources and settings of sources that nothing reads."""
        parse_specs(self.sources)

    @property
    def reads_images(self) -> bool:
        """Tell whether the training opens the images themselves."""
        return read_images(self.sources)


@strict
@dataclass(kw_only=True)
class ScannerRecipe(Recipe):
    """A SCANNER training.

    Args:
        system: `scanner`.
        detection: stage 1.
        recognition: stage 2.
        cross_fitting: the `non-entity` examples.
    """

    system: Literal["scanner"]
    detection: StageRecipe
    recognition: RecognitionRecipe
    cross_fitting: CrossFittingRecipe


@strict
@dataclass(kw_only=True)
class TaggingRecipe(FittingRecipe):
    """How a model with a CRF is trained.

    Args:
        crf_learning_rate: of the transition scores; `None` = `head_learning_rate`.
    """

    crf_learning_rate: float | None = None


@strict
@dataclass(kw_only=True)
class MmavkRecipe(Recipe):
    """An MMAVK training (section 4.2, Table 4, Figure 4).

    Args:
        system: `mmavk`.
        training: the schedule.
        fusion: see `MmavkConfig`.
        similarity_threshold: see `MmavkConfig`.
        low_similarity_weight: see `MmavkConfig`.
        knowledge_parts: what makes up the auxiliary text, see `MmavkProcessor`.
        knowledge_dropout: share of the training texts that are shown without knowledge (0 in the paper).
        attention: how attention is computed while training, `None` = transformers' choice (`sdpa`). On a CPU, `eager`
            is faster for texts of some hundred tokens. `prefix` computes its own.
        attention_dropout: of the encoder's attention; `None` = the pretrained encoder's own. 0 saves a CPU a quarter
            of a step.
        max_length: tokens of the words.
        knowledge_max_length: tokens of the auxiliary text.
        vision_backbone: image encoder of `fusion: prefix`.
        vision_feature_layers: see `MmavkConfig`; `None` = its default.
    """

    system: Literal["mmavk"]
    training: TaggingRecipe
    fusion: Fusion = "word_level"
    similarity_threshold: float | int = 0.35
    low_similarity_weight: float | int = 0.0
    knowledge_parts: list[Literal["auxiliary", "caption", "ocr"]] = field(default_factory=lambda: ["auxiliary"])
    knowledge_dropout: float | int = 0.0
    attention: Literal["sdpa", "eager"] | None = None
    attention_dropout: float | int | None = None
    max_length: int = 128
    knowledge_max_length: int = 192
    vision_backbone: str | None = None
    vision_feature_layers: list[int] | None = None

    def validate_knowledge(self):
        """Refuse a share that means nothing, and a prefix without images."""
        require(0 <= self.knowledge_dropout <= 1, "knowledge_dropout", self.knowledge_dropout, "a share in [0, 1]")
        for name in ("max_length", "knowledge_max_length"):
            require(getattr(self, name) >= MIN_LENGTH, name, getattr(self, name), f"{MIN_LENGTH} tokens or more")
        check_filter(self.fusion, self.similarity_threshold, self.low_similarity_weight)
        has_vision = self.fusion != "prefix" or self.vision_backbone is not None
        is_free = self.fusion != "prefix" or self.attention is None
        require(
            is_free,
            "attention",
            self.attention,
            "null for `fusion: prefix`, which computes its own (--set attention=null)",
        )
        require(has_vision, "vision_backbone", self.vision_backbone, "an image encoder, as `fusion: prefix` needs one")

    @property
    def reads_images(self) -> bool:
        """Tell whether the training opens the images themselves."""
        return self.fusion == "prefix" or super().reads_images


@strict
@dataclass(kw_only=True)
class JointRecipe(FittingRecipe):
    """How a model with an image encoder is trained.

    Args:
        vision_learning_rate: of the image encoder; `None` = the text encoder's.
    """

    vision_learning_rate: float | None = None


@strict
@dataclass(kw_only=True)
class GroundingRecipe(JointRecipe):
    """How a model that grounds is trained.

    Args:
        is_distorted: show every training image with random colours and places (see `Distortion`), as FA-VG's public
            code does. A frozen image encoder then sees images anew in every epoch.
    """

    is_distorted: bool = False

    def validate_teacher(self):
        """Refuse a teacher that would read images once that change in every epoch."""
        fits = not self.is_distorted or self.distillation == "none" or self.teacher_mode == "online"
        require(fits, "teacher_mode", self.teacher_mode, "'online' with `is_distorted: true`, as images change then")


@strict
@dataclass(kw_only=True)
class ImageModelRecipe(Recipe):
    """A training of a system with an image encoder of its own.

    Args:
        model: fields of the system's configuration.
        max_length: tokens of a text.
        text_kwargs: fields of the text encoder's configuration to replace.
        vision_backbone: pretrained image encoder.
        vision_config: in its place, the configuration of one that starts at random, with its `model_type`.
    """

    config_class: ClassVar[type[Any]]
    training: JointRecipe
    not_set: ClassVar[tuple[str, ...]] = ()  # fields of the configuration that follow from the data

    model: dict[str, Any] = field(default_factory=dict)
    max_length: int = 128
    text_kwargs: dict[str, Any] = field(default_factory=dict)
    vision_backbone: str | None = None
    vision_config: dict[str, Any] | None = None

    def validate_model(self):
        """Refuse fields that the configuration does not have, values it refuses, and images without an encoder."""
        annotations = {**MnerConfig.__annotations__, **self.config_class.__annotations__}
        own = [name for name in annotations if not name.endswith("_config") and name not in self.not_set]
        unknown = sorted(set(self.model) - set(own))
        require(not unknown, "model", unknown, f"fields of `{self.config_class.__name__}` ({', '.join(own)})")
        self.config_class(**self.model)
        given = [name for name in ("vision_backbone", "vision_config") if getattr(self, name) is not None]
        if self.reads_images_itself:
            require(
                len(given) == 1, "vision_backbone", self.vision_backbone, "given, or `vision_config`, but not both"
            )
        else:
            require(not given, given[0] if given else "", "given", "left out for `model: {modality: text}`")
        rate, frozen = self.training.vision_learning_rate, self.config_class.is_vision_frozen
        trains_images = self.reads_images_itself and not self.model.get("is_vision_frozen", frozen)
        unread = "left out, as no image encoder is trained (`model: {is_vision_frozen: false}` trains one)"
        require(rate is None or trains_images, "vision_learning_rate", rate, unread)

    def validate_vision_config(self):
        """Refuse an image encoder that transformers does not know, and fields that it does not have."""
        if self.vision_config is None:
            return
        kind = self.vision_config.get("model_type")
        require(
            kind in CONFIG_MAPPING, "vision_config", self.vision_config, "with a known `model_type`, such as resnet"
        )
        known = AutoConfig.for_model(kind).to_dict()
        unknown = sorted(set(self.vision_config) - set(known))
        require(not unknown, "vision_config", unknown, f"fields of {kind}: {', '.join(sorted(known))}")

    @property
    def vision(self) -> Any:
        """Return the image encoder: a name, or a configuration."""
        return self.vision_backbone if self.vision_config is None else AutoConfig.for_model(**self.vision_config)

    @property
    def reads_images_itself(self) -> bool:
        """Tell whether the model has an image encoder."""
        return self.model.get("modality", "text_image") == "text_image"

    @property
    def reads_images(self) -> bool:
        """Tell whether the training opens the images themselves."""
        return self.reads_images_itself or super().reads_images


@strict
@dataclass(kw_only=True)
class MnerQgRecipe(ImageModelRecipe):
    """An MNER-QG training ("Implementation Details", Tables 3 and 4, Figure 4).

    `model` holds fields of `MnerQgConfig`, for example `modality: text` or `grounding_weight: 0` (Table 3);
    `max_length` counts a query and a sentence together.

    Args:
        system: `mner_qg`.
        training: the schedule.
        task: `recognition`: `MnerQgForMultimodalNer`. `grounding`: `MnerQgForVisualGrounding` (FA-VG) on the
            entities' words and boxes; nothing but the boxes is learned.
        query_style: see `build_queries`.
        queries: queries of some or all types, in the place of built ones.
        query_max_length: tokens of a query.
        grounding_threshold: see `MnerQgProcessor`.
    """

    config_class: ClassVar[type[Any]] = MnerQgConfig

    system: Literal["mner_qg"]
    training: GroundingRecipe
    task: Literal["recognition", "grounding"] = "recognition"
    query_style: QueryStyle = "annotation"
    queries: dict[str, str] = field(default_factory=dict)
    query_max_length: int = 48
    grounding_threshold: float | int = 0.0

    def validate_grounding(self):
        """Refuse a grounding that learns nothing, and lengths and thresholds that the processor would refuse."""
        has_images = not self.training.is_distorted or self.reads_images_itself
        require(has_images, "is_distorted", True, "false for `model: {modality: text}`")
        can_ground = self.task == "recognition" or self.reads_images_itself
        require(can_ground, "task", self.task, "'recognition' for `model: {modality: text}`")
        learns = self.task == "recognition" or self.model.get("grounding_weight", 1) > 0
        require(learns, "model", self.model, "with a `grounding_weight` above 0 for `task: grounding`")
        is_plain = self.task == "recognition" or self.training.distillation == "none"
        distillation = self.training.distillation
        require(is_plain, "distillation", distillation, "'none' for `task: grounding`, which never sees a teacher")
        threshold = self.grounding_threshold
        require(0 <= threshold <= 1, "grounding_threshold", threshold, "a confidence in [0, 1]")
        require(self.max_length > MIN_LENGTH, "max_length", self.max_length, f"more than {MIN_LENGTH} tokens")
        most = self.max_length - MIN_LENGTH
        require(
            1 <= self.query_max_length <= most,
            "query_max_length",
            self.query_max_length,
            f"from 1 to {most}, which leaves {MIN_LENGTH} of `max_length` to the sentence",
        )


@strict
@dataclass(kw_only=True)
class JointTaggingRecipe(TaggingRecipe, JointRecipe):
    """How a model with an image encoder and a CRF is trained."""


@strict
@dataclass(kw_only=True)
class HamLearningRecipe(ImageModelRecipe):
    """A HamLearning training (appendix A.2.2, Tables 2, 3 and 5).

    `model` holds fields of `HamLearningConfig`, for example `modality: text`, `views: [semantic]` ("w/o RGCN"),
    `has_relevance: false` ("w/o RM") or `num_iterations: 1` (L of Table 3). The classes of objects are those of the
    training data.

    Args:
        system: `ham_learning`.
        training: the schedule.
        max_objects: objects of an image that are read.
    """

    config_class: ClassVar[type[Any]] = HamLearningConfig
    not_set: ClassVar[tuple[str, ...]] = ("object_labels",)

    system: Literal["ham_learning"]
    training: JointTaggingRecipe
    max_objects: int = 15

    def validate_lengths(self):
        """Refuse lengths and numbers that the processor would refuse."""
        require(self.max_length >= MIN_LENGTH, "max_length", self.max_length, f"{MIN_LENGTH} tokens or more")
        require(self.max_objects >= 1, "max_objects", self.max_objects, "1 or more")


RECIPES: dict[str, type[Recipe]] = {
    "scanner": ScannerRecipe,
    "mmavk": MmavkRecipe,
    "mner_qg": MnerQgRecipe,
    "ham_learning": HamLearningRecipe,
}


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """Read a recipe of any system.

    Args:
        path: the YAML file.
        overrides: values that replace the file's, by dotted key (`{"recognition.epochs": 3}`).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a key is unknown or missing, or a value has the wrong type; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Recipe {path} does not exist; the package's recipes lie in `recipes/<system>/`.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"Recipe {path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"Recipe {path} holds {type(values).__name__}, expected a mapping of keys to values.")
    for key, value in (overrides or {}).items():
        set_dotted(values, key, value)
    system = values.get("system")
    if system not in RECIPES:
        raise ValueError(f"Recipe {path}: `system` must be one of {', '.join(RECIPES)}, got {system!r}.")
    return parse_recipe(values, RECIPES[system], str(path))
