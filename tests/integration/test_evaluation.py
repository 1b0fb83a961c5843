"""`evaluate_model` says the same as the metrics applied by hand, for whole systems and for single stages."""

import json

import pytest
from tiny import tiny_examples, tiny_image, tiny_processor, tiny_scanner

from hf_mner import evaluate_model, recognize_entities
from hf_mner.evaluation import spans_of
from hf_mner.metrics import score_spans


@pytest.fixture(scope="module")
def model():
    return tiny_scanner("ScannerForMultimodalNer", grounding_weight=1.0)


@pytest.fixture(scope="module")
def processor():
    return tiny_processor("bert", grounding_threshold=0.5)


def test_scores_are_those_of_the_recognised_entities(model, processor):
    examples = tiny_examples()
    scores = evaluate_model(model, processor, examples, training_entities={"Steve Kerr"}, batch_size=2)
    found = recognize_entities(model, processor, examples)
    assert scores["entities"] == score_spans([*map(spans_of, found)], [*map(spans_of, examples)])
    assert set(scores["stages"]) == {"detection", "recognition"}
    assert scores["seen_unseen"]["seen"]["support"] == 1
    assert scores["grounded"]["tp"] + scores["grounded"]["fn"] == sum(len(example["entities"]) for example in examples)


def test_a_span_detector_is_scored_by_its_spans_alone(processor):
    scores = evaluate_model(tiny_scanner("ScannerForSpanDetection"), processor, tiny_examples())
    assert set(scores) == {"stages", "examples", "seconds"}
    assert scores["stages"]["detection"]["support"] > 0


def test_gold_spans_are_typed_by_the_second_stage_alone(processor):
    scores = evaluate_model(tiny_scanner("ScannerForEntityRecognition"), processor, tiny_examples())
    assert scores["stages"]["recognition"]["recall"] > 0
    assert "detection" not in scores["stages"]


def test_a_data_set_gives_what_its_rows_give(model, processor):
    from datasets import Dataset

    examples = [{"tokens": e["tokens"], "entities": e["entities"]} for e in tiny_examples() if e["entities"]]
    rows, dataset = (evaluate_model(model, processor, data) for data in (examples, Dataset.from_list(examples)))
    assert rows["entities"] == dataset["entities"]


def test_sources_that_read_images_get_them(scanner_folder, tmp_path, monkeypatch):
    from hf_mner.cli.evaluate import evaluate

    class Captions:
        column, needs_entities, reads = "caption", False, ("image",)
        seen: list[bool] = []

        def __call__(self, examples):
            self.seen.extend(example.get("image") is not None for example in examples)
            return ["a man"] * len(examples)

    class Writing(Captions):
        column, seen = "ocr", []

    (tmp_path / "images").mkdir()
    tiny_image(size=(8, 8)).save(tmp_path / "images" / "1.png")
    (tmp_path / "test.txt").write_text("IMGID:1\nSteve\tB-PER\nKerr\tI-PER\n", encoding="utf-8")
    opened = [Captions(), Writing()]
    monkeypatch.setattr("hf_mner.knowledge.registry.open_sources", lambda *_: opened)
    output = tmp_path / "scores.json"
    evaluate(model=str(scanner_folder), dataset="folder", data_dir=tmp_path, source=["captions", "ocr"], output=output)
    assert Captions.seen == [True]
    assert Writing.seen == [], "the model does not read it"
    assert json.loads(output.read_text())["knowledge"] == ["captions"]
