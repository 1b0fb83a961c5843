"""Knowledge sources by name: every one has the protocol, and a list is checked before anything is opened."""

import inspect
import json

import pytest

from hf_mner.data.schema import Knowledge, check_knowledge
from hf_mner.knowledge import add_knowledge
from hf_mner.knowledge.base import ENTITY_COLUMN
from hf_mner.knowledge.registry import (
    NOT_SETTINGS,
    SOURCES,
    describe_spec,
    maker,
    open_sources,
    parse_specs,
    read_images,
    read_specs,
    source_class,
)
from hf_mner.knowledge.store import KnowledgeStore, Stored

ROWS = '{"title": "Steve Kerr", "description": "A coach."}\n{"title": "Oakland", "description": "A city."}\n'


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "wiki.jsonl").write_text(ROWS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_the_protocol(name):
    entry = SOURCES[name]
    source = source_class(entry)
    assert source.column in {*Knowledge.__annotations__, ENTITY_COLUMN}
    assert source.needs_entities in (True, False)
    assert "__call__" in dir(source)
    assert source.__doc__
    assert isinstance(inspect.getattr_static(source, "identity"), property)
    if entry.is_stored and not entry.has_files:
        needed = {"model": "a/b"} if name in ("rationales", "endpoint_auxiliary") else {}
        (opened,) = open_sources([{name: needed}])
        assert set(opened.reads) <= {"image", "tokens", "entities", *Knowledge.__annotations__}


@pytest.mark.parametrize("name", SOURCES)
def test_settings_are_plain_and_the_main_one_exists(name):
    parameters = inspect.signature(maker(SOURCES[name])).parameters
    assert SOURCES[name].main in parameters
    assert not {"args", "kwargs"} & set(parameters), "a misspelt setting would pass"
    for key, parameter in parameters.items():
        if key not in NOT_SETTINGS and parameter.default is not inspect.Parameter.empty:
            json.dumps(list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default)


@pytest.mark.parametrize("name", SOURCES)
def test_importing_a_source_loads_no_heavy_library(name):
    import subprocess
    import sys

    module = SOURCES[name].place.partition(":")[0]
    heavy = ("torch", "transformers", "datasets", "openai", "onnxruntime", "cv2", "rapidocr")
    code = f"import sys, hf_mner.knowledge.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_list_is_opened_in_its_order(data_dir):
    encyclopedia, ocr = open_sources([{"encyclopedia": "wiki.jsonl"}, "ocr"], data_dir)
    assert (encyclopedia.column, ocr.column) == ("encyclopedia", "ocr")
    example = {"tokens": ["Steve", "Kerr"], "entities": [{"start": 0, "end": 2}]}
    (filled,) = add_knowledge([example], [encyclopedia])
    assert filled["knowledge"]["encyclopedia"][0]["rule"] == "exact"
    assert filled["knowledge"]["sources"][0]["model"] == "wiki.jsonl"
    check_knowledge(filled["knowledge"])


def test_a_missing_file_without_a_data_folder(monkeypatch):
    monkeypatch.delenv("HF_MNER_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="'absent.jsonl' does not exist here and no data folder is given"):
        open_sources(["encyclopedia: absent.jsonl"])


def test_settings_reach_the_source(data_dir):
    settings = {"files": "wiki.jsonl", "rules": ["exact"], "max_text_chars": 5}
    (encyclopedia,) = open_sources([{"encyclopedia": settings}], data_dir)
    assert encyclopedia.rules == ("exact",)
    assert encyclopedia.lookup(["steve kerr", "Oakland"])[0] is None
    assert encyclopedia.lookup(["Oakland"])[0]["text"] == "A"


def test_what_is_worth_it_is_kept_in_a_store(data_dir):
    with KnowledgeStore(data_dir / "store.sqlite") as store:
        encyclopedia, ocr = open_sources([{"encyclopedia": "wiki.jsonl"}, {"ocr": 0.7}], data_dir, store)
    assert not isinstance(encyclopedia, Stored)
    assert isinstance(ocr, Stored)
    assert ocr.source.min_score == 0.7


def test_no_model_is_loaded_before_it_is_asked():
    sources = open_sources(
        ["captions", {"clip_similarity": "no/such"}, {"objects": {"model": "a/b", "threshold": 0.1}}]
    )
    assert [source.column for source in sources] == ["caption", "similarity", "objects"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["captoins"], "'captoins' names no knowledge source; choose of encyclopedia, .*Did you mean 'captions'"),
        ([{"captions": {"modle": "x"}}], "Source 'captions' has no setting 'modle'; it has model, prompt"),
        ([{"captions": {"processor": "x"}}], "Source 'captions' has no setting 'processor'"),
        (["encyclopedia"], r"Source 'encyclopedia' needs `files`: \{encyclopedia: \{files: ...\}\}"),
        ([{"captions": "a", "ocr": 1}], "names no knowledge source"),
        ([5], "5 names no knowledge source"),
        ("ocr", "`sources` is 'ocr'; expected a list"),
        ({"ocr": 1}, "expected a list"),
    ],
)
def test_mistakes_are_named(specs, message):
    with pytest.raises(ValueError, match=message):
        parse_specs(specs)


def test_a_missing_file_is_named(data_dir):
    with pytest.raises(FileNotFoundError, match="'absent.jsonl' does not exist here nor as .*; correct the path"):
        open_sources([{"encyclopedia": "absent.jsonl"}], data_dir)


def test_lists_come_from_files_and_options(data_dir):
    recipe, plain, other = data_dir / "recipe.yaml", data_dir / "plain.yaml", data_dir / "other.yaml"
    recipe.write_text("system: scanner\nsources:\n  - ocr\n  - captions: a/b\n", encoding="utf-8")
    plain.write_text("- ocr\n", encoding="utf-8")
    other.write_text("system: scanner\n", encoding="utf-8")
    names = ["clip_similarity", "encyclopedia: wiki.jsonl", "{ocr: {min_score: 0.2}}"]
    assert read_specs(names, recipe) == [
        "ocr",
        {"captions": "a/b"},
        "clip_similarity",
        {"encyclopedia": "wiki.jsonl"},
        {"ocr": {"min_score": 0.2}},
    ]
    assert read_specs(file=plain) == ["ocr"]
    with pytest.raises(
        ValueError, match=r"other.yaml holds no list of sources; give a list, or a mapping with the key"
    ):
        read_specs(file=other)


def test_what_reads_images_is_known_without_opening():
    assert read_images(["ocr"])
    assert read_images([{"captions": "a/b"}])
    assert not read_images([{"encyclopedia": "wiki.jsonl"}, "caption_similarity", {"vinvl_objects": "vinvl"}])


def test_sources_have_a_name_for_readers():
    assert describe_spec("ocr") == "ocr"
    assert describe_spec({"captions": "Salesforce/blip2"}) == "captions (Salesforce/blip2)"
    assert describe_spec({"encyclopedia": ["a/b.jsonl", "c.tsv"]}) == "encyclopedia (b.jsonl, c.tsv)"
