"""One update is the same however its rows are parted, and whether activations are kept or computed twice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY_SYSTEMS
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.options import RunOptions
from hf_mner.training.trainer import TrustYourTeacherTrainer

HEADS = {
    f"{name}, {stages[0]}": (name, head, stages[0])
    for name, system in TINY_SYSTEMS.items()
    for head, stages in system.stages.items()
    if len(stages) == 1
}
# MNER-QG's losses are sums of means over texts, words, pairs and boxes, and it has batch normalisation of its own.
EXACT = [case for case in HEADS if not case.startswith("mner_qg")]
APPROXIMATE = [case for case in HEADS if case.startswith("mner_qg")]
FIELDS: dict[str, dict[str, Any]] = {
    "scanner": {"grounding_weight": 1.0},
    "mmavk": {},
    "mner_qg": {"balance": "fixed"},  # the dynamic one remembers earlier batches
    "ham_learning": {},  # the image encoder stays frozen: batch normalisation would read the whole micro-batch
}
# float32 sums in another order: up to 2e-6 of the largest entry measured, for every system. Micro-batches that weigh
# alike though their numbers of labels are not alike are 7e-2 and more away.
TOLERANCE = 1e-5


class Gradients(TrustYourTeacherTrainer):
    """Remembers the gradient of an update before it is used."""

    def _clip_grad_norm(self, model):
        self.gradients = {
            name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        return super()._clip_grad_norm(model)


def quiet(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def unequal_rows(case: str, model: nn.Module, processor: Any) -> list[dict[str, Any]]:
    """Seven rows: the last ones have far more words, and the second and the fourth no label."""
    name, _, stage = HEADS[case]
    examples = [copy.deepcopy(example) for example in TINY_SYSTEMS[name].examples()]
    long = {**examples[0], "tokens": examples[0]["tokens"] * 3}
    chosen = [*(examples[number] for number in (2, 5, 1, 3, 4, 0)), long]
    if stage == "grounding":
        chosen = [examples[number] for number in (0, 1, 0, 1, 0, 1, 0)]
    rows = processor.rows(chosen, stage, model.config.label2id)[:7]
    for row in (rows[1], rows[3]):
        if stage == "grounding":
            row["labels"] = [[-1.0] * 4 for _ in row["labels"]]
        elif stage == "recognition" and name != "scanner" or stage == "detection":  # stage 2 has labels alone
            row["labels"] = [-100] * len(row["labels"])
    return rows


def make_trainer(folder: Path, case: str, accumulation: int = 1, distillation: str = "none", **kwargs) -> Gradients:
    name, head, _ = HEADS[case]
    system = TINY_SYSTEMS[name]
    fields = FIELDS[name]
    model, processor = quiet(system.model(head, **fields)), system.processor()
    rows = kwargs.pop("rows", None) or unequal_rows(case, model, processor)
    args = MnerTrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        max_steps=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=-(-len(rows) // accumulation),
        gradient_accumulation_steps=accumulation,
        distillation=distillation,
        **kwargs,
    )
    teacher = None if distillation == "none" else system.model(head, seed=5, **fields)
    return Gradients(model, args, processing_class=processor, train_dataset=rows, teacher=teacher)


def gradients_of(trainer: Gradients) -> tuple[dict[str, torch.Tensor], float]:
    """Train for one update; return its gradient and its loss."""
    trainer.train()
    (loss,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return trainer.gradients, loss


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two gradients in units of the largest entry."""
    assert one.keys() == other.keys()
    largest = max(value.abs().max() for value in one.values())
    assert largest > 0
    return float(max((one[name] - other[name]).abs().max() for name in one) / largest)


def counts(trainer: Gradients, size: int = 2) -> list[int]:
    """Count the labels of each micro-batch."""
    rows = trainer.train_dataset
    batches = [trainer.data_collator(rows[at : at + size]) for at in range(0, len(rows), size)]
    return [int(trainer.model.count_labels(batch["labels"])) for batch in batches]


# ------------------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("distillation", ["none", "tyt"])
@pytest.mark.parametrize("case", EXACT)
def test_micro_batches_with_unequal_labels_make_the_update_of_one_batch(tmp_path, case, distillation):
    whole = make_trainer(tmp_path, case, distillation=distillation)
    assert len(set(counts(whole))) > 1, "else this test says nothing"
    expected, loss = gradients_of(whole)
    for accumulation in (2, 4):
        parted, parted_loss = gradients_of(make_trainer(tmp_path, case, accumulation, distillation))
        assert distance(expected, parted) < TOLERANCE
        assert parted_loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("case", "distillation"), [*((case, "none") for case in APPROXIMATE), (APPROXIMATE[0], "tyt")]
)
def test_micro_batches_of_mner_qg_weigh_as_much_as_their_labelled_texts(tmp_path, case, distillation):
    trainer = make_trainer(tmp_path, case, 4, distillation)
    rows, labelled = trainer.train_dataset, counts(trainer)
    assert labelled == [1, 1, 2, 1]
    parted, loss = gradients_of(trainer)
    parts = [
        gradients_of(make_trainer(tmp_path, case, 1, distillation, rows=rows[at : at + 2])) for at in range(0, 7, 2)
    ]
    shares = [count / sum(labelled) for count in labelled]
    assert loss == pytest.approx(sum(share * part[1] for share, part in zip(shares, parts, strict=True)), rel=1e-5)
    zero = torch.zeros(())
    expected = {
        name: sum((share * part[0].get(name, zero) for share, part in zip(shares, parts, strict=True)), zero)
        for name in set.union(*(set(part[0]) for part in parts))
    }
    assert distance(expected, parted) < TOLERANCE


@pytest.mark.parametrize("case", APPROXIMATE)
def test_mner_qg_is_exact_for_texts_alike(tmp_path, case):
    rows = [make_trainer(tmp_path, case).train_dataset[-2]] * 4
    expected, loss = gradients_of(make_trainer(tmp_path, case, rows=rows))
    for accumulation in (2, 4):
        parted, parted_loss = gradients_of(make_trainer(tmp_path, case, accumulation, rows=rows))
        assert distance(expected, parted) < TOLERANCE
        assert parted_loss == pytest.approx(loss, rel=1e-5)


# ------------------------------------------------------------------------------------------------------ checkpointing


@pytest.mark.parametrize("case", HEADS)
def test_activations_that_are_computed_twice_give_the_same_gradient(tmp_path, case, monkeypatch):
    calls: list[str] = []
    plain = make_trainer(tmp_path, case)
    layers = [m for m in plain.model.text_model.modules() if isinstance(m, GradientCheckpointingLayer)]
    part_class = type(layers[0].attention)
    forward = part_class.forward
    monkeypatch.setattr(part_class, "forward", lambda self, *a, **k: calls.append("") or forward(self, *a, **k))
    expected, loss = gradients_of(plain)
    once = len(calls)
    assert once >= len(layers) == 2
    calls.clear()
    options = RunOptions(has_gradient_checkpointing=True).arguments("x")
    trainer = make_trainer(
        tmp_path, case, **{name: value for name, value in options.items() if name.startswith("activation")}
    )
    twice, twice_loss = gradients_of(trainer)
    assert len(calls) == 2 * once
    assert twice_loss == loss
    assert distance(expected, twice) < 1e-6
