"""Trust Your Teacher for every head: the loss, the teacher before training and in each batch, its scores on disk."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import OBJECT_LABELS, TINY_SYSTEMS, tiny_examples, with_images
from torch import nn

from hf_mner.layers.spans import span_targets
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.training import teacher as teacher_module
from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.recipes import GroundingRecipe, load_recipe
from hf_mner.training.teacher import TEACHER_SCORES, add_to_digest, fingerprint, load_scores, pad_scores, save_scores
from hf_mner.training.trainer import TrustYourTeacherTrainer

HEADS = {
    "detection": ("scanner", "ScannerForSpanDetection"),
    "recognition": ("scanner", "ScannerForEntityRecognition"),
    "mmavk": ("mmavk", "MmavkForTokenClassification"),
    "ham_learning": ("ham_learning", "HamLearningForTokenClassification"),
    "mner_qg": ("mner_qg", "MnerQgForMultimodalNer"),
}
TAGGERS = ("mmavk", "ham_learning")
SURE = 40.0  # exp(-40) is 0 beside 1 in float32


def make_model(head: str, seed: int = 1, **fields: Any) -> nn.Module:
    """A tiny model without dropout, so that training gives what evaluation gives."""
    system = TINY_SYSTEMS[HEADS[head][0]]
    if HEADS[head][0] == "scanner":
        fields = {**system.training_fields, **fields}
    model = system.model(HEADS[head][1], seed=seed, **fields)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def make_rows(head: str, model: nn.Module, examples: list[dict[str, Any]] | None = None) -> tuple[Any, list]:
    system = TINY_SYSTEMS[HEADS[head][0]]
    processor = system.processor()
    examples = system.examples() if examples is None else examples
    return processor, list(processor.rows(examples, system.stages[HEADS[head][1]][0], model.config.label2id))


def make_trainer(folder: Path, head: str, teacher: Any = None, model: Any = None, rows: Any = None, **kwargs):
    model = model or make_model(head)
    processor, own = make_rows(head, model)
    rows = own if rows is None else rows
    kwargs = {"per_device_train_batch_size": 3, "report_to": "none", "save_strategy": "no", **kwargs}
    args = MnerTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **kwargs)
    return TrustYourTeacherTrainer(
        model, args, processing_class=processor, train_dataset=rows, eval_dataset=rows, teacher=teacher
    )


def labelled_batch(head: str, model: nn.Module) -> dict[str, torch.Tensor]:
    processor, rows = make_rows(head, model)
    return dict(processor.pad(rows))


def sure_of_gold(head: str, model: nn.Module, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a teacher says that has no doubt of the gold labels."""
    if head == "mner_qg":
        targets = span_targets(labels, model.config.num_labels)
        start_end = torch.stack([targets.start, targets.end], dim=-1)
        answers = {"logits": start_end, "existence_logits": targets.exists, "match_logits": targets.match}
        return {name: torch.where(answer, SURE, -SURE) for name, answer in answers.items()}
    hot = nn.functional.one_hot(labels.clamp(min=0), len(model.class_names)).float()
    return {"conditionals": (hot - 1) * SURE} if head in TAGGERS else {"logits": hot * SURE}


