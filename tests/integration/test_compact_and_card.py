"""A compact checkpoint loads as a usual model; a card holds the numbers of its results files and no others."""

import json
import re

import pytest
import torch
import yaml
from tiny import tiny_mmavk, tiny_mmavk_processor, tiny_processor, tiny_scanner
from transformers import AutoModel, AutoModelForTokenClassification

import hf_mner
from hf_mner.hub.compact import write_compact_checkpoint
from hf_mner.hub.model_card import render_model_card
from hf_mner.layers.quantization import quantize_rows

TEXT = "Steve Kerr coaches the Warriors in Oakland"


@pytest.fixture(params=["scanner, nothing shared", "scanner, one shared layer", "mmavk"])
def run(tmp_path, request):
    recipe = {"system": request.param.partition(",")[0], "dataset": "twitter2017", "backbone": "tiny", "seed": 3}
    if recipe["system"] == "mmavk":
        recipe["fusion"] = "word_level"
        model, processor = tiny_mmavk(), tiny_mmavk_processor()
    else:
        shared = 1 if "one" in request.param else None
        model, processor = tiny_scanner("ScannerForMultimodalNer", num_shared_layers=shared), tiny_processor("bert")
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "run"


def test_weights_come_back_within_half_a_step(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    whole, restored = (AutoModel.from_pretrained(folder).state_dict() for folder in (run, compact))
    assert whole.keys() == restored.keys()
    for name, weight in whole.items():
        step = quantize_rows(weight)[1][:, None] if weight.ndim == 2 else weight.abs() / 512  # half precision
        assert ((weight - restored[name]).abs() <= step).all(), name
        assert restored[name].dtype == torch.float32


def test_pipeline_reads_it_and_it_is_small(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    assert [path.name for path in compact.glob("*.safetensors")] == ["model.int8.safetensors"]
    weights = (run / "model.safetensors").stat().st_size
    assert (compact / "model.int8.safetensors").stat().st_size < weights / 2.5, "a quarter, plus names and vectors"
    whole, small = (hf_mner.pipeline(model=str(folder))(TEXT) for folder in (run, compact))
    assert [entity["word"] for entity in small] == [entity["word"] for entity in whole]


def test_a_compact_model_is_saved_as_a_usual_one(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    AutoModelForTokenClassification.from_pretrained(compact).save_pretrained(tmp_path / "again")
    first, second = (AutoModel.from_pretrained(folder).state_dict() for folder in (compact, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_without_safetensors_is_refused(run, tmp_path):
    (run / "model.safetensors").rename(run / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors; give the folder of a finished"):
        write_compact_checkpoint(run, tmp_path / "compact")


def score(f1: float) -> dict[str, float]:
    return {"precision": f1 - 0.01, "recall": f1 + 0.01, "f1": f1, "support": 7}


def test_every_number_of_a_card_is_in_a_results_file(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    result = {
        "dataset": "twitter2017",
        "split": "test",
        "knowledge": ["blip2_captions"],
        "label_files_sha256": "abc",
        "entities": {**score(0.8123), "per_type": {"PER": score(0.9001), "LOC": score(0.7002)}},
        "seen_unseen": {"seen": score(0.95), "unseen": score(0.65)},
    }
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(result))
    card = render_model_card(compact, [path])
    front, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    data = yaml.safe_load(front)
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 81.23
    assert data["base_model"] == "tiny"
    printed = set(re.findall(r"\b\d\d\.\d\d\b", body))
    assert printed == {"80.23", "82.23", "81.23", "95.00", "65.00", "90.01", "70.02"}


def test_a_folder_that_is_not_empty_is_refused(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.safetensors").touch()
    with pytest.raises(FileExistsError, match="full is not empty; choose a new folder"):
        write_compact_checkpoint(run, tmp_path / "full")


def test_the_snippet_of_a_card_loads_the_cards_model(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "my-model")
    assert 'pipeline("multimodal-ner", model="my-model")' in render_model_card(compact, [])
