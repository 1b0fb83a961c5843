"""A table rerun on ten posts: planned, trained, skipped when it is finished, resumed, tested and reported."""

import json

import pytest
import yaml
from planted_posts import write_planted_posts
from tiny import tiny_encoder_folder
from typer.testing import CliRunner

from hf_mner.cli.main import app
from hf_mner.reproduction import runner, tables
from hf_mner.reproduction.plan import plan_table
from hf_mner.reproduction.runner import RunsFailed, run_plan
from hf_mner.reproduction.summary import markdown, summarise_table

STAGE = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.01}
RECIPE = {
    "system": "scanner",
    "dataset": "folder",
    "backbone": "",
    "detection": {**STAGE, "distillation": "tyt", "max_length": 64},
    "cross_fitting": {"folds": 2},
    "recognition": {**STAGE, "knowledge": []},
}
TABLE = {
    "title": "ours",
    "system": "scanner",
    "columns": {"F1": "entities/f1", "Span F1": "stages/detection/f1"},
    "measure": "entities",
    "recipes": {"mini": {"folder": "scanner/tiny.yaml"}},
    "baseline": "plain",
    "rows": [
        {"name": "plain", "paper": {"folder": [50, None]}},
        {"name": "longer", "set": {"recognition.epochs": 2}},
        {"name": "none", "unavailable": {"mini": "nobody has it"}},
    ],
    "claims": [{"better": "longer", "worse": "plain", "text": "more is better"}],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    write_planted_posts(folder / "data")
    recipe = {**RECIPE, "backbone": str(tiny_encoder_folder(folder / "text"))}
    (folder / "recipes" / "scanner").mkdir(parents=True)
    (folder / "recipes" / "scanner" / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "tables").mkdir()
    (folder / "tables" / "ours.yaml").write_text(yaml.safe_dump(TABLE))
    return folder


@pytest.fixture(scope="module")
def table(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "FOLDER", place / "tables")
        return tables.load_table("ours")


@pytest.fixture(scope="module")
def plan(place, table):
    return plan_table(table, "mini", 2, place / "recipes", place / "data")


@pytest.fixture(scope="module")
def summary(place, table, plan):
    run_plan(plan, place / "runs", place / "data", keeps_weights=False, tell=lambda _: None)
    return summarise_table("ours", table, "mini", plan, place / "runs")


def test_every_row_has_its_seeds_and_the_papers_figure(summary):
    assert [(row["row"], row["seeds"]) for row in summary["rows"]] == [("plain", [42, 43]), ("longer", [42, 43])]
    column = summary["rows"][0]["columns"]["F1"]
    assert column["paper"] == 50
    assert column["mean"] == pytest.approx(sum(column["values"]) / 2)
    assert summary["missing"] == [{"row": "none", "dataset": "folder", "reasons": ["nobody has it"]}]
    (claim,) = summary["claims"]
    assert 0 < claim["p_value"] <= 1
    assert claim["holds"] in ("yes", "no", "undecided")
    assert "| plain | folder | 2 |" in markdown(summary)
    assert "(50.00)" in markdown(summary)


def test_rows_with_one_stage_one_have_one_span_f1(summary):
    plain, longer = (row["columns"]["Span F1"]["values"] for row in summary["rows"])
    assert plain == longer


def test_weights_of_scored_runs_can_be_dropped(place, plan, summary):
    for cell in plan.cells:
        assert not list((place / "runs" / cell.run).rglob("*.safetensors"))


def test_finished_runs_are_not_done_again(place, plan, summary, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda job: pytest.fail(f"{job['folder']} is trained again"))
    run_plan(plan, place / "runs", place / "data", tell=lambda _: None)


def test_lost_scores_are_made_again(place, table, plan, summary):
    cell = plan.cells[0]
    file = place / "runs" / cell.run / "scores-folder-test.json"
    before = json.loads(file.read_text())
    file.unlink()
    assert summarise_table("ours", table, "mini", plan, place / "runs")["unfinished"] == ["plain, folder, seed 42"]
    run_plan(plan, place / "runs", place / "data", keeps_weights=False, tell=lambda _: None)
    assert json.loads(file.read_text())["counts"] == before["counts"], "trained anew with the same seed"


def test_a_part_run_again_loses_nothing_of_the_whole(place, summary, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "FOLDER", place / "tables")
    options = ["--recipes", str(place / "recipes"), "--data-dir", str(place / "data"), "--drop-weights"]
    options += ["--output", str(place / "runs"), "--results", str(tmp_path)]
    kept = [("plain", [42, 43]), ("longer", [42, 43])]
    for chosen in (["--seeds", "2"], ["--seeds", "1", "--row", "plain"]):
        result = CliRunner().invoke(app, ["reproduce", "ours", *options, *chosen])
        assert result.exit_code == 0, result.output
        written = json.loads((tmp_path / "ours-mini.json").read_text())
        assert [(row["row"], row["seeds"]) for row in written["rows"]] == kept
        assert written["unfinished"] == []
        assert len(written["claims"]) == 1


def test_what_is_finished_is_reported_even_if_a_run_fails(place, summary, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "FOLDER", place / "tables")

    def fail(job):
        raise OSError("the disk is full")

    monkeypatch.setattr(runner, "execute", fail)
    options = ["--recipes", str(place / "recipes"), "--data-dir", str(place / "data"), "--seeds", "3"]
    options += ["--output", str(place / "runs"), "--results", str(tmp_path)]
    result = CliRunner().invoke(app, ["reproduce", "ours", *options])
    assert "the disk is full" in str(result.exception)
    written = json.loads((tmp_path / "ours-mini.json").read_text())
    assert [row["seeds"] for row in written["rows"]] == [[42, 43], [42, 43]]
    assert written["unfinished"] == ["plain, folder, seed 44", "longer, folder, seed 44"]


def test_several_jobs_give_the_same_scores(place, table, summary, tmp_path):
    plan = plan_table(table, "mini", 1, place / "recipes", place / "data", rows=["plain"])
    run_plan(plan, tmp_path, place / "data", jobs=2, tell=lambda _: None)
    again = summarise_table("ours", table, "mini", plan, tmp_path)["rows"][0]["columns"]["F1"]["values"]
    assert again == summary["rows"][0]["columns"]["F1"]["values"][:1]


def test_scores_of_other_label_files_are_refused(place, plan, summary, monkeypatch):
    monkeypatch.setattr(runner, "label_hash", lambda *_: "0123456789ab")
    with pytest.raises(
        ValueError, match=r"was scored on label files .* have 0123456789ab now; choose another `--output`"
    ):
        run_plan(plan, place / "runs", place / "data", tell=lambda _: None)


def test_weights_of_finished_runs_can_be_dropped_later(place, table, tmp_path):
    plan = plan_table(table, "mini", 1, place / "recipes", place / "data", rows=["plain"])
    run_plan(plan, tmp_path, place / "data", tell=lambda _: None)
    (cell,) = plan.cells
    assert (tmp_path / cell.run / "model.safetensors").is_file()
    run_plan(plan, tmp_path, place / "data", keeps_weights=False, tell=lambda _: None)
    assert not list((tmp_path / cell.run).rglob("*.safetensors"))


def test_failed_run_is_named_and_the_others_go_on(place, table, tmp_path):
    plan = plan_table(table, "mini", 1, place / "recipes", place / "data", rows=["plain"])
    detection = next(key for key, run in plan.runs.items() if run.kind == "detection" and run.needs)
    (tmp_path / detection).mkdir()
    (tmp_path / detection / "recipe.yaml").write_text("system: nothing")
    (tmp_path / detection / "other.txt").write_text("")
    with pytest.raises(RunsFailed, match=f"2 of 4 runs failed or lack what they need; see .*{detection}.log.txt"):
        run_plan(plan, tmp_path, place / "data", jobs=2, tell=lambda _: None)


def test_command_plans_and_lists(place, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", place / "tables")
    assert "ours" in CliRunner().invoke(app, ["reproduce"]).output
    options = ["--recipes", str(place / "recipes"), "--data-dir", str(place / "data"), "--seeds", "1", "--plan"]
    result = CliRunner().invoke(app, ["reproduce", "ours", *options])
    assert result.exit_code == 0, result.output
    assert result.output.count("scanner-folder-42-") == 2
    assert "cannot run on folder: none" in result.output
    assert "plain (folder), seed 42, after scanner-detection-folder-42-" in result.output
    assert result.output.splitlines()[-1].endswith(" runs, 0 of them finished")
    result = CliRunner().invoke(app, ["reproduce", "ours", *options, "--row", "other"])
    assert "`--row other` is in none of these tables; choose of plain, longer, none" in str(result.exception)
    absent = CliRunner().invoke(app, ["reproduce", "ours", *options, "--data-dir", str(place / "nowhere")])
    assert f"`--data-dir {place / 'nowhere'}` is no folder" in str(absent.exception)
    refused = CliRunner().invoke(app, ["reproduce", "ours", "--recipes", str(place / "nowhere"), "--plan"])
    assert "run in a checkout of the repository" in str(refused.exception)
