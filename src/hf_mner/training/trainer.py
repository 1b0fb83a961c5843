"""The one trainer of all systems: `transformers.Trainer` with a teacher, perturbed weights and rates for the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_mner.models.base.processing_base import MnerProcessor, Row

from .arguments import MnerTrainingArguments
from .awp import undisturbed
from .sampler import RowLengthSampler
from .teacher import (
    PREFIX,
    TEACHER_SCORES,
    ask_online,
    check_distillable,
    check_same_images,
    load_teacher,
    pad_with_teacher,
    with_teacher_scores,
)

LABELS = ("labels", "box_labels")  # the fields of rows that hold answers; metrics are given them in this order
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


class EpochOfSampler(TrainerCallback):
    """Tells the epoch to a sampler of rows.

    The dataloader does so itself, but not where several processes go on in the middle of an epoch: it does not look
    through the wrappers that part batches among processes and that skip those that were trained on.
    """

    sampler: RowLengthSampler | None = None

    def on_epoch_begin(self, args, state, control, **kwargs):  # noqa: ARG002 the signature is that of transformers
        """Tell it."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch))


class TrustYourTeacherTrainer(Trainer):
    """Trains on rows of a processor, blending gold labels with a teacher's predictions (SCANNER, Eq. 4).

    With gradient accumulation and with several processes the loss of an update is that of all its rows in one batch:
    each micro-batch weighs as much as what its loss is a mean over (`count_labels` of the model). MNER-QG's loss has
    parts that are means over other things; there, micro-batches weigh as much as their labelled texts. Batch
    normalisation that is trained reads a micro-batch, not the update.

    The teacher reads without dropout: every training row once, before training starts (`args.teacher_mode` `offline`),
    or every batch (`online`). What it is asked, and the loss, are the model's: `read_as_teacher`, `distillation_loss`.
    Evaluation gives the plain loss.

    Args:
        teacher: a trained model of the same task, or its folder; needed unless `args.distillation` is `"none"`.
        teacher_scores: the file that keeps what an offline teacher said; `None` = one in `args.output_dir`.
        train_dataset: rows, as `processor.rows(examples, stage, label2id)` makes them.
        processing_class: the processor; its `pad` is the collator.
        args: with `distillation`, `teacher_mode`, `head_learning_rate` and `awp_start_epoch`.
        kwargs: everything else that `Trainer` takes.

    Raises:
        ValueError: if a teacher is needed and missing, has other labels, or cannot be read offline or online; if the
            model's answers cannot be compared with a teacher's.
    """

    # `compute_loss` weighs the micro-batches of an update itself (transformers issue 47688).
    loss_is_scaled_for_ga = True
    args: MnerTrainingArguments

    def __init__(
        self,
        model: PreTrainedModel,
        args: MnerTrainingArguments,
        *,
        processing_class: MnerProcessor,
        train_dataset: Sequence[Row] | None = None,
        teacher: PreTrainedModel | str | Path | None = None,
        teacher_scores: Path | None = None,
        **kwargs,
    ):
        self.teacher: Any = None  # one that reads every batch
        if args.distillation != "none":
            check_distillable(model, args.distillation)
        if args.distillation != "none" and train_dataset is not None:
            teacher = load_teacher(teacher, model, args.distillation, args.device)
            if args.teacher_mode == "online":
                check_same_images(teacher, model, processing_class, train_dataset)
                self.teacher = teacher
            else:
                path = teacher_scores or Path(args.output_dir) / TEACHER_SCORES
                with args.main_process_first(desc="teacher"):  # which writes the file that the others read
                    train_dataset = with_teacher_scores(
                        train_dataset, teacher, processing_class, args.per_device_eval_batch_size, path
                    )
        args.remove_unused_columns = False  # rows hold their origin, which the collator leaves out
        # `nn.DataParallel` would cut knowledge that rows share apart from the rows; `torchrun` uses several GPUs.
        args._n_gpu = min(args.n_gpu, 1)
        rows = train_dataset or kwargs.get("eval_dataset") or [{}]
        args.label_names = [name for name in LABELS if name in rows[0]] or ["labels"]
        super().__init__(
            model,
            args,
            data_collator=partial(pad_with_teacher, processing_class.pad),
            processing_class=processing_class,
            train_dataset=train_dataset,
            **kwargs,
        )
        self.current_gradient_accumulation_steps = 1  # Trainer sets it for each update
        self.epoch_of_sampler = EpochOfSampler()
        self.add_callback(self.epoch_of_sampler)
        self.awp = args.weight_perturbation()
        kind = self.accelerator.distributed_type
        if self.awp is not None and kind in SHARDED:
            raise ValueError(
                f"Adversarial weight perturbation reads whole weights, and {kind.value} cuts them up; train with plain"
                " `torchrun` (DDP), or leave `awp_start_epoch` (`awp` of a recipe) out."
            )

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Train on one micro-batch, from `awp_start_epoch` on at perturbed weights (see `perturbing_gradients`)."""
        if self.awp is None or not self.awp.acts(self.state.epoch):
            return super().training_step(model, inputs, num_items_in_batch)
        gradients = self.perturbing_gradients(model, inputs, num_items_in_batch)
        if self.awp.adds_plain_gradient:
            add_gradients(gradients)
        with self.awp.perturbed(gradients):
            return super().training_step(model, inputs, num_items_in_batch)

    def perturbing_gradients(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Tensor | None = None
    ) -> dict[torch.nn.Parameter, Tensor | None]:
        """Return the gradient of one micro-batch's loss by each trainable parameter, by which it is perturbed.

        They are as `accelerator.backward` would give them; what earlier micro-batches accumulated is not touched. The
        model is read without its wrapper for several processes, so that they exchange nothing: each
        perturbs by its own share of the batch, and the gradients at the perturbed weights are averaged as ever. So `k`
        processes are worth `k` micro-batches of one process.
        """
        network = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        network.train()
        inputs = self._prepare_inputs(inputs)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        with undisturbed(network), self.compute_loss_context_manager():
            loss = self.compute_loss(network, inputs, num_items_in_batch=num_items_in_batch)
            if self.accelerator.scaler is not None:  # float16 gradients would vanish
                loss = self.accelerator.scaler.scale(loss)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return dict(zip(parameters, gradients, strict=True))

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | None:
        """Count what the loss of an update is a mean over, in all its micro-batches and processes."""
        if not batch_samples or "labels" not in batch_samples[0]:
            return None
        network = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        total = torch.stack([network.count_labels(batch["labels"]) for batch in batch_samples]).sum().to(device)
        return self.accelerator.reduce(total, "sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the model's loss, or where a teacher was read its `distillation_loss`.

        In training it is this micro-batch's part of the loss of an update, which is a mean over `num_items_in_batch`;
        where that is not known, micro-batches weigh alike.
        """
        inputs = dict(inputs)  # which the caller may read again
        said = {name: inputs.pop(name) for name in list(inputs) if name.startswith(PREFIX)}
        said = {name.removeprefix(PREFIX): value for name, value in said.items()}
        outputs = model(**inputs)
        loss = outputs.loss
        if self.teacher is not None and model.training:
            said = ask_online(self.teacher, inputs)
        if said:
            network = self.accelerator.unwrap_model(model, keep_torch_compile=False)
            loss = network.distillation_loss(outputs, inputs, said, self.args.distillation)
        if num_items_in_batch is not None:
            own = self.accelerator.unwrap_model(model, keep_torch_compile=False).count_labels(inputs["labels"])
            # The processes' gradients are averaged.
            loss = loss * (own * self.accelerator.num_processes / num_items_in_batch.clamp(min=1))
        elif model.training:
            loss = loss / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model=None):
        """Build AdamW with the heads' own learning rate; biases and normalisation do not decay."""
        if self.optimizer is None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(self.parameter_groups(model or self.model), **options)
        return self.optimizer

    def parameter_groups(self, model: torch.nn.Module) -> list[dict[str, Any]]:
        """Split the trainable parameters by encoder, head or CRF and by weight decay."""
        decaying = set(self.get_decay_parameter_names(model)) - normalization_weights(model)
        rates = learning_rates(self.args)
        groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                key = (parameter_part(name), name in decaying)
                groups.setdefault(key, []).append(parameter)
        return [
            {"params": parameters, "lr": rates[part], "weight_decay": self.args.weight_decay if decays else 0.0}
            for (part, decays), parameters in groups.items()
        ]

    def _get_train_sampler(self, train_dataset=None):
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        of_update = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self.epoch_of_sampler.sampler = RowLengthSampler(self.row_lengths(rows), of_update, self.args.seed)
        return self.epoch_of_sampler.sampler

    def _get_eval_sampler(self, eval_dataset):
        sampler = super()._get_eval_sampler(eval_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.lengths = self.row_lengths(eval_dataset)
        return sampler

    def row_lengths(self, rows: Sequence[Row]) -> list[int]:
        """Count all that the model reads for each row, not `input_ids` alone."""
        return [self.processing_class.row_length(row) for row in rows]


def add_gradients(gradients: Mapping[torch.nn.Parameter, Tensor | None]) -> None:
    """Add gradients to those that parameters have accumulated."""
    for parameter, gradient in gradients.items():
        if gradient is not None and parameter.grad is not None:
            parameter.grad.add_(gradient)
        elif gradient is not None:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)  # in the parameter's own layout


def normalization_weights(model: torch.nn.Module) -> set[str]:
    """Name the weights of batch and group normalisation, which transformers knows by their attribute's name alone."""
    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.GroupNorm)
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}


def learning_rates(args: MnerTrainingArguments) -> dict[str, float]:
    """Return the learning rate of each part of a model."""
    head = args.learning_rate if args.head_learning_rate is None else args.head_learning_rate
    crf = head if args.crf_learning_rate is None else args.crf_learning_rate
    vision = args.learning_rate if args.vision_learning_rate is None else args.vision_learning_rate
    return {"encoder": args.learning_rate, "vision": vision, "head": head, "crf": crf}


def parameter_part(name: str) -> str:
    """Tell which part a parameter belongs to: the text `encoder`, the `vision` encoder, the `crf`, or a `head`."""
    parts = name.split(".")
    known = {"text_model": "encoder", "vision_model": "vision", "crf": "crf"}
    return next((known[part] for part in parts if part in known), "head")
