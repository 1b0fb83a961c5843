"""SCANNER from a recipe to a checkpoint, on six sentences: both teachers, two folds, both stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TYPES, tiny_encoder_folder, tiny_examples
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor

import hf_mner
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.training.recipes import CrossFittingRecipe, RecognitionRecipe, ScannerRecipe, StageRecipe
from hf_mner.training.scanner import ScannerTraining, gold_spans
from hf_mner.training.trainer import TrustYourTeacherTrainer

FOLDERS = ("detection-teacher", "detection", "recognition-teacher", "recognition")


class Recorded(ScannerTraining):
    """Remembers which examples each detector was trained on, and for which it proposed spans."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.trained: dict[str, set[str]] = {}
        self.proposed: list[tuple[object, set[str]]] = []
        self.names: dict[int, str] = {}

    def fit_detection(self, folder, stage, train, validation, teacher=None):
        detector = super().fit_detection(folder, stage, train, validation, teacher)
        self.trained[folder.name] = {example["id"] for example in train}
        self.names[id(detector)] = folder.name
        return detector

    def propose(self, detector, examples):
        self.proposed.append((detector, {example["id"] for example in examples}))
        return super().propose(detector, examples)


def tiny_recipe(backbone: Path, num_shared_layers: int | None) -> ScannerRecipe:
    stage = {"batch_size": 2, "learning_rate": 5e-3, "head_learning_rate": 5e-2, "weight_decay": 0.01}
    return ScannerRecipe(
        system="scanner",
        dataset="folder",
        backbone=str(backbone),
        detection=StageRecipe(epochs=8, distillation="tyt", max_length=64, **stage),
        recognition=RecognitionRecipe(
            epochs=4, distillation="tyt", grounding_weight=1.0, num_shared_layers=num_shared_layers, **stage
        ),
        cross_fitting=CrossFittingRecipe(folds=2, epochs=8),
    )


def make_training(folder: Path, recipe: ScannerRecipe, validation: list[dict] | None = None) -> Recorded:
    return Recorded(recipe, tiny_examples(), validation or [], TYPES, folder)


