"""One model trained on rows in one folder: a run that was stopped goes on, a finished one is loaded."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback
from transformers.trainer_utils import EvalPrediction

from hf_mner.data.labels import decode_bio
from hf_mner.data.schema import MnerExample
from hf_mner.hub.training_cost import COST
from hf_mner.knowledge.base import KnowledgeSource
from hf_mner.metrics import score_spans
from hf_mner.models.base.adapters import add_lora, merge_lora, save_adapter
from hf_mner.models.base.processing_base import MnerProcessor, Row

from .arguments import MnerTrainingArguments
from .options import AS_USUAL, RunOptions, num_processes
from .recipes import FittingRecipe
from .teacher import TEACHER_SCORES
from .trainer import TrustYourTeacherTrainer

logger = logging.getLogger(__name__)

PARAMETERS = "parameters.json"  # how many of a model's parameters were trained


class Training:
    """One training of a system in one folder; every finished step is kept and not done again.

    Args:
        recipe: what to train.
        train: training examples.
        validation: examples that choose the best epoch; empty = the last epoch is kept.
        types: the entity types, in the order of the classes.
        output_dir: receives the checkpoint, and what the steps before it leave.
        sources: knowledge sources, asked for what the examples lack.
        callbacks: passed to every trainer.
        options: how it runs here.
    """

    def __init__(
        self,
        recipe: Any,
        train: Sequence[MnerExample],
        validation: Sequence[MnerExample],
        types: Sequence[str],
        output_dir: str | Path,
        sources: Sequence[KnowledgeSource] = (),
        callbacks: Sequence[TrainerCallback] = (),
        options: RunOptions = AS_USUAL,
    ):
        self.options = options
        self.recipe, self.train, self.validation, self.types = recipe, list(train), list(validation), list(types)
        self.output_dir, self.sources, self.callbacks = Path(output_dir), list(sources), list(callbacks)

    def run(self) -> PreTrainedModel:
        """Train what is not trained yet, save it to `output_dir`, and return the model."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its system is trained; define `run`.")

    def with_teacher(
        self, name: str, settings: FittingRecipe, train: Callable[..., Any], teacher_name: str | None = None
    ) -> Any:
        """Train a model, and before it, where its settings distil and name no teacher, the teacher.

        Args:
            name: of the model's folder, for `train`.
            settings: of the model; the teacher has the same ones and the plain loss.
            train: trains a model or loads it where it is finished; called as `train(name, settings, teacher=...)`.
            teacher_name: of the teacher's folder; `None` = `<name>-teacher`.
        """
        teacher = settings.teacher
        if settings.distillation != "none" and teacher is None:
            teacher = train(teacher_name or f"{name}-teacher", replace(settings, distillation="none"))
        return train(name, settings, teacher=teacher)


