from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import CLASSES, tiny_examples, tiny_mmavk, tiny_mmavk_processor, tiny_processor, tiny_scanner
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_mner.layers.losses import trust_your_teacher_loss
from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.trainer import TrustYourTeacherTrainer, normalization_weights

LABEL2ID = {name: index for index, name in enumerate(CLASSES)}
STAGES = {"detection": "ScannerForSpanDetection", "recognition": "ScannerForEntityRecognition"}


def arguments(folder: Path, **kwargs) -> MnerTrainingArguments:
    kwargs = {"per_device_train_batch_size": 4, "report_to": "none", "save_strategy": "no", **kwargs}
    return MnerTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **kwargs)


def make_trainer(folder: Path, stage: str = "recognition", teacher=None, model=None, examples=None, **kwargs):
    processor = tiny_processor()
    model = model or tiny_scanner(STAGES[stage], grounding_weight=1.0)
    rows = processor.rows(examples or tiny_examples(), stage, LABEL2ID)
    args = arguments(folder, **kwargs)
    return TrustYourTeacherTrainer(model, args, processing_class=processor, train_dataset=rows, teacher=teacher)


# ---------------------------------------------------------------------------------------------------------- optimizer


def group_of_each_parameter(trainer: TrustYourTeacherTrainer) -> dict[str, dict]:
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    found = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert len(found) == len(dict(found)), "no parameter is in two groups"
    return dict(found)


def test_heads_have_their_own_learning_rate(tmp_path):
    trainer = make_trainer(tmp_path, learning_rate=1e-4, head_learning_rate=1e-2)
    groups = group_of_each_parameter(trainer)
    assert groups.keys() == {name for name, _ in trainer.model.named_parameters()}
    for name, group in groups.items():
        assert group["lr"] == (1e-4 if name.startswith("text_model.") else 1e-2), name


@pytest.mark.parametrize(("head_rate", "expected"), [(None, 1e-4), (0.0, 0.0)])
def test_head_learning_rate_may_be_absent_or_zero(tmp_path, head_rate, expected):
    groups = group_of_each_parameter(make_trainer(tmp_path, learning_rate=1e-4, head_learning_rate=head_rate))
    assert groups["classifier.weight"]["lr"] == expected
    assert groups["text_model.encoder.layer.0.attention.self.query.weight"]["lr"] == 1e-4


def test_biases_and_normalisation_do_not_decay(tmp_path):
    groups = group_of_each_parameter(make_trainer(tmp_path, weight_decay=0.1))
    for name, group in groups.items():
        is_spared = name.endswith("bias") or "LayerNorm" in name
        assert group["weight_decay"] == (0.0 if is_spared else 0.1), name


def test_heads_of_the_joined_model_are_found(tmp_path):
    trainer = make_trainer(tmp_path, model=tiny_scanner(), learning_rate=1e-4, head_learning_rate=1e-2)
    groups = group_of_each_parameter(trainer)
    assert groups["span_detection.classifier.weight"]["lr"] == 1e-2
    assert groups["entity_recognition.grounding.bias"]["lr"] == 1e-2
    assert groups["span_detection.text_model.embeddings.word_embeddings.weight"]["lr"] == 1e-4


def test_frozen_parameters_are_not_optimised(tmp_path):
    model = tiny_scanner("ScannerForEntityRecognition")
    model.text_model.embeddings.requires_grad_(False)
    groups = group_of_each_parameter(make_trainer(tmp_path, model=model))
    assert groups.keys() == {name for name, _ in model.named_parameters() if ".embeddings." not in name}


def tagging_trainer(folder: Path, fusion: str = "word_level", rows=None, **kwargs) -> TrustYourTeacherTrainer:
    model, processor = tiny_mmavk(fusion=fusion), tiny_mmavk_processor(fusion=fusion)
    rows = rows or processor.rows(tiny_examples(), label2id=model.config.label2id)
    args = arguments(folder, **kwargs)
    return TrustYourTeacherTrainer(model, args, processing_class=processor, train_dataset=rows, eval_dataset=rows)


