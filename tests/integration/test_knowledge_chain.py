"""One list of sources in a data set's map, in a store, and live in the pipeline: the same knowledge, its origin."""

import sys
from pathlib import Path

import pytest
from datasets import Dataset
from tiny import tiny_image
from transformers import pipeline

import hf_mner
from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import Encyclopedia, add_knowledge, knowledge_map
from hf_mner.knowledge.regions import RegionCaptioner, RegionSimilarity
from hf_mner.knowledge.store import KnowledgeStore, Stored

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "knowledge"))
from test_captions import folder, loaded  # noqa: E402, F401  fixtures: a tiny captioner
from test_similarity import clip  # noqa: E402, F401  a fixture: a tiny dual encoder

TEXT = "Steve Kerr coaches the Warriors in Oakland"


class Detector:
    """Finds the left and the right half of every image, and counts its calls."""

    column, needs_entities, reads = "objects", False, ("image",)
    identity = {"source": "Detector", "model": "halves", "revision": "1", "prompt": "", "settings": "{}"}

    def __init__(self):
        self.asked = 0

    def __call__(self, examples):
        self.asked += len(examples)
        return [None if example.get("image") is None else self.halves(example["image"].size) for example in examples]

    def halves(self, size):
        width, height = size
        boxes = [[0, 0, width / 2, height], [width / 2, 0, width, height]]
        return [{"label": "half", "score": 0.5, "box": box, "caption": None, "similarity": None} for box in boxes]


@pytest.fixture
def sources(loaded, clip):  # noqa: F811
    records = [{"title": name, "description": f"{name} is known.", "source": "wiki"} for name in TEXT.split()]
    return [
        Detector(),
        RegionCaptioner(*loaded, max_new_tokens=3),
        Encyclopedia.from_records(records),
        RegionSimilarity(*clip),
    ]


def examples():
    entities = [{"start": 0, "end": 1, "type": "PER", "boxes": []}, {"start": 4, "end": 5, "type": "ORG", "boxes": []}]
    with_image = {"id": "1", "tokens": TEXT.split(), "image": tiny_image(size=(16, 8)), "entities": entities}
    return [with_image, {"id": "2", "tokens": TEXT.split(), "image": None, "entities": entities}]


def test_each_source_reads_what_the_ones_before_wrote(sources):
    first, second = add_knowledge(examples(), sources)
    check_knowledge(first["knowledge"], (16, 8))
    assert all(isinstance(item["caption"], str) for item in first["knowledge"]["objects"])
    assert [len(entity["object_similarities"]) for entity in first["entities"]] == [2, 2]
    notes = [(note["part"], note["source"]) for note in first["knowledge"]["sources"]]
    assert notes == [
        ("objects", "Detector"),
        ("objects", "RegionCaptioner"),
        ("encyclopedia", "Encyclopedia"),
        ("object_similarities", "RegionSimilarity"),
    ]
    assert second["knowledge"].get("objects") is None
    assert len(second["knowledge"]["encyclopedia"]) == 2


def test_a_data_set_gets_the_same(sources):
    rows = [{**example, "image": None} for example in examples()]
    dataset = Dataset.from_list(rows).map(knowledge_map(sources), batched=True)
    filled = add_knowledge(rows, sources)
    assert [row["encyclopedia"] for row in dataset["knowledge"]] == [
        example["knowledge"]["encyclopedia"] for example in filled
    ]


def test_a_store_gives_the_same_and_asks_once(sources, tmp_path):
    plain = add_knowledge(examples(), sources)
    detector = sources[0]
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        kept = [Stored(source, store) for source in sources]
        before = detector.asked
        assert add_knowledge(examples(), kept) == plain
        asked = detector.asked
        assert asked > before
        assert add_knowledge(examples(), kept) == plain
        assert detector.asked == asked


def test_the_pipeline_runs_the_same_list_and_says_what_was_used(sources, scanner_folder, tmp_path):
    pipe = pipeline("multimodal-ner", model=str(scanner_folder))
    post = {"text": TEXT, "image": tiny_image(size=(16, 8))}
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        kept = [Stored(source, store) for source in sources]
        live = pipe(post, knowledge=sources, return_knowledge=True)
        assert pipe(post, knowledge=kept, return_knowledge=True) == live
    assert live
    for entity in live:
        shown, notes = entity["knowledge"], entity["knowledge"]["sources"]
        assert len(shown["objects"]) == 2
        assert {(note["part"], note["source"]) for note in notes} >= {
            ("objects", "Detector"),
            ("objects", "RegionCaptioner"),
            ("object_similarities", "RegionSimilarity"),
        }
    looked_up = [note for entity in live for note in entity["knowledge"]["sources"] if note["part"] == "encyclopedia"]
    assert all(note["revision"] == sources[2].identity["revision"] for note in looked_up)
    assert any(note.get("title") for note in looked_up)
    assert hf_mner.open_sources([]) == []