def fit_model(
    model: PreTrainedModel,
    processor: MnerProcessor,
    folder: Path,
    settings: FittingRecipe,
    rows: Sequence[Row],
    validation_rows: Sequence[Row],
    compute_metrics: Callable[[EvalPrediction], dict[str, float]],
    *,
    seed: int,
    teacher: PreTrainedModel | str | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    metric: str = "f1",
    options: RunOptions = AS_USUAL,
) -> Any:
    """Train a model on rows, keep the epoch with the best validation score, save it to `folder`, and return it.

    With LoRA, `folder/lora` keeps the adapters, and the model is saved and returned with the adapters merged.

    Args:
        model: what to train.
        processor: its processor, which pads the rows; saved beside the model.
        folder: receives the model, `log.json` and, while training, `checkpoints/` and what the teacher said of the
            rows.
        settings: epochs, rates and the like.
        rows: training rows with `labels`.
        validation_rows: rows that choose the best epoch; empty = the last epoch is kept.
        compute_metrics: returns a dictionary with `metric`.
        seed: of the order of rows and of dropout.
        teacher: see `TrustYourTeacherTrainer`.
        callbacks: passed to the trainer.
        metric: the score that chooses the best epoch; more is better.
        options: how it runs here.

    Raises:
        ValueError: if there is nothing to train on, early stopping has no validation scores, the rows of an update
            cannot be parted as `options` say, or adapters would be sharded.
    """
    if not rows:
        raise ValueError(
            f"{folder.name!r} has no training rows; do the training examples have `entities`, with boxes and images"
            " where grounding is trained?"
        )
    if settings.patience is not None and not validation_rows:
        raise ValueError(
            f"`patience={settings.patience}` waits for better validation scores, and there are no validation examples;"
            " leave it out, or do not train on the validation split."
        )
    if settings.lora and options.is_sharded:
        raise ValueError(
            "`lora` merges its adapters into whole matrices, and `--fsdp` cuts them up; leave out one of them."
        )
    logger.info("%s: %d rows, %s epochs, in %s", folder.name, len(rows), settings.epochs, folder)
    total = sum(parameter.numel() for parameter in model.parameters())
    if lora := settings.lora:
        add_lora(model, lora.rank, lora.alpha, lora.dropout, lora.targets)
    write_parameter_count(folder, model, total)
    checkpoint = last_whole_checkpoint(folder / "checkpoints")
    args = training_arguments(settings, folder, seed, metric if validation_rows else None, options)
    args.num_train_epochs = last_epoch(checkpoint, settings)
    trainer = TrustYourTeacherTrainer(
        model,
        args,
        processing_class=processor,
        train_dataset=list(rows),
        eval_dataset=list(validation_rows) or None,
        compute_metrics=compute_metrics,
        teacher=teacher,
        teacher_scores=folder / TEACHER_SCORES,
        callbacks=[
            *callbacks,
            *options.callbacks(folder),
            *([EarlyStoppingCallback(settings.patience)] if settings.patience else []),
        ],
    )
    trained = trainer.train(resume_from_checkpoint=checkpoint)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if options.is_sharded else None
    if trainer.is_world_process_zero():
        write_whole(folder / "log.json", json.dumps(trainer.state.log_history, indent=1))
        write_cost(folder, trained.metrics["train_runtime"], checkpoint is not None)
        if settings.lora:
            save_adapter(model, folder / "lora")
            processor.save_pretrained(folder / "lora")
    if settings.lora:
        merge_lora(model)
    if trainer.is_world_process_zero():
        save_finished(model, processor, folder, state)
    trainer.accelerator.wait_for_everyone()
    if options.is_sharded:  # this process holds a part of the weights
        return load_finished(type(model), folder)
    return model.eval()


def write_cost(folder: Path, seconds: float, is_resumed: bool) -> None:
    """Write how long a training took in its last process, and on how many processes and what devices."""
    cost: dict[str, Any] = {"seconds": round(seconds, 1), "is_resumed": is_resumed}
    cost |= {"device": device_name(), "processes": num_processes()}
    write_whole(folder / COST, json.dumps(cost) + "\n")


def write_parameter_count(folder: Path, model: PreTrainedModel, total: int) -> None:
    """Write how many parameters of a model are trained, of `total` without adapters."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"trained": trained, "all": total, "share": trained / total}
    write_whole(folder / PARAMETERS, json.dumps(counts) + "\n")


def last_whole_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end, `None` without one; half-written ones are removed.

    The main process writes `trainer_state.json` last; several processes write the states of their random numbers at
    their own time.
    """
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))
    for checkpoint in newest_first:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            is_whole = len(list(checkpoint.glob("rng_state_*.pth"))) in (0, num_processes())
        except (FileNotFoundError, json.JSONDecodeError):
            is_whole = False
        if not is_whole:
            logger.warning("%s was not written to its end; the run goes on from the one before.", checkpoint)
            shutil.rmtree(checkpoint, ignore_errors=True)  # another process may be at it, too
        else:
            return str(checkpoint)
    return None


