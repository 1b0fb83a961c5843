"""Adversarial weight perturbation: where the loss is read, what is trained on, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tiny import TINY_SYSTEMS, tiny_mner_qg
from torch import nn

from hf_mner.training.arguments import MnerTrainingArguments
from hf_mner.training.awp import AdversarialWeightPerturbation, undisturbed
from hf_mner.training.fitting import training_arguments
from hf_mner.training.recipes import AwpRecipe, load_recipe
from hf_mner.training.run import recipe_values
from hf_mner.training.trainer import TrustYourTeacherTrainer

TRAINABLE = [
    (name, head)
    for name, system in TINY_SYSTEMS.items()
    for head in system.stages
    if head != "ScannerForMultimodalNer"
]
GAMMA = 0.05


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def make_trainer(folder: Path, name: str = "mmavk", head: str | None = None, keep_dropout=False, **kwargs):
    system = TINY_SYSTEMS[name]
    head = head or next(iter(system.stages))
    fields = system.training_fields if head != "MnerQgForVisualGrounding" else {}
    model, processor = system.model(head, **fields), system.processor()
    if not keep_dropout:
        without_dropout(model)
    rows = processor.rows(system.examples(), system.stages[head][0], model.config.label2id)
    kwargs = {"per_device_train_batch_size": 2, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, **kwargs}
    kwargs = {"lr_scheduler_type": "constant", "save_strategy": "no", "report_to": "none", **kwargs}
    kwargs = {"use_cpu": True, **kwargs}
    args = MnerTrainingArguments(output_dir=str(folder), disable_tqdm=True, **kwargs)
    return TrustYourTeacherTrainer(model, args, processing_class=processor, train_dataset=rows)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def start(trainer: TrustYourTeacherTrainer, epoch: float = 0.0) -> None:
    trainer.state.epoch = epoch
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps


def batches(trainer: TrustYourTeacherTrainer, count: int = 1) -> list:
    rows = trainer.train_dataset
    return [trainer.data_collator([rows[2 * number], rows[2 * number + 1]]) for number in range(count)]


def gradients_by_hand(model: nn.Module, batch, gamma: float, kind: str = "published") -> dict[str, torch.Tensor]:
    """What one batch adds to the gradients, written as the public code does: a copy of the weights, moved by hand."""
    model.train()
    saved = weights(model)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    first = torch.autograd.grad(model(**batch).loss, list(named.values()), allow_unused=True)
    first = {name: torch.zeros(1) if g is None else g for name, g in zip(named, first, strict=True)}
    model.load_state_dict(saved)
    with torch.no_grad():
        for name, parameter in named.items():
            if parameter.ndim > 1 and first[name].norm() > 0:
                step = parameter.norm() / first[name].norm() * first[name]
                bound = gamma * parameter.abs()
                parameter += gamma * step if kind == "published" else torch.minimum(torch.maximum(step, -bound), bound)
    second = torch.autograd.grad(model(**batch).loss, list(named.values()), allow_unused=True)
    second = {name: torch.zeros(1) if g is None else g for name, g in zip(named, second, strict=True)}
    model.load_state_dict(saved)
    return second if kind == "published" else {name: first[name] + second[name] for name in named}


def assert_gradients(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in expected:
            found = torch.zeros(1) if parameter.grad is None else parameter.grad
            size = expected[name].abs().max().clamp(min=0.1)  # the true gradient of a key's bias is 0
            # float32, the same operations in another order; gradients at the plain weights differ by some per cent.
            assert (found - expected[name]).abs().max() < 1e-4 * size, name


# ------------------------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("kind", ["published", "competition"])
@pytest.mark.parametrize(("name", "head"), TRAINABLE)
def test_every_system_is_read_at_perturbed_weights_and_gets_its_own_back(tmp_path, name, head, kind):
    trainer = make_trainer(tmp_path, name, head, awp_start_epoch=0, awp_gamma=GAMMA, awp_kind=kind)
    model = trainer.model
    start(trainer)
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append(weights(model)))
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    loss = trainer.training_step(model, batches(trainer)[0])
    assert torch.isfinite(loss)
    plain, perturbed = seen
    assert all(torch.equal(parameter, before[key]) for key, parameter in model.named_parameters())
    moved = 0
    for key, parameter in model.named_parameters():
        assert torch.equal(plain[key], before[key])
        move = perturbed[key] - before[key]
        if parameter.ndim < 2 or not parameter.requires_grad or not move.any():
            assert not move.any(), key
            continue
        moved += 1
        if kind == "published":
            # `w + d - w` in float32 keeps d to about 1e-7 |w|, 1e-5 of a perturbation of 5 %.
            assert move.norm() == pytest.approx(GAMMA * before[key].norm().item(), rel=1e-4), key
        else:
            assert (move.abs() <= GAMMA * before[key].abs() + 1e-6).all(), key
    assert moved >= 10


def test_the_perturbation_has_the_norm_and_the_direction_of_the_paper():
    weight, gradient = torch.randn(4, 3), torch.randn(4, 3)
    move = AdversarialWeightPerturbation(0, gamma=0.2).perturbation(weight, gradient)
    assert move.norm() == pytest.approx(0.2 * weight.norm().item())
    assert torch.allclose(move / move.norm(), gradient / gradient.norm())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_a_gradient_does_not_matter(scale):
    weight, gradient = torch.randn(4, 3), torch.randn(4, 3)
    perturbation = AdversarialWeightPerturbation(0).perturbation
    assert torch.allclose(perturbation(weight, gradient), perturbation(weight, gradient * scale))


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_gradient_without_direction_moves_nothing(bad):
    gradient = torch.full((2, 2), bad)
    assert not AdversarialWeightPerturbation(0).perturbation(torch.ones(2, 2), gradient).any()


def test_competition_clips_every_number():
    weight, gradient = torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([[3.0, 0.001], [-1.0, 5.0]])
    awp = AdversarialWeightPerturbation(0, gamma=0.1, kind="competition", learning_rate=1.0)
    step = weight.norm() / gradient.norm() * gradient
    expected = torch.tensor([[0.1, step[0, 1]], [-0.05, 0.0]])
    assert torch.allclose(awp.perturbation(weight, gradient), expected)


def test_weights_come_back_after_an_error_too():
    weight = nn.Parameter(torch.randn(3, 3))
    before = weight.detach().clone()

    def fail() -> None:
        with AdversarialWeightPerturbation(0).perturbed({weight: torch.randn(3, 3)}):
            assert not torch.equal(weight, before)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert torch.equal(weight, before)


def test_shared_half_precision_and_whole_numbers_are_no_trouble():
    model = nn.ModuleDict({"one": nn.Linear(4, 4, dtype=torch.bfloat16), "two": nn.Linear(4, 4, dtype=torch.bfloat16)})
    model["two"].weight = model["one"].weight
    model.register_buffer("steps", torch.tensor(3))
    before = weights(model)
    gradients = {parameter: torch.randn_like(parameter) for parameter in model.parameters()}
    with undisturbed(model):
        model.steps += 1
    with AdversarialWeightPerturbation(0, gamma=0.5).perturbed(gradients):
        move = (model["one"].weight.detach() - before["one.weight"]).float()
        # bfloat16 has 8 bits: some per cent of the move are rounding.
        assert move.norm() == pytest.approx(0.5 * before["one.weight"].float().norm().item(), rel=0.05)
        assert model["two"].weight is model["one"].weight
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_frozen_weights_are_not_perturbed(tmp_path):
    trainer = make_trainer(tmp_path, awp_start_epoch=0)
    trainer.model.text_model.embeddings.requires_grad_(False)
    start(trainer)
    gradients = trainer.perturbing_gradients(trainer.model, batches(trainer)[0])
    frozen = set(trainer.model.text_model.embeddings.parameters())
    assert gradients.keys() == set(trainer.model.parameters()) - frozen


# ------------------------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("kind", ["published", "competition"])
def test_gradients_are_those_at_the_perturbed_weights(tmp_path, kind):
    trainer = make_trainer(tmp_path, awp_start_epoch=0, awp_gamma=GAMMA, awp_kind=kind)
    batch = batches(trainer)[0]
    expected = gradients_by_hand(trainer.model, batch, GAMMA, kind)
    start(trainer)
    trainer.training_step(trainer.model, batch)
    assert_gradients(trainer.model, expected)
    trainer.model.zero_grad()
    trainer.state.epoch = None
    trainer.training_step(trainer.model, batch)
    with pytest.raises(AssertionError):  # the plain gradients are others, or this test would say nothing
        assert_gradients(trainer.model, expected)


@pytest.mark.parametrize("kind", ["published", "competition"])
def test_two_micro_batches_give_the_mean_of_their_own_gradients(tmp_path, kind):
    trainer = make_trainer(tmp_path, awp_start_epoch=0, awp_gamma=GAMMA, awp_kind=kind, gradient_accumulation_steps=2)
    parts = batches(trainer, 2)
    one, other = (gradients_by_hand(trainer.model, batch, GAMMA, kind) for batch in parts)
    start(trainer)
    for batch in parts:
        trainer.training_step(trainer.model, batch)
    assert_gradients(trainer.model, {name: (one[name] + other[name]) / 2 for name in one})


def test_checkpointed_activations_and_bfloat16_give_about_the_same_gradients(tmp_path):
    trainer = make_trainer(tmp_path, awp_start_epoch=0, awp_gamma=GAMMA, bf16=True, gradient_checkpointing=True)
    trainer.model.gradient_checkpointing_enable()
    batch = batches(trainer)[0]
    expected = gradients_by_hand(trainer.model, batch, GAMMA)
    start(trainer)
    trainer.training_step(trainer.accelerator.prepare(trainer.model), batch)
    gradient, weight = trainer.model.classifier.weight.grad, expected["classifier.weight"]
    # bfloat16 has 8 bits; wide random weights add that up to some per cent. Another direction would have 0.
    assert torch.cosine_similarity(gradient.flatten(), weight.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("kind", ["published", "competition"])
def test_a_scaled_loss_gives_scaled_gradients_at_the_same_perturbed_weights(tmp_path, kind):
    trainer = make_trainer(tmp_path, awp_start_epoch=0, awp_gamma=GAMMA, awp_kind=kind, gradient_accumulation_steps=2)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # as with `fp16`, which needs a GPU
    batch = batches(trainer)[0]
    expected = gradients_by_hand(trainer.model, batch, GAMMA, kind)
    start(trainer)
    trainer.training_step(trainer.model, batch)
    for parameter in trainer.model.parameters():
        parameter.grad /= 512.0  # half of the scale: there are two micro-batches
    assert_gradients(trainer.model, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs a GPU")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(("name", "head"), TRAINABLE)
def test_half_precision_trains_on_a_gpu(tmp_path, name, head, precision):
    trainer = make_trainer(
        tmp_path, name, head, awp_start_epoch=0.5, learning_rate=1e-4, use_cpu=False, **{precision: True}
    )
    trainer.train()
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())


# ------------------------------------------------------------------------------------------------- the whole training


def trained(folder: Path, name: str = "mmavk", **kwargs) -> dict[str, torch.Tensor]:
    trainer = make_trainer(folder, name, keep_dropout=True, num_train_epochs=2, **kwargs)
    trainer.train()
    return weights(trainer.model)


@pytest.mark.parametrize("name", ["mmavk", "mner_qg"])
def test_a_gamma_of_0_trains_as_without(tmp_path, name):
    plain = trained(tmp_path / "plain", name, learning_rate=0.01)
    same = trained(tmp_path / "zero", name, learning_rate=0.01, awp_start_epoch=0, awp_gamma=0.0)
    # With dropout and running means: the forward pass that is perturbed by leaves no trace.
    assert all(torch.equal(value, same[key]) for key, value in plain.items())


def test_nothing_happens_before_its_epoch(tmp_path):
    plain = trained(tmp_path / "plain")
    late = trained(tmp_path / "late", awp_start_epoch=2)
    half = trained(tmp_path / "half", awp_start_epoch=1.5)
    assert all(torch.equal(value, late[key]) for key, value in plain.items())
    assert any(not torch.equal(value, half[key]) for key, value in plain.items())


@pytest.mark.parametrize(("first", "expected"), [(0, 6), (1, 3), (1.5, 1), (1 / 3, 5)])
def test_it_acts_from_its_epoch_on(tmp_path, first, expected, monkeypatch):
    acted = []
    perturbed = AdversarialWeightPerturbation.perturbed
    monkeypatch.setattr(AdversarialWeightPerturbation, "perturbed", lambda *args: acted.append(1) or perturbed(*args))
    trained(tmp_path, awp_start_epoch=first)  # two epochs of three updates
    assert len(acted) == expected


def test_running_means_see_each_batch_once():
    model = tiny_mner_qg().train()
    means, state = model.balance.means.clone(), torch.get_rng_state()
    with undisturbed(model):
        model.balance(torch.tensor(3.0), torch.tensor(2.0))
        torch.rand(3)
    assert torch.equal(model.balance.means, means)
    assert torch.equal(torch.get_rng_state(), state)


# -------------------------------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "fast"}, "`kind='fast'`.*choose published or competition"),
        ({"start_epoch": -1}, "`start_epoch=-1` is not possible; count epochs from 0"),
        ({"gamma": 1.5}, r"`gamma=1.5` is not possible; .*\[0, 1\)"),
        ({"learning_rate": 0.1}, "`learning_rate=0.1` is read by nothing.*or use `kind: competition`"),
        ({"learning_rate": 0.0, "kind": "competition"}, "`learning_rate=0.0` is not possible"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdversarialWeightPerturbation(**{"start_epoch": 0, **settings})


def test_arguments_are_checked_before_training(tmp_path):
    with pytest.raises(ValueError, match="`gamma=-1`"):
        make_trainer(tmp_path, awp_gamma=-1)
    assert make_trainer(tmp_path).awp is None


RECIPE = """
system: mmavk
dataset: twitter2017
backbone: microsoft/deberta-v3-base
training: {epochs: 3, batch_size: 2, learning_rate: 0.001, weight_decay: 0.01}
"""


@pytest.fixture
def recipe_file(tmp_path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_a_recipe_switches_it_on(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, {"training.awp": {"start_epoch": 1, "gamma": 0.005}})
    assert recipe.training.awp == AwpRecipe(start_epoch=1, gamma=0.005)
    args = training_arguments(recipe.training, tmp_path, 1, None)
    assert (args.awp_start_epoch, args.awp_gamma, args.awp_kind, args.awp_learning_rate) == (
        1,
        0.005,
        "published",
        None,
    )
    recipe_file.write_text(yaml.safe_dump(recipe_values(recipe)))
    assert load_recipe(recipe_file) == recipe


def test_a_recipe_without_it_says_so(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    assert training_arguments(recipe.training, tmp_path, 1, None).awp_start_epoch is None
    recipe_file.write_text(yaml.safe_dump(recipe_values(recipe)))  # with `awp: null`
    assert load_recipe(recipe_file) == recipe
    assert load_recipe(recipe_file, {"training.awp.start_epoch": 2}).training.awp == AwpRecipe(start_epoch=2)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"start_epoch": 1, "gama": 0.1}, r"training, awp has keys that nothing reads: \['gama'\].*'gamma'"),
        ({"gamma": 0.1}, "training, awp is not complete: .*'start_epoch'"),
        ({"start_epoch": 1, "kind": "publishd"}, "awp.*'kind'.*got publishd"),
        ({"start_epoch": "one"}, "awp.*'start_epoch'"),
        ({"start_epoch": 1, "gamma": 2}, "`gamma=2` is not possible"),
        ({"start_epoch": 3}, r"`awp.start_epoch` must be less than `epochs` \(3\), got 3"),
        (0.01, "awp is 0.01; expected a section"),
    ],
)
def test_a_mistyped_setting_is_named(recipe_file, section, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(recipe_file, {"training.awp": section})
