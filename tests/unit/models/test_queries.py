from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from hf_mner.data import flickr30k_entities, type_lists, yolo_labels
from hf_mner.data.labels import unify_type
from hf_mner.data.readers import SOURCES, get_source
from hf_mner.data.synthetic import PlantedSignal
from hf_mner.models.mner_qg import queries
from hf_mner.models.mner_qg.queries import QUERY_STYLES, build_queries, known_queries

TYPES = {
    **{name: source.types for name, source in SOURCES.items()},
    "twitter2015, unified": tuple(map(unify_type, SOURCES["twitter2015"].types)),
    "twitter_fmnerg, fine": get_source("twitter_fmnerg", "fine").types,
    "flickr30k_entities": flickr30k_entities.TYPES,
    "yolo": yolo_labels.TYPES,
    "planted_signal": PlantedSignal().types,
}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_every_set_has_texts(name, caplog):
    known = known_queries()
    assert [entity_type for entity_type in TYPES[name] if entity_type not in known] == []
    with caplog.at_level(logging.WARNING):
        built = [query for style in QUERY_STYLES for query in build_queries(TYPES[name], style).values()]
    assert not caplog.text
    assert all(query.strip() for query in built)


def test_every_list_of_types_is_here():
    lists = {tuple(value) for name, value in vars(type_lists).items() if name.endswith("TYPES")}
    assert lists <= {tuple(types) for types in TYPES.values()}


@pytest.mark.parametrize(("entity_type", "texts"), known_queries().items())
def test_texts_are_whole(entity_type, texts):
    assert set(texts) == {"keyword", "wikipedia", "annotation"}
    assert all(isinstance(text, str) and text == text.strip() and text for text in texts.values())
    for name in ("wikipedia", "annotation"):
        assert re.fullmatch(r"[^.!?。！？]+[.。]", texts[name]), f"{entity_type}: {name} is not one sentence"
    assert not re.search(r"[.。]", texts["keyword"])
    assert len({bool(CHINESE.search(text)) for text in texts.values()}) == 1, "one language for each type"


def test_types_of_one_set_are_told_apart():
    for types in TYPES.values():
        for style in ("keyword", "annotation"):
            built = build_queries(types, style)
            assert len(set(built.values())) == len(built)


def test_no_type_is_written_twice():
    lines = Path(queries.__file__).with_suffix(".yaml").read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if line and line[0] not in "# "]
    assert len(keys) == len(set(keys)) == len(known_queries())
