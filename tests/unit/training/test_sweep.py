"""Combinations of settings and their means over seeds."""

from __future__ import annotations

import pytest

from hf_mner.cli.sweep import parse_values
from hf_mner.training.sweep import grid, run_name, summarise


def run(f1: float, **settings) -> dict:
    return {"settings": settings, "precision": f1, "recall": f1 / 2, "f1": f1}


def test_grid_holds_every_combination_and_the_last_key_changes_fastest():
    combinations = grid({"fusion": ["none", "concat"], "seed": [1, 2]})
    assert [tuple(each.values()) for each in combinations] == [("none", 1), ("none", 2), ("concat", 1), ("concat", 2)]
    assert grid({}) == [{}]


def test_folder_names_tell_the_settings_and_hold_no_separator():
    assert run_name({"fusion": "none", "training.epochs": 2}) == "fusion=none,training.epochs=2"
    assert run_name({"backbone": "org/name"}) == "backbone=org-name"
    assert run_name({}) == "as-it-is"


def test_runs_that_differ_in_their_seed_alone_are_averaged():
    rows = summarise([run(0.8, x=1, seed=1), run(0.7, x=2, seed=1), run(0.9, x=1, seed=2)])
    assert [row["settings"] for row in rows] == [{"x": 1}, {"x": 2}]
    assert [row["seeds"] for row in rows] == [2, 1]
    assert rows[0]["f1"] == pytest.approx(0.85)
    assert rows[0]["recall"] == pytest.approx(0.425)
    assert rows[0]["f1_deviation"] == pytest.approx(0.0707107, abs=1e-6), "of a sample: n - 1"
    assert rows[1]["f1_deviation"] is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("similarity_threshold=-1,0.3,0.35", [-1, 0.3, 0.35]),
        ("fusion=none,concat", ["none", "concat"]),
        ("knowledge=[[], [chatgpt]]", [[], ["chatgpt"]]),
        ("seed=42", [42]),
        ("similarity=null,caption", [None, "caption"]),
    ],
)
def test_values_are_read_as_yaml(text, values):
    assert parse_values(text) == (text.partition("=")[0], values)


def test_a_key_without_values_is_refused():
    with pytest.raises(ValueError, match="has no value; write KEY=VALUE"):
        parse_values("seed")