@pytest.mark.parametrize(
    ("rates", "head", "crf"),
    [
        ({}, 1e-4, 1e-4),
        ({"head_learning_rate": 1e-3}, 1e-3, 1e-3),
        ({"crf_learning_rate": 1e-2}, 1e-4, 1e-2),
        ({"head_learning_rate": 1e-3, "crf_learning_rate": 1e-2}, 1e-3, 1e-2),
        ({"head_learning_rate": 1e-3, "crf_learning_rate": 0.0}, 1e-3, 0.0),
    ],
)
def test_crf_has_its_own_learning_rate(tmp_path, rates, head, crf):
    groups = group_of_each_parameter(tagging_trainer(tmp_path, learning_rate=1e-4, weight_decay=0.1, **rates))
    assert {name.split(".")[0] for name in groups} == {
        "text_model",
        "knowledge_projection",
        "fusion",
        "classifier",
        "crf",
    }
    expected = {"text_model": 1e-4, "crf": crf}
    for name, group in groups.items():
        assert group["lr"] == expected.get(name.split(".")[0], head), name


def test_prefix_is_a_head_and_its_image_encoder_is_not_optimised(tmp_path):
    rates = {"learning_rate": 1e-4, "head_learning_rate": 1e-2}
    groups = group_of_each_parameter(tagging_trainer(tmp_path, "prefix", **rates))
    assert not any(name.startswith("vision_model.") for name in groups)
    assert groups["prefix.encoder.0.weight"]["lr"] == groups["prefix.gates.1.bias"]["lr"] == 1e-2


# ------------------------------------------------------------------------------------------------- batches by length


def test_rows_are_grouped_by_all_that_the_model_reads(tmp_path):
    processor, label2id = tiny_mmavk_processor(), tiny_mmavk().config.label2id
    examples = [
        {"tokens": ["a"] * (1 + number % 3), "entities": [], "knowledge": {"auxiliary": "coach " * (24 - number)}}
        for number in range(24)
    ]
    rows = processor.rows(examples, label2id=label2id)
    trainer = tagging_trainer(
        tmp_path, rows=rows, train_sampling_strategy="group_by_length", per_device_train_batch_size=4
    )
    lengths = [len(row["input_ids"]) + len(row["knowledge_ids"]) for row in rows]
    for sampler in (trainer._get_train_sampler(), trainer._get_eval_sampler(rows)):
        assert isinstance(sampler, LengthGroupedSampler)
        assert sampler.lengths == lengths
        assert sorted(sampler) == list(range(24))
    order = list(trainer._get_train_sampler())
    assert lengths[order[0]] == max(lengths), "the longest batch comes first, so that memory fails early"


def test_a_plain_sampler_stays_as_it_is(tmp_path):
    sampler = tagging_trainer(tmp_path)._get_train_sampler()
    assert not isinstance(sampler, LengthGroupedSampler)
    assert not hasattr(sampler, "lengths")


# ------------------------------------------------------------------------------------------------------------ teacher


def test_teacher_is_needed(tmp_path):
    with pytest.raises(ValueError, match="distillation='tyt'. needs a teacher.*or train one first"):
        make_trainer(tmp_path, distillation="tyt")


def test_teacher_with_other_labels_is_refused(tmp_path):
    teacher = tiny_scanner("ScannerForEntityRecognition", classes=["PER", "LOC"])
    with pytest.raises(ValueError, match=r"teacher's labels are \['PER', 'LOC'\] and the student's"):
        make_trainer(tmp_path, teacher=teacher, distillation="tyt")


def test_teacher_with_another_order_of_labels_is_refused(tmp_path):
    teacher = tiny_scanner("ScannerForEntityRecognition", classes=CLASSES[::-1])
    with pytest.raises(ValueError, match=r"labels are \['non-entity',.*with the same labels in the same order"):
        make_trainer(tmp_path, teacher=teacher, distillation="half")


def test_unknown_distillation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="distillation='all'.*choose one of none, half, full, tyt"):
        arguments(tmp_path, distillation="all")


@pytest.mark.parametrize("stage", STAGES)
def test_rows_hold_what_the_teacher_says_of_them(tmp_path, stage):
    teacher = tiny_scanner(STAGES[stage], seed=4).train()  # the trainer must turn its dropout off
    examples = [*tiny_examples(), {**tiny_examples()[0], "tokens": ["x"] * 300}]  # also a text of several windows
    trainer = make_trainer(tmp_path, stage, teacher, examples=examples, distillation="tyt")
    processor, rows = tiny_processor(), trainer.train_dataset
    assert len(rows) == len(processor.rows(examples, stage))
    for row in rows:
        unlabelled = {k: v for k, v in row.items() if k not in ("labels", "overlaps", "teacher_logits")}
        with torch.no_grad():
            alone = teacher.eval()(**processor.pad([unlabelled])).logits[0]
        # float32 in a batch of other widths: 1e-6 measured; another row's or position's scores differ by 1e-1.
        assert torch.allclose(row["teacher_logits"], alone, atol=2e-5)
        assert len(row["teacher_logits"]) == (len(row["labels"]) if stage == "detection" else len(CLASSES))


