"""What every registered system must do, for every head and, where it matters, every kind of tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import KINDS, TINY_SYSTEMS, tiny_examples
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, AutoProcessor

import hf_mner
from hf_mner.auto import SYSTEMS
from hf_mner.models.base.recognition import recognize_entities, run_rows

HEADS = [(system, head) for system in SYSTEMS for head in SYSTEMS[system].models]
HEADS_AND_KINDS = [(system, head, kind) for system, head in HEADS for kind in KINDS]
TRAINABLE = [(system, head) for system, head in HEADS if TINY_SYSTEMS[system].is_trainable[head]]


def batches(system: str, head: str, kind: str = "bert", labelled: bool = False, examples=None) -> list[dict]:
    """One padded batch for each stage that the head reads."""
    tiny = TINY_SYSTEMS[system]
    processor = tiny.processor(kind)
    label2id = tiny.config(kind).label2id if labelled else None
    return [dict(processor(examples or tiny.examples(), stage, label2id)) for stage in tiny.stages[head]]


@torch.no_grad()
def outputs(model: torch.nn.Module, batch_list: list[dict]) -> list[dict[str, torch.Tensor]]:
    return [{name: v for name, v in model(**batch).items() if torch.is_tensor(v)} for batch in batch_list]


def assert_equal_outputs(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        assert "logits" in left
        for name in left:
            assert torch.equal(left[name], right[name]), name


def save(system: str, head: str, folder: Path, kind: str = "bert") -> torch.nn.Module:
    model = TINY_SYSTEMS[system].model(head, kind)
    model.save_pretrained(folder)
    TINY_SYSTEMS[system].processor(kind).save_pretrained(folder)
    return model


def test_every_system_has_a_tiny_one():
    assert set(TINY_SYSTEMS) == set(SYSTEMS)
    for system, tiny in TINY_SYSTEMS.items():
        assert set(tiny.stages) == set(SYSTEMS[system].models)


@pytest.mark.parametrize("system", SYSTEMS)
def test_classes_are_public(system):
    names = SYSTEMS[system]
    for name in (names.config, names.processor, *names.models):
        assert name in hf_mner.__all__
        assert getattr(hf_mner, name).__name__ == name


# ---------------------------------------------------------------------------------------- configuration, processor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_config_round_trip(system, kind, tmp_path):
    config = TINY_SYSTEMS[system].config(kind)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(config)
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert loaded.label2id == config.label2id
    assert set(loaded.id2label) == set(range(len(config.label2id))), "the keys are whole numbers again"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_processor_round_trip(system, kind, tmp_path):
    tiny = TINY_SYSTEMS[system]
    processor = tiny.processor(kind, max_length=77)
    tiny.config(kind).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(processor)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.max_length == 77
    assert len(loaded.tokenizer) == len(processor.tokenizer)
    for stage in processor.stages:
        one, other = processor(tiny.examples(), stage), loaded(tiny.examples(), stage)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("system", SYSTEMS)
def test_processor_says_what_it_cannot_do(system):
    processor = TINY_SYSTEMS[system].processor()
    with pytest.raises(ValueError, match="return_tensors='np'.*use 'pt'"):
        processor(tiny_examples(), return_tensors="np")
    with pytest.raises(ValueError, match="stage='typing'.*choose one of " + ", ".join(processor.stages)):
        processor(tiny_examples(), "typing")
    with pytest.raises(ValueError, match=r"Example blank has no words \(`tokens=\[' '\]`\)"):
        processor([{"id": "blank", "tokens": [" "]}])
    with pytest.raises(ValueError, match="Example number 1 has no words"):
        processor([{"tokens": ["a"]}, {"tokens": []}])


@pytest.mark.parametrize(
    ("examples", "what"),
    [
        ([{"tokens": ["a"]}, {"text": "Kerr lands"}], "number 1 has the keys text"),
        ({"id": "kerr", "tokens": "Kerr lands"}, "kerr has `tokens='Kerr lands'`"),
        ({"tokens": ["Kerr", 5]}, r"number 0 has `tokens=\['Kerr', 5\]`"),
        ({"tokens": None}, "number 0 has `tokens=None`"),
        ("Kerr", "number 0 is 'Kerr'"),
        (["Kerr", "lands"], "number 0 is 'Kerr'"),
        (5, "number 0 is 5"),
    ],
)
@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_no_example_is_refused(system, examples, what):
    wanted = "; an example is a mapping with `tokens`, a list of words. For texts use the pipeline"
    with pytest.raises(ValueError, match=f"Example {what}{wanted}"):
        TINY_SYSTEMS[system].processor()(examples)


@pytest.mark.parametrize("system", [name for name in SYSTEMS if hasattr(TINY_SYSTEMS[name].processor(), "knowledge")])
def test_parts_of_knowledge_are_a_list(system):
    with pytest.raises(ValueError, match=r"`knowledge='auxiliary'` is one text; give a list such as \['auxiliary'\]"):
        TINY_SYSTEMS[system].processor(knowledge="auxiliary")


# ------------------------------------------------------------------------------------------------ saving and loading


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForTokenClassification])
@pytest.mark.parametrize(("system", "head"), HEADS)
def test_auto_class_loads_the_head_that_was_saved(system, head, auto_class, tmp_path):
    model = save(system, head, tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).architectures == [head]
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded).__name__ == head
    assert not loaded.training
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert_equal_outputs(outputs(loaded, batches(system, head)), outputs(model, batches(system, head)))


@pytest.mark.parametrize(("system", "head", "kind"), HEADS_AND_KINDS)
def test_loaded_model_has_exactly_the_saved_values(system, head, kind, tmp_path):
    """No parameter or buffer stays on the meta device or holds what happened to be in memory."""
    model = save(system, head, tmp_path, kind)
    loaded = AutoModel.from_pretrained(tmp_path)
    for name, value in [*loaded.named_parameters(), *loaded.named_buffers()]:
        assert value.device.type == "cpu", name
        assert torch.isfinite(value).all() if value.is_floating_point() else True, name
    saved = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    restored = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[name], restored[name]) for name in saved)


@pytest.mark.parametrize(("system", "head"), HEADS)
def test_half_precision_loads_back(system, head, tmp_path):
    model = TINY_SYSTEMS[system].model(head).half()
    model.save_pretrained(tmp_path)
    as_saved = AutoModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in as_saved.parameters()} == {torch.float16}
    widened = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert {parameter.dtype for parameter in widened.parameters()} == {torch.float32}
    assert_equal_outputs(outputs(widened, batches(system, head)), outputs(model.float(), batches(system, head)))


@pytest.mark.parametrize(("system", "head"), HEADS)
def test_pickled_weights_are_refused(system, head, tmp_path):
    model = save(system, head, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForTokenClassification.from_pretrained(tmp_path, use_safetensors=True)


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForTokenClassification])
@pytest.mark.parametrize(("system", "head"), HEADS)
def test_pickled_weights_are_refused_by_default(system, head, auto_class, tmp_path):
    model = save(system, head, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises((OSError, ValueError), match="safetensors"):
        auto_class.from_pretrained(tmp_path)


# ------------------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize(("system", "head"), HEADS)
def test_model_is_tiny(system, head):
    assert sum(parameter.numel() for parameter in TINY_SYSTEMS[system].model(head).parameters()) < 1_000_000


@pytest.mark.parametrize(("system", "head"), HEADS)
def test_evaluation_is_deterministic_and_training_is_not(system, head):
    model, inputs = TINY_SYSTEMS[system].model(head), batches(system, head)
    assert_equal_outputs(outputs(model, inputs), outputs(model, inputs))
    model.train()
    assert not torch.equal(outputs(model, inputs)[0]["logits"], outputs(model, inputs)[0]["logits"])


@pytest.mark.parametrize(("system", "head", "kind"), HEADS_AND_KINDS)
def test_padding_changes_nothing(system, head, kind):
    tiny = TINY_SYSTEMS[system]
    model, padding = tiny.model(head, kind), tiny.processor(kind).pad_values()
    plain = batches(system, head, kind)
    padded = [
        {
            name: torch.nn.functional.pad(value, (0, 7), value=padding[name])
            if name in padding and value.ndim == 2
            else value
            for name, value in batch.items()
        }
        for batch in plain
    ]
    for one, other in zip(outputs(model, plain), outputs(model, padded), strict=True):
        for name, value in one.items():
            # float32 sums in another order over hidden size 32: 1e-6 measured; a padding that is read gives 1e-1.
            assert torch.allclose(value, other[name][:, : value.shape[1]], atol=2e-5), name


@pytest.mark.parametrize(("system", "head", "kind"), HEADS_AND_KINDS)
def test_batch_gives_what_its_rows_give_alone(system, head, kind):
    tiny = TINY_SYSTEMS[system]
    model, processor = tiny.model(head, kind), tiny.processor(kind)
    for stage in tiny.stages[head]:
        rows = processor.rows(tiny.examples(), stage)
        together, alone = run_rows(model, processor, rows, 32), run_rows(model, processor, rows, 1)
        assert len(together) == len(rows) > 1
        for row, one, other in zip(rows, together, alone, strict=True):
            for name, value in other.items():
                # as above; the rows' own length: a batch's padding follows it
                length = len(value)
                assert abs(one[name][:length] - value).max() < 2e-5, (row["origin"], name)


@pytest.mark.parametrize("system", SYSTEMS)
def test_missing_image_and_knowledge_are_fine(system):
    tiny = TINY_SYSTEMS[system]
    model, processor = tiny.model(SYSTEMS[system].models[0]), tiny.processor()
    bare = [{"tokens": example["tokens"]} for example in tiny_examples()]
    found = recognize_entities(model, processor, bare)
    assert [example["tokens"] for example in found] == [example["tokens"] for example in bare]
    assert any(example["entities"] for example in found)
    assert all(entity["boxes"] == [] for example in found for entity in example["entities"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_recognition_leaves_its_input_alone(system):
    tiny = TINY_SYSTEMS[system]
    given = tiny_examples()
    recognize_entities(tiny.model(SYSTEMS[system].models[0]), tiny.processor(), given)
    assert given == tiny_examples()


# ------------------------------------------------------------------------------------------------------- training


def training_batch(system: str, head: str, kind: str = "bert") -> dict:
    (batch,) = batches(
        system, head, kind, labelled=True, examples=[e for e in TINY_SYSTEMS[system].examples() if e["entities"]]
    )
    return batch


@pytest.mark.parametrize(("system", "head"), TRAINABLE)
def test_labels_without_meaning_give_loss_zero(system, head):
    batch = training_batch(system, head)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    batch.pop("overlaps", None)
    model = TINY_SYSTEMS[system].model(head)
    loss = model(**batch).loss
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("system", "head"), TRAINABLE)
def test_gradients_are_finite_and_reach_every_parameter(system, head, kind):
    model = TINY_SYSTEMS[system].model(head, kind, **TINY_SYSTEMS[system].training_fields)
    model(**training_batch(system, head, kind)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A key's bias shifts all scores of a query alike, which softmax does not see.
        assert parameter.grad.any() or name.endswith("key.bias"), name


@pytest.mark.parametrize(("system", "head"), TRAINABLE)
def test_one_batch_can_be_overfitted(system, head):
    model = TINY_SYSTEMS[system].model(head, classifier_dropout=0.0).eval()
    batch = training_batch(system, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = model(**batch).loss.item()
    for _ in range(600):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        if loss.item() < 0.001 * first:
            break
    output, labels = model(**batch), batch["labels"]
    best = output.tags if "tags" in output else output.logits.argmax(-1)
    assert loss.item() < 0.1 * first
    assert torch.equal(best[labels != -100], labels[labels != -100])


@pytest.mark.parametrize(("system", "head"), TRAINABLE)
def test_loss_needs_labels_and_does_not_change_the_scores(system, head):
    model, batch = TINY_SYSTEMS[system].model(head), training_batch(system, head)
    unlabelled = {name: value for name, value in batch.items() if name not in ("labels", "overlaps")}
    with torch.no_grad():
        one, other = model(**batch), model(**unlabelled)
    assert other.loss is None
    assert one.loss > 0
    assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize(("system", "head"), TRAINABLE)
def test_gradient_checkpointing_changes_no_gradient(system, head):
    batch = training_batch(system, head)
    gradients = []
    for switch in (False, True):
        model = TINY_SYSTEMS[system].model(head, **TINY_SYSTEMS[system].training_fields)
        if switch:
            model.gradient_checkpointing_enable()
        model.train()
        torch.manual_seed(1)
        model(**copy.deepcopy(batch)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name in gradients[0]:
        assert torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6), name
