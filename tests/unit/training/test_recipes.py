from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_mner.training.recipes import (
    LoraRecipe,
    MmavkRecipe,
    RecognitionRecipe,
    ScannerRecipe,
    TaggingRecipe,
    load_recipe,
)
from hf_mner.training.run import claim_folder, recipe_values

RECIPES = sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml"))

SMALLEST = """
system: scanner
dataset: twitter2017
backbone: bert-base-cased
detection: {epochs: 1, batch_size: 2, learning_rate: 0.001, weight_decay: 0.01}
recognition: {epochs: 2.5, batch_size: 4, learning_rate: 0.002, weight_decay: 0}
cross_fitting: {folds: 4}
"""

SMALLEST_MMAVK = """
system: mmavk
dataset: twitter2017
backbone: bert-base-cased
training: {epochs: 1, batch_size: 2, learning_rate: 0.001, weight_decay: 0.01}
"""


@pytest.fixture
def write_recipe(tmp_path):
    def write(old: str = "", new: str = "", text: str = SMALLEST) -> Path:
        assert old in text
        path = tmp_path / "recipe.yaml"
        path.write_text(text.replace(old, new, 1) if old else text)
        return path

    return write


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    recipe = load_recipe(path)
    assert recipe.system == path.parent.name
    assert path.stem.startswith(recipe.dataset.replace("_", "-")) or path.stem.startswith(recipe.dataset)


def test_recipe_fills_in_defaults(write_recipe):
    recipe = load_recipe(write_recipe())
    assert isinstance(recipe, ScannerRecipe)
    assert isinstance(recipe.recognition, RecognitionRecipe)
    assert (recipe.detection.epochs, recipe.recognition.epochs) == (1, 2.5)
    assert (recipe.seed, recipe.train_splits, recipe.detection.distillation) == (42, ["train"], "none")


def test_overrides_replace_values_by_dotted_key(write_recipe):
    overrides = {"recognition.epochs": 7, "seed": 3, "cross_fitting.epochs": 2}
    recipe = load_recipe(write_recipe(), overrides)
    assert (recipe.recognition.epochs, recipe.seed, recipe.cross_fitting.epochs) == (7, 3, 2)
    assert recipe.detection.epochs == 1


def test_override_of_an_unknown_key_is_refused(write_recipe):
    with pytest.raises(ValueError, match=r"recognition has keys that nothing reads: \['epoch'\].*Known keys:.*epochs"):
        load_recipe(write_recipe(), {"recognition.epoch": 3})


