"""A compact checkpoint loads as a usual model; a card holds the numbers of its results files and no others."""

import ast
import json
import re

import pytest
import torch
import yaml
from tiny import save_tiny
from transformers import AutoModel, AutoModelForTokenClassification

import hf_mner
from hf_mner.data.readers import OTHER_FACTS, SOURCES
from hf_mner.hub.compact import write_compact_checkpoint
from hf_mner.hub.model_card import render_model_card
from hf_mner.hub.training_sources import DATASETS
from hf_mner.layers.quantization import quantize_rows

TEXT = "Steve Kerr coaches the Warriors in Oakland"


FIELDS = {
    "scanner, nothing shared": {"num_shared_layers": None},
    "scanner, one shared layer": {"num_shared_layers": 1},
    "mmavk": {},
    "mner_qg": {"has_feature_pyramid": True},
    "ham_learning": {},
}


@pytest.fixture(params=FIELDS)
def run(tmp_path, request):
    recipe = {"system": request.param.partition(",")[0], "dataset": "twitter2017", "backbone": "tiny", "seed": 3}
    recipe |= {"fusion": "word_level"} if request.param == "mmavk" else {}
    save_tiny(recipe["system"], tmp_path / "run", **FIELDS[request.param])
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "run"


def test_weights_come_back_within_half_a_step(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    whole, restored = (AutoModel.from_pretrained(folder).state_dict() for folder in (run, compact))
    assert whole.keys() == restored.keys()
    for name, weight in whole.items():
        # Half precision has eleven bits, and steps of 2**-24 near 0.
        step = quantize_rows(weight)[1][:, None] if weight.ndim == 2 else weight.abs() / 512 + 2**-24
        assert ((weight - restored[name]).abs() <= step).all(), name
        assert restored[name].dtype == weight.dtype


def test_pipeline_reads_it_and_it_is_small(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    assert [path.name for path in compact.glob("*.safetensors")] == ["model.int8.safetensors"]
    weights = (run / "model.safetensors").stat().st_size
    # A quarter, plus names and vectors; the convolutions of an image encoder take half.
    assert (compact / "model.int8.safetensors").stat().st_size < weights / 2.2
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


def results_of(**changes):
    return {
        "dataset": "twitter2017",
        "split": "test",
        "knowledge": ["blip2_captions"],
        "label_files_sha256": "abc",
        "entities": {**score(0.8123), "per_type": {"PER": score(0.9001), "LOC": score(0.7002)}},
        "seen_unseen": {"seen": score(0.95), "unseen": score(0.65)},
        **changes,
    }


@pytest.fixture
def write_results(tmp_path):
    """Write results files, each with the changed parts given."""

    def write(*changes):
        paths = [tmp_path / f"scores-{number}.json" for number in range(len(changes))]
        for path, changed in zip(paths, changes, strict=True):
            path.write_text(json.dumps(results_of(**changed)))
        return paths

    return write


@pytest.fixture
def card_of(tmp_path, write_results):
    """Render the card of a checkpoint with this recipe; its front matter and its text."""

    def render(recipe, *changes):
        folder = tmp_path / "my-model"
        folder.mkdir()
        values = {"dataset": "twitter2017", "backbone": "tiny", "seed": 3, **recipe}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        (folder / "config.json").write_text(json.dumps({"id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}))
        card = render_model_card(folder, write_results(*changes or [{}]))
        front, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
        return yaml.safe_load(front), body

    return render


def test_every_number_of_a_card_is_in_a_results_file(run, tmp_path, write_results):
    compact = write_compact_checkpoint(run, tmp_path / "compact")
    card = render_model_card(compact, write_results({}))
    front, body = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
    data = yaml.safe_load(front)
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 81.23
    assert "base_model" not in data  # the folder of the tiny encoder is nobody's base
    printed = set(re.findall(r"\b\d\d\.\d\d\b", body))
    assert printed == {"80.23", "82.23", "81.23", "95.00", "65.00", "90.01", "70.02"}


MMAVK = {"system": "mmavk", "fusion": "word_level"}
SCANNER = {"system": "scanner"}
MNER_QG = {"system": "mner_qg"}
HAM_LEARNING = {"system": "ham_learning"}
MNER_QG_TEXT = {**MNER_QG, "model": {"modality": "text"}}
CAPTIONER = "ImageCaptioner"


def reads(*parts):
    return {"recognition": {"knowledge": list(parts)}}


@pytest.mark.parametrize(
    ("recipe", "keys", "named"),
    [
        (MMAVK, {"auxiliary"}, {"AuxiliaryKnowledge"}),
        ({**MMAVK, "knowledge_parts": ["caption", "auxiliary"]}, {"caption"}, {"AuxiliaryKnowledge", CAPTIONER}),
        ({**MMAVK, "fusion": "none"}, None, set()),
        ({**MMAVK, "fusion": "prefix"}, None, set()),
        ({**SCANNER, **reads("encyclopedia", "caption")}, {"caption"}, {"Encyclopedia", CAPTIONER}),
        ({**SCANNER, **reads("encyclopedia")}, None, {"Encyclopedia"}),
        ({**SCANNER, **reads()}, None, set()),
        (MNER_QG, None, set()),
        (MNER_QG_TEXT, None, set()),
        (HAM_LEARNING, None, set()),
        ({**HAM_LEARNING, "model": {"modality": "text"}}, None, set()),
    ],
)
def test_a_card_names_the_knowledge_that_its_model_reads(card_of, recipe, keys, named):
    _, body = card_of(recipe)
    post = ast.literal_eval(re.search(r"^recognize\((.*)\)$", body, re.MULTILINE).group(1))
    sees = recipe.get("fusion") == "prefix" or recipe in (MNER_QG, HAM_LEARNING)
    assert set(post) == {"text", *(["knowledge"] if keys else []), *(["image"] if sees else [])}
    assert set(post.get("knowledge", {})) == (keys or set())
    sources = {"AuxiliaryKnowledge", CAPTIONER, "Encyclopedia"}
    assert {name for name in sources if f"`{name}`" in body} == named
    alone = "the text alone" in body
    assert alone != sees
    assert ("It reads the image itself" in body) == sees


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"vision_backbone": "microsoft/resnet-50"}, "the encoder tiny and the image encoder microsoft/resnet-50."),
        ({"vision_config": {"model_type": "resnet"}}, r"tiny and an image encoder \(resnet\) that started at random."),
        ({"model": {"modality": "text"}, "query_style": "keyword"}, r"tiny\. It asks .*`query_style: keyword`"),
    ],
)
def test_a_card_of_mner_qg_names_its_encoders_and_its_queries(card_of, fields, named):
    data, body = card_of({**MNER_QG, **fields})
    assert "mner_qg" in data["tags"]
    assert re.search(rf"MNER-QG for named entity recognition in .*{named}", body)
    assert "answers with spans" in body


def test_a_card_shows_the_boxes_of_queries_where_they_were_scored(card_of):
    boxes = {"accu@0.5": 0.5111, "accu@0.75": 0.4222, "miou": 0.3333, "support": 9}
    grounded = {"precision": 0.2, "recall": 0.3, "f1": 0.2444, "support": 11}
    none = {"accu@0.5": 0.0, "accu@0.75": 0.0, "miou": 0.0, "support": 0}
    _, body = card_of(MNER_QG, {"grounding": boxes, "grounded": grounded}, {"grounding": none}, {})
    assert "| twitter2017, test | blip2_captions | 9 | 51.11 | 42.22 | 33.33 | 24.44 |" in body
    assert body.count("51.11") == 1
    assert len(re.findall(r"^\| twitter2017, test \|", body, re.MULTILINE)) == 3 + 1


def test_a_card_without_boxes_has_no_table_of_them(card_of):
    _, body = card_of(MNER_QG)
    assert "Accu@0.5" not in body


def test_a_model_that_finds_no_entities_has_no_card(card_of):
    with pytest.raises(ValueError, match="grounds phrases and finds no entities .*recipe with `task: recognition`"):
        card_of({**MNER_QG, "task": "grounding"})


@pytest.mark.parametrize("recipe", [MMAVK, SCANNER, MNER_QG])
def test_a_card_claims_nothing_of_the_data_of_others(card_of, recipe):
    data, body = card_of({**recipe, "dataset": "folder", "knowledge": ["knowledge.jsonl"]}, {"dataset": "folder"})
    assert not {"language", "license"} & set(data)
    assert not re.search(r"tweet|English|social|201\d|a small default|docs/results", body.partition("```bibtex")[0])
    assert "`knowledge.jsonl` says of their images" in body
    assert "validation split, where there is one, chose" in body


def test_a_card_says_what_its_public_data_are(card_of):
    data, body = card_of({**MMAVK, "dataset": "cp_mner", "train_splits": ["train", "validation"]})
    assert data["language"] == "zh"
    assert "For research on Chinese texts about paintings." in body
    assert "the splits train and validation of cp_mner; the last epoch was kept" in body
    assert '{"tokens": list("徐悲鸿绘于北京"), "knowledge": {"auxiliary":' in body


def test_every_public_data_set_has_its_words():
    assert set(DATASETS) == {*SOURCES, *OTHER_FACTS}


@pytest.mark.parametrize(
    ("dataset", "texts"), [("planted_signal", "made-up posts"), ("flickr30k_entities", "captions"), ("yolo", "names")]
)
def test_a_card_says_what_phrases_and_made_up_posts_are(card_of, dataset, texts):
    data, body = card_of({**MNER_QG, "dataset": dataset}, {"dataset": dataset})
    assert data["language"] == "en"
    assert re.search(rf"For research on [^.]*{texts}", body)
    assert "author's own" not in body
    assert ("where there is one" in body) == (dataset == "yolo")


def test_entities_that_there_are_not_have_no_score(card_of):
    none = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    per_type = {"LOC": none, "ORG": score(0.5)}
    _, body = card_of(
        MMAVK,
        {"seen_unseen": {"seen": score(0.95), "unseen": none}},
        {"seen_unseen": {}, "entities": {**score(0.5), "per_type": per_type}},
    )
    assert "| 80.23 | 82.23 | 81.23 | 95.00 | - |" in body
    assert "| 49.00 | 51.00 | 50.00 | - | - |" in body
    assert "| LOC | ORG | PER |" in body
    assert "| 70.02 | - | 90.01 |" in body
    assert "| - | 50.00 | - |" in body
    assert "unseen entities: see the scores" not in body


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"f1": 0.5}',
            r"scores\.json is no results file .*: it holds f1; expected `dataset`, `split`, .*`hf-mner eval",
        ),
        ('{"dataset": "a", "split": "test", "stages": {}}', "of a whole system: it holds dataset, split, stages; exp"),
        ("[]", "it holds list; expected"),
        ("f1: 0.5", r"Results file .*scores\.json is not JSON .*; give a file of `hf-mner evaluate`"),
    ],
)
def test_a_file_without_results_is_refused(card_of, tmp_path, text, message):
    card_of(MMAVK)
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        render_model_card(tmp_path / "my-model", [path])


def test_a_folder_that_is_not_empty_is_refused(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.safetensors").touch()
    with pytest.raises(FileExistsError, match="full is not empty; choose a new folder"):
        write_compact_checkpoint(run, tmp_path / "full")


def test_the_snippet_of_a_card_loads_the_cards_model(run, tmp_path):
    compact = write_compact_checkpoint(run, tmp_path / "my-model")
    assert 'pipeline("multimodal-ner", model="my-model")' in render_model_card(compact, [])