def last_epoch(checkpoint: str | None, settings: FittingRecipe) -> float:
    """Return the epoch that ends a training: one that is past where a run was out of patience when it was stopped."""
    if checkpoint is None or settings.patience is None:
        return settings.epochs
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    waiting = state["stateful_callbacks"][EarlyStoppingCallback.__name__]["attributes"]
    return state["epoch"] if waiting["early_stopping_patience_counter"] >= settings.patience else settings.epochs


def training_arguments(
    settings: FittingRecipe, folder: Path, seed: int, metric: str | None, options: RunOptions = AS_USUAL
) -> MnerTrainingArguments:
    """Translate the settings of a recipe to training arguments; `metric` chooses the best epoch, `None` the last."""
    chooses_best = metric is not None
    if options.save_steps is not None and chooses_best:
        raise ValueError(
            f"`save_steps={options.save_steps}` would forget the best epoch, whose state is saved at its end; leave it"
            " out where validation chooses the epoch."
        )
    perturbation = {f"awp_{name}": value for name, value in vars(settings.awp).items()} if settings.awp else {}
    values: dict[str, Any] = dict(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=options.micro_batch_size(settings.batch_size),
        per_device_eval_batch_size=64,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        vision_learning_rate=getattr(settings, "vision_learning_rate", None),
        crf_learning_rate=getattr(settings, "crf_learning_rate", None),
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        adam_beta2=settings.adam_beta2,
        distillation=settings.distillation,
        teacher_mode=settings.teacher_mode,
        bf16=settings.bf16,
        use_cpu=not torch.accelerator.is_available(),
        seed=seed,
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch" if chooses_best else "no",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=chooses_best,
        metric_for_best_model=metric,
        greater_is_better=True if chooses_best else None,
        logging_strategy="epoch",
        restore_callback_states_from_checkpoint=True,  # how long it has waited for a better score
        **perturbation,
    )
    return MnerTrainingArguments(**{**values, **options.arguments(folder.name)})


def score_tag_rows(predicted: Iterable[Any], labels: Iterable[Any], names: Sequence[str]) -> dict[str, float]:
    """Score decoded tags by typed entities.

    Args:
        predicted: for each text its tags, indices of `names`; what stands behind its labels is not read.
        labels: for each text the gold tags; -100 marks padding.
        names: the BIO tags.
    """
    found, gold = [], []
    for tags, row in zip(predicted, labels, strict=True):
        real = row != -100
        found.append(decode_bio([names[index] for index in tags[: len(real)][real]]))
        gold.append(decode_bio([names[index] for index in row[real]]))
    scores = score_spans(found, gold)
    return {name: scores[name] for name in ("precision", "recall", "f1")}


def save_finished(
    model: PreTrainedModel, processor: MnerProcessor, folder: Path, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Save a finished model and drop its training state and what its teacher said.

    The weights (`state`; `None` = the model's own), which mark it as finished, appear last.
    """
    unfinished = folder / "unfinished"
    model.save_pretrained(unfinished, state_dict=None if state is None else dict(state))
    processor.save_pretrained(unfinished)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.suffix == ".safetensors"):
        os.replace(path, folder / path.name)
    unfinished.rmdir()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / TEACHER_SCORES).unlink(missing_ok=True)


def is_finished(folder: Path) -> bool:
    """Tell whether a folder holds a finished model."""
    return (folder / "model.safetensors").is_file()


def load_finished(model_class: type[PreTrainedModel], folder: Path) -> Any:
    """Load a finished model to the device that models are trained on."""
    logger.info("%s is finished; nothing is trained there.", folder)
    return model_class.from_pretrained(folder, dtype=torch.float32).to(training_device()).eval()


def training_device() -> torch.device:
    """Return the accelerator, or the CPU where there is none."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def device_name() -> str:
    """Name what this process trains and scores on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else training_device().type


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def drop_knowledge(examples: Sequence[MnerExample], share: float, seed: int) -> list[MnerExample]:
    """Return the examples, a random share of them without knowledge and image."""
    generator = random.Random(seed)
    return [
        {**example, "knowledge": None, "image": None} if generator.random() < share else example
        for example in examples
    ]