def test_override_inside_a_value_is_refused(write_recipe):
    with pytest.raises(ValueError, match="`dataset.name` cannot be set: 'dataset' is a value"):
        load_recipe(write_recipe(), {"dataset.name": "x"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "system: scanner",
            "system: scanner\nlearning_rat: 1",
            r"nothing reads: \['learning_rat'\].*Known keys:.*seed",
        ),
        ("epochs: 1,", "epoch: 1,", r"detection has keys that nothing reads: \['epoch'\]"),
        ("dataset: twitter2017\n", "", "is not complete: .*'dataset'"),
        ("epochs: 1,", "", "detection is not complete: .*'epochs'"),
        ("learning_rate: 0.001", "learning_rate: 1e-3", r"'learning_rate'.*'1e-3'.*write 1.0e-4"),
        ("batch_size: 2", "batch_size: two", "'batch_size'.*'two'"),
        ("batch_size: 2", "batch_size: 2.5", "'batch_size'.*2.5"),
        (
            "system: scanner",
            "system: spanner",
            "`system` must be one of scanner, mmavk, mner_qg, ham_learning, got 'spanner'",
        ),
        (
            "weight_decay: 0.01}",
            "weight_decay: 0.01, distillation: tie}",
            "'distillation'.*'none', 'half', .*got tie",
        ),
        ("weight_decay: 0}", "weight_decay: 0, knowledge: [captions]}", "'knowledge'.*got captions"),
        ("epochs: 1,", "epochs: 0,", "`epochs` must be more than 0, got 0"),
        ("batch_size: 2", "batch_size: 0", "`batch_size` must be 1 or more, got 0"),
        ("weight_decay: 0.01}", "weight_decay: 0.01, warmup: 1.0}", r"`warmup` must be a share in \[0, 1\), got 1.0"),
        ("weight_decay: 0}", "weight_decay: 0, knowledge_dropout: 2}", r"`knowledge_dropout` must be a share.*got 2"),
        ("{folds: 4}", "{folds: 1}", r"`folds` must be 0 \(none\) or 2 and more, got 1"),
        ("dataset: twitter2017", "dataset: twitter", "`dataset` must be one of twitter2015, .*got 'twitter'"),
        ("cross_fitting: {folds: 4}", "cross_fitting: 4", "cross_fitting is 4; expected a section"),
        ("cross_fitting: {folds: 4}", "cross_fitting:", "cross_fitting is None; expected a section"),
    ],
)
def test_recipe_refuses(write_recipe, old, new, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(write_recipe(old, new))


def test_file_that_is_no_mapping_is_refused(write_recipe):
    with pytest.raises(ValueError, match="holds list, expected a mapping of keys to values"):
        load_recipe(write_recipe(text="- a\n- b\n"))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.yaml does not exist; the package's recipes lie in"):
        load_recipe(tmp_path / "absent.yaml")


# ------------------------------------------------------------------------------------------------------------- MMAVK


def test_mmavk_recipe_has_the_papers_defaults(write_recipe):
    recipe = load_recipe(write_recipe(text=SMALLEST_MMAVK))
    assert isinstance(recipe, MmavkRecipe)
    assert isinstance(recipe.training, TaggingRecipe)
    assert (recipe.fusion, recipe.similarity_threshold, recipe.low_similarity_weight) == ("word_level", 0.35, 0.0)
    assert (recipe.knowledge_parts, recipe.knowledge_dropout) == (["auxiliary"], 0.0)
    assert recipe.training.crf_learning_rate is None


def test_mmavk_recipe_reads_every_field(write_recipe):
    values = {
        "fusion": "prefix",
        "similarity_threshold": -1,
        "sources": ["caption_similarity", {"captions": "some/model"}],
        "knowledge_parts": ["caption", "auxiliary"],
        "vision_backbone": "microsoft/resnet-50",
        "vision_feature_layers": [-1],
        "training.crf_learning_rate": 0.05,
        "training.warmup": 0.1,
    }
    recipe = load_recipe(write_recipe(text=SMALLEST_MMAVK), values)
    assert (recipe.fusion, recipe.similarity_threshold) == ("prefix", -1)
    assert recipe.sources == ["caption_similarity", {"captions": "some/model"}]
    assert recipe.reads_images
    assert recipe.knowledge_parts == ["caption", "auxiliary"]
    assert (recipe.vision_backbone, recipe.vision_feature_layers) == ("microsoft/resnet-50", [-1])
    assert (recipe.training.crf_learning_rate, recipe.training.warmup) == (0.05, 0.1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fusion", "gate", "'fusion'.*'word_level', 'concat', 'none', 'prefix'.*got gate"),
        ("fusion", "prefix", "`vision_backbone` must be an image encoder, as `fusion: prefix` needs one, got None"),
        ("knowledge_parts", ["captions"], "'knowledge_parts'.*got captions"),
        ("knowledge_dropout", 1.5, r"`knowledge_dropout` must be a share in \[0, 1\], got 1.5"),
        ("sources", ["bleu"], "'bleu' names no knowledge source; choose of encyclopedia, .*"),
        ("sources", ["caption"], "'caption' names no knowledge source; .* Did you mean 'captions'?"),
        ("sources", [{"captions": {"modle": "a"}}], "Source 'captions' has no setting 'modle'; it has model, .*"),
        ("sources", ["encyclopedia"], "Source 'encyclopedia' needs `files`"),
        ("sources", "ocr", "Field 'sources' expected a list, got str"),
        ("detection", {}, r"has keys that nothing reads: \['detection'\]"),
        ("training.distillation", "tie", "'distillation'.*'none', 'half', .*got tie"),
        ("training.teacher_mode", "live", "'teacher_mode'.*'offline', 'online'.*got live"),
        ("training.teacher_fields", "a", r"training has keys that nothing reads: \['teacher_fields'\]"),
        ("training.crf_learning_rate", "1e-2", "'crf_learning_rate'.*'1e-2'"),
        ("training.batch_size", 0, "`batch_size` must be 1 or more, got 0"),
    ],
)
def test_mmavk_recipe_refuses(write_recipe, key, value, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(write_recipe(text=SMALLEST_MMAVK), {key: value})


HAM_LEARNING_MINI = RECIPES[0].parents[1] / "ham_learning" / "planted_signal-mini.yaml"
MNER_QG_TEXT_MINI = RECIPES[0].parents[1] / "mner_qg" / "twitter2017-text-mini.yaml"


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        (
            HAM_LEARNING_MINI,
            "training.head_learning_rate",
            -0.001,
            "`head_learning_rate` must be more than 0, got -0.001",
        ),
        (HAM_LEARNING_MINI, "training.crf_learning_rate", 0.0, "`crf_learning_rate` must be more than 0"),
        (
            HAM_LEARNING_MINI,
            "training.vision_learning_rate",
            0.001,
            "`vision_learning_rate` must be left out, as no image",
        ),
        (HAM_LEARNING_MINI, "training.adam_beta2", 1.0, "`adam_beta2` must be between 0 and 1"),
        (
            MNER_QG_TEXT_MINI,
            "training.vision_learning_rate",
            0.001,
            "`vision_learning_rate` must be left out, as no image",
        ),
        (
            MNER_QG_TEXT_MINI,
            "training.is_distorted",
            True,
            "`is_distorted` must be false for `model: {modality: text}`",
        ),
    ],
)
def test_rates_that_are_wrong_or_read_by_nothing_are_refused(path, key, value, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(path, {key: value})


# --------------------------------------------------------------------------------------------- adapters and patience


@pytest.mark.parametrize(("text", "section"), [(SMALLEST, "recognition"), (SMALLEST_MMAVK, "training")])
def test_every_system_takes_lora_and_patience(write_recipe, text, section):
    assert getattr(load_recipe(write_recipe(text=text)), section).lora is None
    settings = {f"{section}.lora.rank": 4, f"{section}.lora.targets": ["all-linear"], f"{section}.patience": 2}
    recipe = load_recipe(write_recipe(text=text), settings)
    part = getattr(recipe, section)
    assert part.lora == LoraRecipe(rank=4, alpha=16, dropout=0.05, targets=["all-linear"])
    assert part.patience == 2
    path = write_recipe(text=yaml.safe_dump(recipe_values(recipe)))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("patience", 0, "`patience` must be 1 or more epochs, got 0"),
        ("patience", 1.5, "'patience'.*1.5"),
        ("lora", 8, "training, lora is 8; expected a section of keys and values"),
        ("lora.rnk", 8, r"lora has keys that nothing reads: \['rnk'\]. Known keys: .*'rank'"),
        ("lora.rank", 0, "`rank` must be 1 or more, got 0"),
        ("lora.alpha", 0, "`alpha` must be more than 0, got 0"),
        ("lora.dropout", 1.0, r"`dropout` must be in \[0, 1\), got 1.0"),
        ("lora.targets", [], r"`targets` must be a list of names of layers, or \['all-linear'\], got \[\]"),
        ("lora.targets", "query", "'targets'.*got str"),
    ],
)
def test_adapters_that_are_none_are_refused(write_recipe, key, value, message):
    with pytest.raises(ValueError, match=f"(?s)recipe.yaml.*{message}"):
        load_recipe(write_recipe(text=SMALLEST_MMAVK), {f"training.{key}": value})


