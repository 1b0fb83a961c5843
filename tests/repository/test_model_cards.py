"""The cards of `model_cards/`: one for each system, and no number that no results file holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_mner.auto import SYSTEMS

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
NUMBER = re.compile(r"(?<![\w.@])\d+\.\d\d(?![\w.])")


def numbers_of(values: Any) -> set[str]:
    """Return all numbers of a results file as percentages with two decimals, as cards print them."""
    if isinstance(values, dict):
        return {number for value in values.values() for number in numbers_of(value)}
    if isinstance(values, list):
        return {number for value in values for number in numbers_of(value)}
    return {f"{100 * values:.2f}"} if isinstance(values, float) else set()


def results_of(card: str) -> list[Path]:
    """Return the results files that a card names."""
    said = re.search(r"file that `hf-mner evaluate` wrote: (.*?)\. `-` stands", card, re.DOTALL)
    names = re.findall(r"`([^`]+\.json)`", said[1])
    return [ROOT / "results" / name for name in names]


def test_every_system_has_a_card():
    systems = {tag for card in CARDS for tag in yaml.safe_load(card.read_text().split("---\n")[1])["tags"]}
    assert systems >= set(SYSTEMS)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_states_no_number_that_no_results_file_holds(path):
    card = path.read_text()
    known = {number for file in results_of(card) for number in numbers_of(json.loads(file.read_text()))}
    assert known
    tables = "\n".join(line for line in card.splitlines() if line.startswith("|"))
    metrics = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    values = {f"{metric['value']:.2f}" for result in metrics for metric in result["metrics"]}
    printed = set(NUMBER.findall(tables)) | values
    assert printed
    assert printed <= known, printed - known


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_has_what_a_reader_looks_for(path):
    card = path.read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert {"library_name", "pipeline_tag", "model-index", "tags", "base_model"} <= front.keys()
    for part in ("## Scores", "## How it was made", "## Use and limits", "## Citation", "Training data:"):
        assert part in card
    assert re.search(r"recognize = pipeline\(\"multimodal-ner\"", card)