def test_teacher_may_be_a_folder(tmp_path):
    teacher = tiny_scanner("ScannerForEntityRecognition", seed=4)
    teacher.save_pretrained(tmp_path / "teacher")
    one = make_trainer(tmp_path, teacher=teacher, distillation="full").train_dataset
    other = make_trainer(tmp_path, teacher=str(tmp_path / "teacher"), distillation="full").train_dataset
    assert all(torch.equal(a["teacher_logits"], b["teacher_logits"]) for a, b in zip(one, other, strict=True))


def test_given_rows_are_not_changed(tmp_path):
    processor = tiny_processor()
    rows = processor.rows(tiny_examples(), "recognition", LABEL2ID)
    before = copy.deepcopy(rows)
    TrustYourTeacherTrainer(
        tiny_scanner("ScannerForEntityRecognition"),
        arguments(tmp_path, distillation="tyt"),
        processing_class=processor,
        train_dataset=rows,
        teacher=tiny_scanner("ScannerForEntityRecognition", seed=4),
    )
    assert rows == before


# --------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("distillation", ["half", "full", "tyt"])
@pytest.mark.parametrize("stage", STAGES)
def test_loss_is_equation_4_and_the_plain_grounding_loss(tmp_path, stage, distillation):
    teacher = tiny_scanner(STAGES[stage], seed=4)
    trainer = make_trainer(tmp_path, stage, teacher, distillation=distillation)
    batch = trainer.data_collator(trainer.train_dataset)
    loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    expected = trust_your_teacher_loss(outputs.logits, batch["teacher_logits"], batch["labels"], distillation)
    if stage == "recognition":
        assert outputs.grounding_loss > 0.1
        expected = expected + outputs.grounding_loss
    assert torch.allclose(loss, expected)


@pytest.mark.parametrize("stage", STAGES)
def test_loss_without_distillation_is_the_models_own(tmp_path, stage):
    trainer = make_trainer(tmp_path, stage, teacher=tiny_scanner(STAGES[stage], seed=4))
    batch = trainer.data_collator(trainer.train_dataset)
    assert "teacher_logits" not in batch
    trainer.model.eval()
    assert trainer.compute_loss(trainer.model, dict(batch)) == trainer.model(**batch).loss


# ------------------------------------------------------------------------------------------------------- accumulation


def undisturbed(stage: str) -> torch.nn.Module:
    model = tiny_scanner(STAGES[stage], grounding_weight=1.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def after_one_update(folder: Path, batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
    """Train stage 2 for one update of plain gradient descent on four candidates with two objects each."""
    examples = [copy.deepcopy(tiny_examples()[1]) for _ in range(4)]
    for number, example in enumerate(examples):
        example["entities"][0]["type"] = CLASSES[number]
        example["tokens"][1] = ["Paris", "Rome", "Oakland", "NBA"][number]
    trainer = make_trainer(
        folder,
        model=undisturbed("recognition"),
        teacher=tiny_scanner("ScannerForEntityRecognition", seed=4),
        examples=examples,
        distillation="tyt",
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
        max_steps=1,
        lr_scheduler_type="constant",
    )
    trainer.train()
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_accumulated_micro_batches_make_the_update_of_one_batch(tmp_path):
    start = undisturbed("recognition").state_dict()
    whole = after_one_update(tmp_path / "whole", 4, 1)
    for batch_size, accumulation in ((2, 2), (1, 4)):
        parts = after_one_update(tmp_path / str(batch_size), batch_size, accumulation)
        moved = max((whole[name] - start[name]).abs().max() for name in whole)
        apart = max((whole[name] - parts[name]).abs().max() for name in whole)
        # float32 sums in another order; an update that is not divided by the steps is `accumulation` times as long.
        assert moved > 1e-3
        assert apart < 1e-3 * moved


def test_batch_normalisation_does_not_decay():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.GroupNorm(2, 4))
    assert normalization_weights(model) == {"1.weight", "2.weight"}
