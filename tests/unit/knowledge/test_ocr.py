"""Writing in images: the reading order on made-up places, and real writing where rapidocr is installed."""

import logging
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from hf_mner.knowledge import KnowledgeSource, add_knowledge, model_source
from hf_mner.knowledge.ocr import OcrText, joined_lines, reading_order

needs_rapidocr = pytest.mark.skipif(find_spec("rapidocr") is None, reason="needs rapidocr")


def corners(*boxes):
    """Return the corners (`k 4 2`) of `(left, top, right, bottom)`."""
    return np.array([[(x, y), (right, y), (right, bottom), (x, bottom)] for x, y, right, bottom in boxes], dtype=float)


def written(*lines, size=(260, 160), height=24):
    image = Image.new("RGB", size, "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 20 + 60 * row), line, fill="black", font=ImageFont.load_default(height))
    return image


@pytest.fixture(scope="module")
def reader():
    return OcrText()


def test_lines_are_read_from_above_and_from_the_left():
    pieces = corners((200, 12, 300, 32), (10, 60, 100, 80), (10, 10, 100, 30), (110, 58, 200, 78))
    assert reading_order(pieces) == [2, 0, 1, 3]
    assert joined_lines(pieces, ["world ", "how", "hello", "are  you"]) == "hello world how are you"


def test_the_order_does_not_depend_on_that_of_the_pieces():
    pieces = corners(*((x, y + x // 50, x + 80, y + 20 + x // 50) for y in (0, 40, 80) for x in (0, 100, 200)))
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(9)
        assert shuffled[reading_order(pieces[shuffled])].tolist() == list(range(9))


def test_a_heading_does_not_take_in_small_print_beside_it():
    heading, first, second = (0, 0, 100, 60), (110, 0, 200, 14), (110, 40, 200, 54)
    assert reading_order(corners(second, heading, first)) == [2, 1, 0]


@needs_rapidocr
def test_writing_is_read(reader):
    texts = reader([{"image": written("HELLO WORLD", "New York 2024")}])
    assert texts == ["HELLO WORLD New York 2024"]


@needs_rapidocr
def test_empty_without_writing_and_none_without_an_image(reader):
    blank, busy = Image.new("RGB", (60, 40), "white"), written("HELLO")
    rows = [{"image": blank}, {"image": None}, {"image": busy}, {}, {"image": busy}]
    assert reader(rows) == ["", None, "HELLO", None, "HELLO"]
    assert [reader([row])[0] for row in rows] == reader(rows)


@needs_rapidocr
def test_equal_images_are_read_once(reader, monkeypatch):
    counted, read = [], reader._read
    monkeypatch.setattr(reader, "_read", lambda image: counted.append(image) or read(image))
    reader([{"image": written("HELLO")}, {"image": written("HELLO")}, {"image": written("OTHER")}])
    assert len(counted) == 2


@needs_rapidocr
def test_unsure_lines_are_left_out():
    assert OcrText(min_score=1.0)([{"image": written("HELLO")}]) == [""]


@needs_rapidocr
def test_it_is_silent(reader, capfd):
    OcrText()([{"image": Image.new("RGB", (60, 40), "white")}, {"image": written("HELLO")}])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("RapidOCR").level == logging.ERROR


@needs_rapidocr
def test_as_a_knowledge_source():
    source = OcrText()
    assert isinstance(source, KnowledgeSource)
    assert (source.column, source.reads) == ("ocr", ("image",))
    (row,) = add_knowledge([{"id": "1", "tokens": ["a"], "image": None}], [source])
    assert row["knowledge"]["ocr"] is None
    assert source._engine is None, "nothing was loaded without an image"
    assert source.identity != OcrText(min_score=0.7).identity
    assert source.identity["model"] == "rapidocr"


@needs_rapidocr
def test_errors_say_what_to_do(reader):
    with pytest.raises(ValueError, match=r"`min_score` must be in \[0, 1\], got 2"):
        OcrText(min_score=2)
    with pytest.raises(ValueError, match=r"`min_score` is True, a bool; expected a number in \[0, 1\]"):
        OcrText(True)
    with pytest.raises(ValueError, match=r"Example '9' has an image of type int.*cast_column"):
        reader([{"id": "9", "image": 3}])


def test_without_rapidocr_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(model_source, "find_spec", lambda _: None)
    with pytest.raises(
        ImportError, match=r"needs rapidocr and onnxruntime, which are not installed; `pip install hf-mner\[ocr\]`"
    ):
        OcrText()