@pytest.fixture(scope="module", params=[None, 1], ids=["own layers", "one shared layer"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    recipe = tiny_recipe(tiny_encoder_folder(folder / "backbone"), request.param)
    training = make_training(folder / "run", recipe, tiny_examples()[:3])
    return training, training.run(), recipe


def test_every_step_is_kept(trained):
    training, _, _ = trained
    for name in (*FOLDERS, "."):
        assert (training.output_dir / name / "model.safetensors").is_file(), name
        assert not (training.output_dir / name / "checkpoints").exists(), "states of the optimizer are not kept"
    assert (training.output_dir / "non-entities.json").is_file()
    assert not [path for path in training.output_dir.glob("detection-fold-*") if path.is_dir()]
    log = json.loads((training.output_dir / "recognition" / "log.json").read_text())
    assert any("eval_f1" in entry for entry in log)
    assert any("loss" in entry for entry in log)


def test_pipeline_gives_the_same_entities_before_and_after_loading(trained):
    training, model, _ = trained
    before = recognize_entities(model, training.processor, tiny_examples())
    loaded = AutoModelForTokenClassification.from_pretrained(training.output_dir)
    assert type(loaded).__name__ == "ScannerForMultimodalNer"
    processor = AutoProcessor.from_pretrained(training.output_dir)
    assert recognize_entities(loaded, processor, tiny_examples()) == before
    assert any(example["entities"] for example in before), "else this test says nothing"
    pipe = hf_mner.pipeline("multimodal-ner", model=str(training.output_dir))
    posts = [{"tokens": example["tokens"], "knowledge": example["knowledge"]} for example in tiny_examples()]
    found = pipe(posts, batch_size=6)
    for entities, example in zip(found, before, strict=True):
        words = [" ".join(example["tokens"][entity["start"] : entity["end"]]) for entity in example["entities"]]
        assert [entity["word"] for entity in entities] == words
        assert [entity["entity_group"] for entity in entities] == [entity["type"] for entity in example["entities"]]


def test_checkpoint_knows_how_it_was_trained(trained):
    training, model, recipe = trained
    loaded = AutoModel.from_pretrained(training.output_dir)
    assert loaded.config.id2label == dict(enumerate([*TYPES, "non-entity"]))
    assert loaded.config.grounding_weight == 1.0
    assert loaded.config.num_shared_layers == recipe.recognition.num_shared_layers
    processor = AutoProcessor.from_pretrained(training.output_dir)
    assert processor.detection_max_length == 64
    assert processor.grounding_threshold == 0.5


def test_joined_model_is_made_of_the_saved_stages(trained):
    training, model, _ = trained
    for part, name in ((model.span_detection, "detection"), (model.entity_recognition, "recognition")):
        stage = AutoModel.from_pretrained(training.output_dir / name).state_dict()
        assert all(torch.equal(value, stage[key]) for key, value in part.state_dict().items())


def test_student_is_not_its_teacher(trained):
    training, _, _ = trained
    for name in ("detection", "recognition"):
        one = AutoModel.from_pretrained(training.output_dir / name)
        other = AutoModel.from_pretrained(training.output_dir / f"{name}-teacher")
        assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_a_given_teacher_is_used_and_none_is_trained(trained, tmp_path, monkeypatch):
    training, _, recipe = trained
    given = str(training.output_dir / "detection-teacher")
    stage = replace(recipe.detection, teacher=given, epochs=1)
    teachers = []
    monkeypatch.setattr(ScannerTraining, "fit", lambda *arguments: teachers.append(arguments[-1]))
    another = make_training(tmp_path / "run", replace(recipe, detection=stage), tiny_examples()[:3])
    another.with_teacher("detection", stage, another.detection_stage)
    assert teachers == [given]


def test_second_run_trains_nothing(trained, monkeypatch):
    training, model, recipe = trained
    times = {path: path.stat().st_mtime_ns for name in FOLDERS for path in (training.output_dir / name).glob("*.*")}

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrustYourTeacherTrainer, "train", refuse)
    again = make_training(training.output_dir, recipe, tiny_examples()[:3]).run()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_only_the_missing_step_is_trained_again(trained, monkeypatch, tmp_path):
    """A run that was stopped in stage 2 goes on there, and ends where an uninterrupted one does."""
    import shutil

    training, model, recipe = trained
    folder = tmp_path / "stopped"
    shutil.copytree(training.output_dir, folder)
    shutil.rmtree(folder / "recognition")
    (folder / "model.safetensors").unlink()
    names = []
    fit = ScannerTraining.fit
    monkeypatch.setattr(
        ScannerTraining, "fit", lambda self, m, f, *args: names.append(f.name) or fit(self, m, f, *args)
    )
    again = make_training(folder, recipe, tiny_examples()[:3]).run()
    assert names == ["recognition"]
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


# ------------------------------------------------------------------------------------------------------ cross-fitting


def test_no_detector_proposes_for_what_it_was_trained_on(trained):
    training, _, _ = trained
    ids = {example["id"] for example in tiny_examples()}
    held_out = []
    for detector, proposed in training.proposed:
        name = training.names[id(detector)]
        if name.startswith("detection-fold"):
            assert not training.trained[name] & proposed
            assert training.trained[name] | proposed == ids
            held_out += proposed
    assert sorted(held_out) == sorted(ids), "every example is held out once"
    assert training.trained["detection"] == ids


def test_non_entities_are_never_gold(trained):
    training, _, _ = trained
    wrong = training.non_entities()
    assert any(wrong), "else this test says nothing"
    assert len(wrong) == len(tiny_examples())
    for spans, example in zip(wrong, tiny_examples(), strict=True):
        assert not set(spans) & gold_spans(example)
        assert len(set(spans)) == len(spans)
        assert all(0 <= start < end <= len(example["tokens"]) for start, end in spans)


def test_non_entities_are_what_the_detectors_wrongly_propose(tmp_path, monkeypatch):
    recipe = tiny_recipe(tiny_encoder_folder(tmp_path / "backbone"), None)
    training = ScannerTraining(recipe, tiny_examples(), [], TYPES, tmp_path / "run")
    monkeypatch.setattr(training, "fit_detection", lambda name, *args: (tmp_path / "run" / name).mkdir(parents=True))
    everything = {example["id"]: [(0, 1), (0, 2), (1, 2)] for example in tiny_examples()}
    monkeypatch.setattr(training, "propose", lambda _, examples: [everything[e["id"]] for e in examples])
    for example, spans in zip(tiny_examples(), training.non_entities(), strict=True):
        assert set(spans) == {(0, 1), (0, 2), (1, 2)} - gold_spans(example), example["id"]
    prompts = training.training_prompts()
    labels = [training.id2label[row["labels"]] for row in prompts]
    wrong = sum(len({(0, 1), (0, 2), (1, 2)} - gold_spans(example)) for example in tiny_examples())
    assert labels.count("non-entity") == wrong
    assert len(labels) - wrong == sum(len(example["entities"]) for example in tiny_examples())


def test_without_folds_there_is_no_non_entity(tmp_path):
    recipe = tiny_recipe(tiny_encoder_folder(tmp_path / "backbone"), None)
    recipe.cross_fitting.folds = 0
    training = ScannerTraining(recipe, tiny_examples(), [], TYPES, tmp_path / "run")
    assert list(training.label2id) == TYPES
    assert training.non_entities() == [[]] * len(tiny_examples())