# -------------------------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("head", HEADS)
def test_full_trust_in_gold_is_the_plain_loss(head):
    model, teacher = make_model(head).train(), make_model(head, seed=5)
    batch = labelled_batch(head, model)
    outputs = model(**batch)
    with torch.no_grad():
        said = teacher.read_as_teacher(batch)
    assert said.keys() == model.teacher_fields.keys()
    # float32: the CRF's gold conditionals sum to its likelihood, of about 100 here.
    assert model.distillation_loss(outputs, batch, said, "none").item() == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert model.distillation_loss(outputs, batch, said, "tyt").item() != pytest.approx(outputs.loss.item(), rel=1e-2)


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_that_is_sure_of_gold_leaves_the_plain_loss(head):
    model = make_model(head).train()
    batch = labelled_batch(head, model)
    outputs = model(**batch)
    said = sure_of_gold(head, model, batch["labels"])
    assert model.distillation_loss(outputs, batch, said, "tyt").item() == pytest.approx(outputs.loss.item(), rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_full_trust_in_a_teacher_that_is_the_student_leaves_nothing_but_grounding(head):
    model = make_model(head).train()
    batch = labelled_batch(head, model)
    outputs = model(**batch)
    with torch.no_grad():
        said = copy.deepcopy(model).read_as_teacher(batch)  # in training too: its images have batch normalisation
    ground = outputs.get("grounding_loss")
    assert (ground is not None) == (head in ("recognition", "mner_qg"))
    expected = 0.0 if ground is None else ground.item()
    assert model.distillation_loss(outputs, batch, said, "full").item() == pytest.approx(expected, abs=1e-4)


def two_class(score: float) -> list[float]:
    yes = 1 / (1 + torch.tensor(-score, dtype=torch.float64).exp().item())
    return [1 - yes, yes]


def blended(student: list[float], teacher: list[float], gold: int, distillation: str) -> float:
    """Eq. 4 for one position, from probabilities."""
    s, t = torch.tensor(student, dtype=torch.float64), torch.tensor(teacher, dtype=torch.float64)
    trust = {"half": 0.5, "full": 0.0, "tyt": t[gold].item()}[distillation]
    return trust * -s[gold].log().item() + (1 - trust) * (s * (s / t).log()).sum().item()


@pytest.mark.parametrize("distillation", ["half", "full", "tyt"])
@pytest.mark.parametrize("head", TAGGERS)
def test_a_crf_blends_at_each_word(head, distillation):
    model, teacher = make_model(head).train(), make_model(head, seed=5)
    with torch.no_grad():  # of one size, or Eq. 4 would compare zeros
        for each in (model, teacher):
            each.classifier.weight *= 0.1
    batch = labelled_batch(head, model)
    outputs = model(**batch)
    with torch.no_grad():
        said = teacher.read_as_teacher(batch)["conditionals"]
        own = model.conditionals(outputs.logits, batch["labels"])
    total = sum(
        blended(own[text, word].exp().tolist(), said[text, word].exp().tolist(), label, distillation)
        for text, labels in enumerate(batch["labels"].tolist())
        for word, label in enumerate(labels)
        if label != -100
    )
    found = model.distillation_loss(outputs, batch, {"conditionals": said}, distillation)
    assert found.item() == pytest.approx(total / len(batch["labels"]), rel=1e-4)


@pytest.mark.parametrize("distillation", ["half", "full", "tyt"])
def test_mner_qg_blends_each_answer_with_the_weights_of_equation_6(distillation):
    fields = {"existence_weight": 0.7, "span_weight": 1.3, "grounding_weight": 0.5}
    model, teacher = make_model("mner_qg", **fields).train(), make_model("mner_qg", seed=5, **fields)
    with torch.no_grad():
        for each in (model, teacher):
            for layer in (each.start_classifier, each.end_classifier, each.match_classifier):
                layer.weight *= 0.2
    batch = labelled_batch("mner_qg", model)
    outputs = model(**batch)
    with torch.no_grad():
        said = teacher.read_as_teacher(batch)
    targets, real = span_targets(batch["labels"], 4), batch["labels"] != -100
    kinds: dict[str, list[float]] = {"existence": [], "start": [], "end": [], "match": []}

    def add(kind: str, student: torch.Tensor, other: torch.Tensor, gold: torch.Tensor) -> None:
        kinds[kind].append(blended(two_class(student.item()), two_class(other.item()), int(gold), distillation))

    for text, kind in torch.ones_like(outputs.existence_logits).nonzero().tolist():
        place = (text, kind)
        add("existence", outputs.existence_logits[place], said["existence_logits"][place], targets.exists[place])
        for word in real[text].nonzero().flatten().tolist():
            place = (text, word, kind)
            add("start", outputs.logits[place][0], said["logits"][place][0], targets.start[place])
            add("end", outputs.logits[place][1], said["logits"][place][1], targets.end[place])
            for last in range(word, int(real[text].sum())):
                if targets.start[text, word, kind] and targets.end[text, last, kind]:
                    place = (text, word, last, kind)
                    add("match", outputs.match_logits[place], said["match_logits"][place], targets.match[place])
    means = {kind: sum(values) / len(values) for kind, values in kinds.items()}
    expected = 0.7 * means["existence"] + 1.3 * (means["start"] + means["end"] + means["match"])
    expected += outputs.grounding_loss.item()
    assert outputs.grounding_loss > 0
    found = model.distillation_loss(outputs, batch, said, distillation)
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_the_student_alone(head):
    model, teacher = make_model(head).train(), make_model(head, seed=5)
    batch = labelled_batch(head, model)
    said = teacher.read_as_teacher(batch)
    model.distillation_loss(model(**batch), batch, said, "tyt").backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_texts_without_labels_count_for_nothing(head):
    model, teacher = make_model(head).train(), make_model(head, seed=5)
    batch = labelled_batch(head, model)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    said = teacher.read_as_teacher(batch)
    outputs = model(**batch)
    loss = model.distillation_loss(outputs, batch, said, "tyt")
    assert torch.isfinite(loss)
    assert loss.item() == pytest.approx(outputs.loss.item(), abs=1e-6)


# ---------------------------------------------------------------------------------------------- offline and online


def batch_and_loss(trainer: TrustYourTeacherTrainer, rows: slice) -> tuple[dict[str, torch.Tensor], float]:
    batch = dict(trainer.data_collator(trainer.train_dataset[rows]))
    trainer.model.train()
    return batch, trainer.compute_loss(trainer.model, batch).item()


@pytest.mark.parametrize("head", HEADS)
def test_offline_and_online_give_the_same_loss(tmp_path, head):
    offline = make_trainer(tmp_path / "a", head, make_model(head, seed=5), distillation="tyt")
    online = make_trainer(tmp_path / "b", head, make_model(head, seed=5), distillation="tyt", teacher_mode="online")
    assert (offline.teacher, online.teacher is None) == (None, False)
    assert not (tmp_path / "b" / TEACHER_SCORES).exists()
    for rows in (slice(0, 3), slice(2, 6), slice(1, 2)):
        batch, loss = batch_and_loss(offline, rows)
        assert {name for name in batch if name.startswith("teacher_")} == {
            f"teacher_{name}" for name in offline.model.teacher_fields
        }
        other_batch, other = batch_and_loss(online, rows)
        assert not any(name.startswith("teacher_") for name in other_batch)
        # The teacher read the rows beside others, with other padding: float32 in another order.
        assert loss == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_with_a_teacher_and_at_perturbed_weights(tmp_path, head, mode):
    teacher = make_model(head, seed=5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = make_trainer(
        tmp_path, head, teacher.train(), distillation="tyt", teacher_mode=mode, awp_start_epoch=0.5, num_train_epochs=1
    )
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert any(not torch.equal(value, first[name]) for name, value in trainer.model.state_dict().items())
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("head", ["detection", "mmavk"])
def test_evaluation_gives_the_plain_loss(tmp_path, head, mode):
    model = make_model(head)
    taught = make_trainer(
        tmp_path / "a", head, make_model(head, seed=5), model, distillation="tyt", teacher_mode=mode
    ).evaluate()
    plain = make_trainer(tmp_path / "b", head, model=model).evaluate()
    assert taught["eval_loss"] == plain["eval_loss"]


def test_images_that_change_ask_for_an_online_teacher(tmp_path):
    processor, rows = make_rows("mner_qg", make_model("mner_qg"))
    rows = [{**row, "is_distorted": row["image"] is not None} for row in rows]
    teacher = make_model("mner_qg", seed=5)
    with pytest.raises(ValueError, match="teacher_mode='offline'.*is_distorted.*use `teacher_mode='online'`"):
        make_trainer(tmp_path, "mner_qg", teacher, rows=rows, distillation="tyt")
    trainer = make_trainer(tmp_path, "mner_qg", teacher, rows=rows, distillation="tyt", teacher_mode="online")
    assert torch.isfinite(torch.tensor(batch_and_loss(trainer, slice(0, 3))[1]))


def test_an_online_teacher_with_another_image_encoder_is_refused(tmp_path):
    student = make_model("mner_qg", is_vision_frozen=True).train()
    teacher = make_model("mner_qg", seed=5, is_vision_frozen=True)
    processor, raw = make_rows("mner_qg", student)
    make_trainer(tmp_path, "mner_qg", teacher, student, raw, distillation="tyt", teacher_mode="online")
    rows = student.encode_shared(raw, processor, 4, EncodingCache())
    settings = {"model": student, "rows": rows, "distillation": "tyt"}
    with pytest.raises(ValueError, match="another image encoder than the student.*use `teacher_mode='offline'`"):
        make_trainer(tmp_path, "mner_qg", teacher, teacher_mode="online", **settings)
    offline = make_trainer(tmp_path, "mner_qg", teacher, **settings).train_dataset
    own = make_trainer(tmp_path / "raw", "mner_qg", teacher, student, raw, distillation="tyt").train_dataset
    assert torch.equal(offline[0]["teacher_logits"], own[0]["teacher_logits"]), "it reads the images itself"
    teacher.vision_model.load_state_dict(student.vision_model.state_dict())
    assert make_trainer(tmp_path, "mner_qg", teacher, teacher_mode="online", **settings).teacher is teacher


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("head", ["mmavk", "mner_qg", "ham_learning"])
def test_a_teacher_with_other_labels_is_refused(tmp_path, head):
    teacher = make_model(head, types=["PER", "LOC"])
    with pytest.raises(ValueError, match="teacher's labels are .* and the student's .*the same labels"):
        make_trainer(tmp_path, head, teacher, distillation="tyt")


def test_a_teacher_that_knows_other_objects_is_refused(tmp_path):
    teacher = make_model("ham_learning", object_labels=OBJECT_LABELS[::-1])
    with pytest.raises(ValueError, match="teacher has `object_labels=.*use a teacher trained on the same data"):
        make_trainer(tmp_path, "ham_learning", teacher, distillation="tyt")


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_is_needed(tmp_path, head):
    with pytest.raises(ValueError, match="distillation='half'. needs a teacher"):
        make_trainer(tmp_path, head, distillation="half")


@pytest.mark.parametrize(
    ("name", "head"), [("mner_qg", "MnerQgForVisualGrounding"), ("scanner", "ScannerForMultimodalNer")]
)
def test_a_model_without_answers_to_compare_is_refused(tmp_path, name, head):
    system = TINY_SYSTEMS[name]
    args = MnerTrainingArguments(output_dir=str(tmp_path), use_cpu=True, distillation="tyt")
    with pytest.raises(ValueError, match=f"distillation='tyt'.*{head} gives none.*distillation='none'"):
        TrustYourTeacherTrainer(system.model(head), args, processing_class=system.processor())


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="teacher_mode='live'.*choose one of offline, online"):
        make_trainer(tmp_path, "mmavk", teacher_mode="live")


def test_recipes_refuse_what_cannot_be_taught():
    schedule = {"epochs": 1, "batch_size": 1, "learning_rate": 0.1, "weight_decay": 0}
    distorted = {**schedule, "is_distorted": True, "distillation": "tyt"}
    with pytest.raises(Exception, match="teacher_mode|validate_teacher") as error:
        GroundingRecipe(**distorted)
    assert "`teacher_mode` must be 'online' with `is_distorted: true`" in f"{error.value} {error.value.__cause__}"
    assert GroundingRecipe(**distorted, teacher_mode="online").is_distorted
    assert GroundingRecipe(**{**distorted, "distillation": "none"}).is_distorted
    recipes = Path(__file__).parents[3] / "recipes" / "mner_qg"
    with pytest.raises(ValueError, match="`distillation` must be 'none' for `task: grounding`"):
        load_recipe(recipes / "yolo-grounding-mini.yaml", {"training.distillation": "tyt"})


# ---------------------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def readings(monkeypatch) -> list[int]:
    """How many rows the teacher read at each time that it did."""
    counts: list[int] = []
    read = teacher_module.read_rows
    monkeypatch.setattr(teacher_module, "read_rows", lambda *args: counts.append(len(args[2])) or read(*args))
    return counts


@pytest.mark.parametrize("head", HEADS)
def test_scores_are_read_from_disk_when_teacher_and_rows_are_the_same(tmp_path, head, readings):
    model = make_model(head)
    _, rows = make_rows(head, model)
    first = make_trainer(tmp_path, head, make_model(head, seed=5), distillation="tyt").train_dataset
    assert readings == [len(rows)]
    assert [path.name for path in tmp_path.iterdir()] == [TEACHER_SCORES]
    again = make_trainer(tmp_path, head, make_model(head, seed=5), distillation="half").train_dataset
    assert readings == [len(rows)]
    for one, other in zip(first, again, strict=True):
        names = [name for name in one if name.startswith("teacher_")]
        assert len(names) == len(model.teacher_fields)
        assert all(torch.equal(one[name], other[name]) for name in names)
    make_model(head, seed=5).save_pretrained(tmp_path / "teacher")
    make_trainer(tmp_path, head, tmp_path / "teacher", distillation="tyt")
    assert readings == [len(rows)], "a teacher from its folder is the same teacher"


@pytest.mark.parametrize("head", ["detection", "mmavk", "mner_qg"])
def test_another_teacher_reads_anew(tmp_path, head, readings):
    before = make_trainer(tmp_path, head, make_model(head, seed=5), distillation="tyt").train_dataset
    teacher = make_model(head, seed=5)
    with torch.no_grad():
        next(iter(teacher.parameters())).add_(1e-3)
    after = make_trainer(tmp_path, head, teacher, distillation="tyt").train_dataset
    assert len(readings) == 2
    name = f"teacher_{next(iter(teacher.teacher_fields))}"
    assert any(not torch.equal(one[name], other[name]) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("change", ["word", "order", "fewer"])
def test_other_rows_are_read_anew(tmp_path, change, readings):
    model = make_model("mmavk")
    examples = tiny_examples()
    make_trainer(tmp_path, "mmavk", make_model("mmavk", seed=5), distillation="tyt")
    if change == "word":
        examples[0]["tokens"][2] = "visits"
    elif change == "order":
        examples = examples[::-1]
    else:
        examples = examples[:-1]
    _, rows = make_rows("mmavk", model, examples)
    make_trainer(tmp_path, "mmavk", make_model("mmavk", seed=5), rows=rows, distillation="tyt")
    assert readings == [6, len(rows)]


def test_a_file_that_is_broken_is_read_anew(tmp_path, readings, caplog):
    make_trainer(tmp_path, "mmavk", make_model("mmavk", seed=5), distillation="tyt")
    (tmp_path / TEACHER_SCORES).write_bytes(b"half a fi")
    make_trainer(tmp_path, "mmavk", make_model("mmavk", seed=5), distillation="tyt")
    assert len(readings) == 2
    assert "cannot be read" in caplog.text


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / TEACHER_SCORES
    save_scores(path, "a", [{"logits": torch.ones(2)}])

    def fail(tensors: dict, unfinished: Path, **kwargs: Any) -> None:
        unfinished.write_bytes(b"half")
        raise InterruptedError

    monkeypatch.setattr(teacher_module, "save_file", fail)
    with pytest.raises(InterruptedError):
        save_scores(path, "b", [{"logits": torch.zeros(2)}])
    assert torch.equal(load_scores(path, "a", 1)[0]["logits"], torch.ones(2))
    assert load_scores(path, "b", 1) is None


def test_scores_of_any_shape_come_back(tmp_path):
    scores = [{"a": torch.randn(n, n, 2), "b": torch.randn(3), "c": torch.randn(())} for n in (0, 2, 5)]
    save_scores(tmp_path / "new" / TEACHER_SCORES, "key", scores)
    found = load_scores(tmp_path / "new" / TEACHER_SCORES, "key", 3)
    assert all(torch.equal(one[name], other[name]) for one, other in zip(scores, found, strict=True) for name in one)
    assert load_scores(tmp_path / "absent", "key", 3) is None


def test_an_image_and_a_query_count_for_the_key():
    model = make_model("mner_qg")
    processor, rows = make_rows("mner_qg", model)
    key = fingerprint(model, processor, rows)
    _, again = make_rows("mner_qg", model)
    assert fingerprint(model, processor, again) == key
    _, others = make_rows("mner_qg", model, with_images(tiny_examples()[:5])[::-1])
    assert fingerprint(model, processor, others) != key
    changed = with_images(tiny_examples())
    changed[0]["image"].putpixel((0, 0), (1, 2, 3))
    assert fingerprint(model, processor, make_rows("mner_qg", model, changed)[1]) != key
    asking = TINY_SYSTEMS["mner_qg"].processor(style="annotation")
    assert fingerprint(model, asking, rows) != key


def test_padding_is_zeros_behind():
    padded = pad_scores([torch.ones(1, 1, 2), torch.ones(3, 3, 2)])
    assert padded.shape == (2, 3, 3, 2)
    assert (padded[0].sum(), padded[1].sum()) == (2, 18)


def test_arrays_count_in_full():
    """Their `repr` leaves out the middle."""
    one, other = np.zeros(5000), np.zeros(5000)
    other[2500] = 1.0
    digests = [hashlib.blake2b() for _ in range(3)]
    for digest, array in zip(digests, (one, other, one.copy()), strict=True):
        add_to_digest(digest, {"features": array})
    assert digests[0].digest() == digests[2].digest() != digests[1].digest()
