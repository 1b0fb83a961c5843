"""Learning curves: which logs of a run are read, what is drawn of them, and what is refused."""

import json
import sys

import pytest

from hf_mner.visualization.learning_curve import (
    draw_learning_curves,
    plot_curves,
    read_curves,
    run_colors,
    summarise_curves,
)


def entries(*f1):
    """A Trainer's log: each epoch its loss, then its scores, and the run time in the end."""
    log = []
    for epoch, score in enumerate(f1, start=1):
        log.append({"epoch": float(epoch), "loss": 1 / epoch})
        log.append({"epoch": float(epoch), "eval_loss": 2 / epoch, "eval_f1": score})
    return [*log, {"epoch": float(len(f1)), "train_runtime": 3.0, "train_loss": 0.5}]


def write_log(folder, *f1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.json").write_text(json.dumps(entries(*f1)))


def write_checkpoint(folder, step, text):
    checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(text)


@pytest.fixture
def scanner(tmp_path):
    """A run with a finished stage, one that trains, and one whose first checkpoint is being written."""
    run = tmp_path / "scanner"
    write_log(run / "detection", 0.5, 0.8, 0.8)
    write_checkpoint(run / "recognition", 90, json.dumps({"log_history": entries(0.1)}))
    write_checkpoint(run / "recognition", 100, json.dumps({"log_history": entries(0.1, 0.2)}))
    write_checkpoint(run / "recognition", 110, '{"log_his')
    write_checkpoint(run / "teacher", 10, "")
    return run


def lines_of(panel):
    return {line.get_label(): line for line in panel.get_lines() if not line.get_label().startswith("_")}


def test_the_logs_of_stages_and_of_trainings_that_go_on_are_read(scanner):
    detection, recognition = read_curves(scanner)
    assert (detection.stage, detection.is_finished) == ("detection", True)
    assert detection.points("eval_f1") == [(1, 0.5), (2, 0.8), (3, 0.8)]
    assert detection.points("loss") == [(1, 1), (2, 1 / 2), (3, 1 / 3)]
    assert (recognition.stage, recognition.is_finished) == ("recognition", False)
    assert recognition.points("eval_f1") == [(1, 0.1), (2, 0.2)], "of the newest whole checkpoint, 100, not 90"


def test_a_finished_log_goes_before_checkpoints_that_were_left(tmp_path):
    write_log(tmp_path, 0.9)
    write_checkpoint(tmp_path, 5, json.dumps({"log_history": entries(0.1)}))
    (curve,) = read_curves(tmp_path)
    assert (curve.stage, curve.is_finished, curve.points("eval_f1")) == ("", True, [(1, 0.9)])


def test_the_summary_names_the_first_best_epoch(scanner, tmp_path):
    assert summarise_curves(read_curves(scanner)) == {
        "detection": {"epochs": 3, "is_finished": True, "best_f1": 0.8, "best_epoch": 2},
        "recognition": {"epochs": 2, "is_finished": False, "best_f1": 0.2, "best_epoch": 2},
    }
    (tmp_path / "log.json").write_text(json.dumps([{"epoch": 1.0, "loss": 0.5}]))
    assert summarise_curves(read_curves(tmp_path))["."]["best_f1"] is None


def test_a_run_has_a_color_and_a_stage_a_line_style(scanner, tmp_path):
    write_log(tmp_path / "other" / "detection", 0.7, 0.9)
    runs = {"one": read_curves(scanner), "_two": read_curves(tmp_path / "other")}
    losses, scores = plot_curves(runs).axes
    assert losses.get_title().startswith("loss")
    for panel in (losses, scores):
        drawn = lines_of(panel)
        assert list(drawn) == ["one: detection", "one: recognition (not finished)", "two: detection"]
        first, second, third = drawn.values()
        assert first.get_color() == second.get_color() != third.get_color()
        assert first.get_linestyle() == third.get_linestyle() != second.get_linestyle()
    assert list(lines_of(scores)["two: detection"].get_ydata()) == [70, 90]
    assert list(lines_of(losses)["two: detection"].get_xdata()) == [1, 2]
    assert len(losses.get_lines()) == 6, "training and validation"


def test_many_runs_have_as_many_colors():
    assert len(set(run_colors(10))) == 10
    assert len(set(run_colors(25))) == 25


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("new/c.svg", b"<?xml"), ("c.PNG", b"\x89PNG")])
def test_pictures_are_written(scanner, tmp_path, name, start):
    drawn = draw_learning_curves({"run": scanner}, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert drawn == {"run": read_curves(scanner)}


def test_a_panel_without_scores_says_so(tmp_path):
    (tmp_path / "log.json").write_text(json.dumps([{"epoch": 1.0, "loss": 0.5}]))
    _, scores = plot_curves({"run": read_curves(tmp_path)}).axes
    assert [text.get_text() for text in scores.texts] == ["nothing was logged"]


def test_what_cannot_be_drawn_is_named(tmp_path, scanner):
    with pytest.raises(FileNotFoundError, match="Run '.*absent' does not exist"):
        read_curves(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no log; expected log.json of a finished training, or checkpoints/"):
        read_curves(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"`output` is 'c.pdf'; expected a file that ends in .png or .svg"):
        draw_learning_curves({"run": scanner}, "c.pdf")
    with pytest.raises(ValueError, match="`runs` is empty"):
        draw_learning_curves({}, "c.png")
    for text, message in (("{", "is not JSON"), ("{}", "is no log of a training; expected a list"), ("[1]", "no log")):
        (tmp_path / "log.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_curves(tmp_path)


def test_without_matplotlib_the_error_says_what_to_install(scanner, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"which cannot be imported; `pip install hf-mner\[sample\]`"):
        draw_learning_curves({"run": scanner}, tmp_path / "c.png")


def test_the_command_draws_and_names_the_best_epochs(scanner, tmp_path):
    from typer.testing import CliRunner

    from hf_mner.cli import main
    from hf_mner.cli.inspect import label_runs

    write_log(tmp_path / "seed=1", 0.3)
    output = tmp_path / "curves.svg"
    done = CliRunner().invoke(
        main.app, ["inspect", "curves", f"SCANNER={scanner}", str(tmp_path / "seed=1"), "--output", str(output)]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["picture"] == str(output)
    assert list(said["runs"]) == ["SCANNER", "seed=1"]
    assert said["runs"]["seed=1"]["."]["best_f1"] == 0.3
    assert output.is_file()
    done = CliRunner().invoke(main.app, ["inspect", "curves", str(scanner), "--output", "curves.gif"])
    assert "`--output` is 'curves.gif'; expected a file that ends in .png or .svg" in str(done.exception)
    assert list(label_runs(["a/run", "b/run", "x=c/run"])) == ["a/run", "b/run", "x"]
    with pytest.raises(ValueError, match="Two runs have the label 'x'; give each its own, as LABEL=FOLDER"):
        label_runs(["x=a", "x=b"])
