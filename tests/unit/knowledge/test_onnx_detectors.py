"""YOLOX: what goes in and out against plain loops, and the real detector where its file is."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import KnowledgeSource, SourceError, model_source, onnx_detectors
from hf_mner.knowledge.coco_classes import COCO_CLASSES
from hf_mner.knowledge.onnx_detectors import OnnxDetector, metadata_names
from hf_mner.knowledge.yolox import GREY, decode_yolox, letterbox
from hf_mner.metrics.boxes import box_iou

DATA = Path(os.environ.get("HF_MNER_DATA", "absent"))
YOLOX = DATA.parent / "weights" / "yolox_nano" / "yolox_nano.onnx"
SIZE = (64, 32)  # width and height of the input; its grids have 8 x 4, 4 x 2 and 2 x 1 cells
CELLS = 8 * 4 + 4 * 2 + 2 * 1

needs_onnxruntime = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")


class Session:
    """Stands in for an opened file: a detector of two classes that sees one thing in the middle of its input."""

    def __init__(self, shape=(1, 3, 32, 64), num_classes=2, names=None):
        self.shape, self.num_classes, self.names, self.runs = shape, num_classes, names, 0

    def get_inputs(self):
        return [self]

    name = "images"

    def get_modelmeta(self):
        return type("", (), {"custom_metadata_map": {} if self.names is None else {"names": self.names}})

    def run(self, _, inputs):
        self.runs += 1
        assert inputs["images"].shape == (1, 3, 32, 64)
        output = np.zeros((1, CELLS, 5 + self.num_classes), dtype=np.float32)
        for cell, confidence in ((12, 0.9), (13, 0.8)):  # row 1, columns 4 and 5 of the first grid
            output[0, cell, :4] = [0.0 if cell == 12 else -1.0, 1.0, np.log(2), np.log(1)]
            output[0, cell, 4:7] = [confidence, 0.1, 1.0]
        return [output]


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """A function that returns a detector whose file holds the given session."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"not read")

    def detector(session=None, **settings):
        session = session or Session()
        monkeypatch.setattr(onnx_detectors, "open_session", lambda _: session)
        return OnnxDetector(path, **{"label_names": ["cat", "dog"], **settings})

    return detector


def plain_decode(output, width, height):
    """Return the boxes, scores and classes cell by cell."""
    rows = iter(output)
    found = []
    for stride in (8, 16, 32):
        for row in range(height // stride):
            for column in range(width // stride):
                x, y, w, h, objectness, *classes = next(rows)
                x, y, w, h = (x + column) * stride, (y + row) * stride, np.exp(w) * stride, np.exp(h) * stride
                best = int(np.argmax(classes))
                found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, objectness * classes[best], best])
    assert next(rows, None) is None
    return np.array(found)


def test_decoding_is_that_of_a_plain_loop():
    output = np.random.default_rng(0).uniform(size=(CELLS, 5 + 4)).astype(np.float32)
    boxes, scores, classes = decode_yolox(output, SIZE)
    expected = plain_decode(output, *SIZE)
    assert boxes == pytest.approx(expected[:, :4], rel=1e-5)  # float32
    assert scores == pytest.approx(expected[:, 4], rel=1e-5)
    assert classes.tolist() == expected[:, 5].tolist()


@pytest.mark.parametrize(("size", "inner", "scale"), [((128, 64), (64, 32), 0.5), ((10, 10), (32, 32), 3.2)])
def test_images_go_to_the_upper_left_corner(size, inner, scale):
    pixels, found = letterbox(Image.new("RGB", size, (10, 20, 30)), SIZE)
    assert found == scale
    assert pixels.shape == (1, 3, 32, 64)
    assert pixels.dtype == np.float32
    width, height = inner
    assert (pixels[0, :, :height, :width] == np.array([30, 20, 10]).reshape(3, 1, 1)).all(), "blue comes first"
    assert (pixels[0, :, :, width:] == GREY).all()


def test_a_thin_image_keeps_a_pixel():
    assert letterbox(Image.new("RGB", (1000, 1)), SIZE)[0].shape == (1, 3, 32, 64)


@needs_onnxruntime
def test_boxes_are_in_pixels_of_the_image(opened):
    detector = opened()
    (found,) = detector([{"image": Image.new("RGB", (128, 64))}])  # shrunk to half, so boxes are doubled
    # Cell (4, 1) of stride 8: centre (32, 16), 16 wide, 8 high; the other cell says the same and is suppressed.
    assert found == [{"label": "dog", "score": 0.9, "box": [48, 24, 80, 40], "caption": None, "similarity": None}]
    check_knowledge({"objects": found}, image_size=[128, 64])