# -------------------------------------------------------------------------------------------------------- the folder


def test_folder_keeps_the_recipe_as_it_was_run(write_recipe, tmp_path):
    recipe = load_recipe(write_recipe(), {"seed": 7})
    claim_folder(tmp_path / "run", recipe)
    saved = tmp_path / "run" / "recipe.yaml"
    assert yaml.safe_load(saved.read_text())["seed"] == 7
    assert load_recipe(saved) == recipe


def test_folder_can_be_claimed_again_by_the_same_recipe_only(write_recipe, tmp_path):
    folder = tmp_path / "run"
    claim_folder(folder, load_recipe(write_recipe(), {"detection.epochs": 9}))
    claim_folder(folder, load_recipe(write_recipe()))  # free: the run before failed before it wrote anything
    (folder / "detection").mkdir()
    claim_folder(folder, load_recipe(write_recipe()))
    with pytest.raises(ValueError, match="run holds the run of another recipe .*choose another output folder"):
        claim_folder(folder, load_recipe(write_recipe(), {"detection.epochs": 3}))
    assert load_recipe(folder / "recipe.yaml") == load_recipe(write_recipe()), "the first one's recipe is kept"


def test_broken_yaml_names_the_recipe_and_the_place(tmp_path):
    (tmp_path / "recipe.yaml").write_text("system: [scanner\nseed: 1")
    with pytest.raises(ValueError, match=r"recipe.yaml is not YAML: .*line 2"):
        load_recipe(tmp_path / "recipe.yaml")
