"""A shard through the annotator: what it finds, what it reads once, and what it leaves out."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from tiny import detected, noisy_image, tiny_examples, tiny_mmavk, tiny_mmavk_processor

from hf_mner.annotation import annotator as annotator_module
from hf_mner.annotation.annotator import Annotator
from hf_mner.annotation.columns import find_columns
from hf_mner.annotation.entity_column import ENTITIES, make_column
from hf_mner.annotation.parts import Part, Reject
from hf_mner.annotation.settings import Settings
from hf_mner.pipelines.multimodal_ner import MultimodalNerPipeline

TEXTS = ["Steve Kerr coaches the Warriors in Oakland", "", "so tired 😀\ntoday", "The NBA and Adidas sign O'Brien"]


def make_part(rows: list[dict], first: int = 0) -> Part:
    return Part(list(range(first, first + len(rows))), pa.Table.from_pylist(rows), [])


def run(pipe, rows, sources=(), columns=None, **settings):
    part = rows if isinstance(rows, Part) else make_part(rows)
    found = Annotator(pipe, sources, find_columns(part.table.schema, **(columns or {})), Settings(**settings))
    return found.annotate(part)


def without_scores(entities):
    return [(e["entity_group"], e["word"], e["start"], e["end"], [b["box"] for b in e["boxes"]]) for e in entities]


@pytest.mark.parametrize("batch_tokens", [64, 4_096])
def test_it_finds_what_the_pipeline_finds(pipe, batch_tokens):
    knowledge = {"objects": [detected("person", [0.0, 0.0, 4.0, 8.0], 0.5)], "caption": "a man"}
    rows = [{"text": text, "knowledge": know} for text in TEXTS for know in (knowledge, None)]
    done = run(pipe, rows, batch_tokens=batch_tokens)
    expected = pipe(rows, batch_size=8)
    found = done.table.column("entities").to_pylist()
    assert any(entity["boxes"] for entities in expected for entity in entities)
    assert list(map(without_scores, found)) == list(map(without_scores, expected))
    for entities, others in zip(found, expected, strict=True):
        for entity, other in zip(entities, others, strict=True):
            assert entity["score"] == pytest.approx(other["score"], abs=6e-5)  # four decimals
    assert done.table.schema.field("entities").type == ENTITIES
    assert done.table.select(["text", "knowledge"]).to_pylist()[0]["text"] == TEXTS[0]


def test_words_and_knowledge_columns(pipe):
    tokens = tiny_examples()[0]["tokens"]
    rows = [{"tokens": tokens, "blip": "a man with a ball"}, {"tokens": tokens, "blip": None}]
    done = run(pipe, rows, columns={"parts": {"caption": "blip"}, "kept": []})
    assert done.table.column_names == ["entities"]
    expected = pipe([{"tokens": tokens, "knowledge": {"caption": "a man with a ball"}}, {"tokens": tokens}])
    assert list(map(without_scores, done.table["entities"].to_pylist())) == list(map(without_scores, expected))


def test_posts_that_are_alike_are_read_once(pipe, monkeypatch):
    read = []
    recognize = annotator_module.recognize_entities

    def count(model, processor, examples, **kwargs):
        read.append(len(examples))
        return recognize(model, processor, examples, **kwargs)

    monkeypatch.setattr(annotator_module, "recognize_entities", count)
    other = {"caption": "a man"}
    rows = [{"text": text, "knowledge": None, "image": name} for text in TEXTS for name in ("a", "b", "a")]
    rows += [{"text": TEXTS[0], "knowledge": other, "image": "a"}] * 2
    done = run(pipe, rows)
    assert read == [4], "the model reads no images; three texts and one with knowledge; an empty text is not read"
    assert done.counts == {
        "rows": 14,
        "rejected": 0,
        "entities": sum(map(len, done.table["entities"].to_pylist())),
        "distinct": 5,
    }
    found = done.table["entities"].to_pylist()
    assert found[0] == found[1] == found[2]
    assert found[12] == found[13]


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    noisy_image(seed).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def image_pipe():
    return MultimodalNerPipeline(model=tiny_mmavk(fusion="prefix"), processor=make_prefix_processor())


def make_prefix_processor():
    from transformers import ConvNextImageProcessorPil

    return tiny_mmavk_processor(
        fusion="prefix", image_processor=ConvNextImageProcessorPil(size={"shortest_edge": 32}), knowledge=[]
    )


def test_images_are_decoded_where_the_model_reads_them(image_pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(annotator_module, "IMAGE_CHUNK", 2)
    (tmp_path / "a.png").write_bytes(png(5))
    images = [
        {"bytes": png(1), "path": None},
        {"bytes": png(2), "path": "x.png"},
        None,
        {"bytes": None, "path": "a.png"},
    ]
    images = [image or {"bytes": None, "path": None} for image in images]
    rows = [{"text": TEXTS[0], "image": image} for image in images] + [{"text": TEXTS[3], "image": images[0]}]
    part = make_part(rows)
    annotator = Annotator(image_pipe, [], find_columns(part.table.schema), Settings(), tmp_path)
    assert annotator.needs_images
    done = annotator.annotate(part)
    sources = [png(1), png(2), None, tmp_path / "a.png", png(1)]
    expected = image_pipe([{"text": row["text"], "image": source} for row, source in zip(rows, sources, strict=True)])
    assert list(map(without_scores, done.table["entities"].to_pylist())) == list(map(without_scores, expected))
    assert done.counts["distinct"] == 5
    assert done.table["image"].to_pylist() == [*images, images[0]]


BAD = {
    "null text": ({"text": None, "image": None}, "Column 'text' is null"),
    "bad knowledge": ({"text": "x", "knowledge": {"caption": 5}}, "expected a text or None"),
}


def test_bad_rows_stop_or_are_left_out(image_pipe):
    good = {"id": 1, "text": TEXTS[0], "image": png(1)}
    rows = [good, {"id": 2, "text": None, "image": None}, {"id": 3, "text": "x", "image": b"no image"}, good]
    rows += [{"id": 4, "text": "x", "image": b"no image"}]
    with pytest.raises(ValueError, match=r"Row 11 \(id 2\): Column 'text' is null; expected a text"):
        run(image_pipe, make_part(rows, 10))
    done = run(image_pipe, make_part(rows, 10), on_error="skip")
    assert [reject.row for reject in done.rejects] == [11, 12, 14]
    assert [reject.id for reject in done.rejects] == ["2", "3", "4"]
    assert "cannot be decoded" in done.rejects[1].reason
    assert "cannot be decoded" in done.rejects[2].reason, "it is like the one before"
    assert done.table["id"].to_pylist() == [1, 1]
    assert done.counts["rejected"] == 3


def test_rows_that_could_not_be_read_are_refused_too(pipe):
    part = make_part([{"text": TEXTS[0]}])._replace(rejects=[Reject(1, None, "line 2 is not JSON")])
    with pytest.raises(ValueError, match="Row 1: line 2 is not JSON"):
        run(pipe, part)
    assert run(pipe, part, on_error="skip").rejects == part.rejects


class Picky:
    """A source that stops at one word."""

    column, needs_entities, reads = "caption", False, ("tokens",)

    def __call__(self, examples):
        if any("tired" in example["tokens"] for example in examples):
            raise ValueError("too tired")
        return ["a man"] * len(examples)


def test_a_post_on_which_the_model_or_a_source_stops_is_found(pipe):
    rows = [{"text": f"{text} {number}"} for number in range(5) for text in TEXTS]
    with pytest.raises(ValueError, match=r"Row 2: .*too tired"):
        run(pipe, rows, [Picky()])
    done = run(pipe, rows, [Picky()], on_error="skip")
    assert [reject.row for reject in done.rejects] == [2, 6, 10, 14, 18]
    assert done.table.num_rows == 15


def test_a_source_that_cannot_work_blames_no_post(pipe):
    from hf_mner.knowledge.base import SourceError

    class Broken(Picky):
        def __call__(self, examples):
            raise SourceError("no endpoint")

    with pytest.raises(SourceError, match="no endpoint"):
        run(pipe, [{"text": TEXTS[0]}], [Broken()], on_error="skip")


def test_scores_are_rounded_and_the_column_has_one_type():
    box = {"box": {"xmin": 0.123456, "ymin": 1, "xmax": 2, "ymax": 3}, "score": 0.98765432}
    entity = {"entity_group": "PER", "score": 0.123456789, "word": "x", "start": 0, "end": 1, "boxes": [box]}
    (found,) = make_column([[entity]]).to_pylist()[0]
    assert found["score"] == pytest.approx(0.1235, abs=1e-7)
    assert found["boxes"][0]["box"]["xmin"] == pytest.approx(0.12, abs=1e-7)
    assert make_column([]).type == make_column([[]]).type == ENTITIES