@needs_onnxruntime
def test_thresholds_and_limits(opened):
    image = [{"image": Image.new("RGB", (64, 32))}]
    assert len(opened(iou_threshold=1.0)(image)[0]) == 2
    assert len(opened(iou_threshold=1.0, threshold=0.85)(image)[0]) == 1
    assert len(opened(iou_threshold=1.0, max_objects=1)(image)[0]) == 1
    assert opened(threshold=0.95)(image) == [[]]


@needs_onnxruntime
def test_equal_images_are_looked_at_once_and_none_without_an_image(opened):
    session = Session()
    detector = opened(session)
    red, blue = (Image.new("RGB", (64, 32), color) for color in ("red", "blue"))
    found = detector([{"image": red}, {"image": None}, {"image": red}, {}, {"image": blue}])
    assert session.runs == 2
    assert [objects is None for objects in found] == [False, True, False, True, False]
    assert found[0] == found[2]
    assert found[0][0] is not found[2][0]


@needs_onnxruntime
def test_nothing_is_opened_without_images(opened):
    detector = opened()
    assert isinstance(detector, KnowledgeSource)
    assert detector([{"image": None}]) == [None]
    assert detector.identity["model"] == "detector.onnx"
    assert detector._session is None


@needs_onnxruntime
def test_the_identity_changes_with_file_and_settings(opened, tmp_path):
    detector = opened()
    first = detector.identity
    others = [opened(threshold=0.4).identity, opened(label_names=["a", "b"]).identity]
    (tmp_path / "detector.onnx").write_bytes(b"other")
    others.append(opened().identity)
    assert first not in others
    assert detector.identity == first, "one detector has one file"


@needs_onnxruntime
def test_names_come_from_the_argument_the_file_or_coco(opened):
    image = [{"image": Image.new("RGB", (64, 32))}]
    named = Session(names='["one", "two"]')
    assert opened(named, label_names=None)(image)[0][0]["label"] == "two"
    assert opened(named)(image)[0][0]["label"] == "dog"
    assert opened(Session(num_classes=80), label_names=None)(image)[0][0]["label"] == COCO_CLASSES[1] == "bicycle"
    with pytest.raises(ValueError, match=r"detector.onnx has 2 classes, and 80 names are known; give `label_names="):
        opened(label_names=None)(image)
    assert metadata_names({}) is None


def test_there_are_80_classes():
    assert len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[11], COCO_CLASSES[79]) == ("person", "stop sign", "toothbrush")


@needs_onnxruntime
def test_errors_say_what_to_do(opened, tmp_path):
    with pytest.raises(FileNotFoundError, match="`path='absent.onnx'` is not a file; give an ONNX file"):
        OnnxDetector("absent.onnx")
    with pytest.raises(ValueError, match="`format='ssd'` is not known; choose one of yolox"):
        opened(format="ssd")
    with pytest.raises(ValueError, match=r"`iou_threshold` must be in \[0, 1\], got 2"):
        opened(iou_threshold=2)
    with pytest.raises(ValueError, match=r"`threshold` is 'high', a str; expected a number in \[0, 1\]"):
        opened(threshold="high")
    with pytest.raises(ValueError, match="`max_objects` is 2.5, a float; expected a whole number"):
        opened(max_objects=2.5)
    with pytest.raises(ValueError, match=r"output is \(5, 7\); `format='yolox'` expects 42 x \(5 \+ classes\)"):
        decode_yolox(np.zeros((5, 7)), SIZE)
    detector = opened(Session(shape=(1, 3, "h", "w")))
    with pytest.raises(ValueError, match="expected 1 x 3 x height x width.*without dynamic axes"):
        detector([{"image": Image.new("RGB", (64, 32))}])


@needs_onnxruntime
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_a_file_that_holds_no_model_is_named(tmp_path, content):
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)
    text = rf"detector.onnx'` \({len(content)} bytes\) cannot be opened as an ONNX model: .* Expected a detector"
    with pytest.raises(ValueError, match=text) as error:
        OnnxDetector(path)([{"image": Image.new("RGB", (64, 32))}])
    assert isinstance(error.value, SourceError), "no post is to blame"


def test_without_onnxruntime_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(model_source, "find_spec", lambda _: None)
    (tmp_path / "detector.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match=r"needs onnxruntime, which is not installed; `pip install hf-mner\[onnx\]`"):
        OnnxDetector(tmp_path / "detector.onnx")


@needs_onnxruntime
@pytest.mark.skipif(not YOLOX.is_file(), reason="needs weights/yolox_nano beside HF_MNER_DATA")
def test_the_real_detector_finds_the_dog(caplog):
    caplog.set_level(logging.WARNING)
    image = Image.open(DATA / "images" / "photos" / "dog.jpg")
    (found,) = OnnxDetector(YOLOX)([{"image": image}])
    best = {item["label"]: item["box"] for item in reversed(found)}
    assert box_iou(best["dog"], [131, 220, 310, 541]) > 0.7  # read off the photograph
    assert {"bicycle", "dog"} <= set(best)
    assert not caplog.records
