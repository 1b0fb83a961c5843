"""The models of a demo: how they are named, which are missing, and that only those asked for are opened."""

from __future__ import annotations

import pytest
from tiny import TINY_SYSTEMS, tiny_encoder_folder

from hf_mner.demo.models import DemoModels, parse_models, parse_variable


@pytest.fixture
def folder(tmp_path):
    system = TINY_SYSTEMS["mmavk"]
    system.model().save_pretrained(tmp_path / "tiny")
    system.processor().save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def test_systems_without_a_checkpoint_are_said_to_have_none(folder):
    models = DemoModels({"mine": folder})
    assert models.missing() == ["ham_learning", "mner_qg"]
    assert models.choices() == [
        ("scanner (SCANNER, small, part of the package)", "scanner"),
        ("mine (MMAVK)", "mine"),
        ("ham_learning (HamLearning, no checkpoint given)", "ham_learning"),
        ("mner_qg (MNER-QG, no checkpoint given)", "mner_qg"),
    ]
    assert not models.opened
    with pytest.raises(
        ValueError, match="'mner_qg', a system that has no checkpoint here; choose one of scanner, mine"
    ):
        models.open("mner_qg")
    with pytest.raises(ValueError, match="`model` is 'x', which this demo does not have; choose one of scanner, mine"):
        models.open("x")
    with pytest.raises(ValueError, match=r"`model` is \['x'\]; expected a name. Choose one of scanner, mine"):
        models.open(["x"])


def test_a_model_is_opened_once(folder):
    models = DemoModels({"mine": folder})
    assert models.open("mine") is models.open("mine")
    assert type(models.open("mine").model).__name__ == "MmavkForTokenClassification"


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a checkpoint of 'bert'; expected one of scanner, mmavk"):
        DemoModels({"mine": str(tiny_encoder_folder(tmp_path / "encoder"))})


def test_names_and_checkpoints():
    assert parse_models(["a=x", " b = y=z "]) == {"a": "x", "b": "y=z"}
    assert parse_variable("a=x, b=y,") == {"a": "x", "b": "y"}
    assert parse_variable("") == {}
    for bad in ("x", "=x", "a="):
        with pytest.raises(ValueError, match=f"`{bad}` names no model; expected NAME=CHECKPOINT"):
            parse_models([bad])
    with pytest.raises(ValueError, match="Two models are named 'a': x and y; give each its own name"):
        parse_models(["a=x", "a=y"])
