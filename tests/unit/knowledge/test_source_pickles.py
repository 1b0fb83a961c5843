"""Pickles of sources: the same before and after use, so that `datasets` caches and several processes work."""

import pickle
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from test_objects import picture, tiny_classifier
from test_ocr import written

from hf_mner.knowledge import ImageClassifier, OcrText, VinvlObjects, add_knowledge, knowledge_map
from hf_mner.knowledge.model_source import ModelSource

datasets = pytest.importorskip("datasets")
torch = pytest.importorskip("torch")
Hasher = pytest.importorskip("datasets.fingerprint").Hasher

needs_rapidocr = pytest.mark.skipif(find_spec("rapidocr") is None, reason="needs rapidocr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier")
    for part in tiny_classifier():
        part.save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def one_thread():
    """Processes that are forked from one with a pool of threads would wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def classifier(folder, **settings):
    return ImageClassifier(str(folder), **{"device": "cpu", "threshold": 0.0, **settings})


def rows(*images):
    return [{"id": str(place), "tokens": ["a"], "image": image} for place, image in enumerate(images)]


def check_unchanged_by_use(source, examples):
    before, pickled = Hasher.hash(source), pickle.dumps(source)
    found = add_knowledge(examples, [source])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Hasher.hash(source) == before
        assert Hasher.hash(knowledge_map([source])) == Hasher.hash(knowledge_map([pickle.loads(pickled)]))
    assert pickle.dumps(source) == pickled
    assert add_knowledge(examples, [pickle.loads(pickle.dumps(source))]) == found


def check_two_processes(source, images):
    data = datasets.Dataset.from_list(rows(*images)).cast_column("image", datasets.Image())
    alone = data.map(knowledge_map([source]), batched=True, load_from_cache_file=False)  # the model is loaded by now
    shared = data.map(knowledge_map([source]), batched=True, num_proc=2, load_from_cache_file=False)
    assert [row["knowledge"] for row in shared] == [row["knowledge"] for row in alone]
    return alone


def encoded(image, path):
    image.save(path)
    return {"path": str(path), "bytes": None}


def test_a_model_given_by_name(folder, tmp_path):
    check_unchanged_by_use(classifier(folder), rows(picture(1), None))
    images = [encoded(picture(seed), tmp_path / f"{seed}.png") for seed in (1, 2)]
    check_two_processes(classifier(folder), images)


def test_other_settings_and_other_weights_have_other_pickles(folder, tmp_path):
    sources = [classifier(folder), classifier(folder, threshold=0.1), classifier(tmp_path)]
    model, processor = tiny_classifier()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    first = Hasher.hash(sources[2])
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(tmp_path)
    hashes = [*map(Hasher.hash, sources[:2]), first, Hasher.hash(classifier(tmp_path))]
    assert len(set(hashes)) == 4


def test_a_model_given_as_an_object_is_kept():
    source = ImageClassifier(*tiny_classifier(), threshold=0.0)
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy, ModelSource)
    assert copy(rows(picture(1))) == source(rows(picture(1)))


@needs_rapidocr
def test_ocr(tmp_path):
    check_unchanged_by_use(OcrText(), rows(written("HELLO")))
    images = [encoded(written(word), tmp_path / f"{word}.png") for word in ("HELLO", "WORLD")]
    found = check_two_processes(OcrText(), images)
    assert [row["knowledge"]["ocr"] for row in found] == ["HELLO", "WORLD"]


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_an_onnx_file(tmp_path, monkeypatch):
    from test_onnx_detectors import Session

    from hf_mner.knowledge import OnnxDetector, onnx_detectors

    monkeypatch.setattr(onnx_detectors, "open_session", lambda _: Session())
    (tmp_path / "detector.onnx").write_bytes(b"not read")
    source = OnnxDetector(tmp_path / "detector.onnx", label_names=["cat", "dog"])
    check_unchanged_by_use(source, rows(Image.new("RGB", (64, 32))))


def test_what_was_noted_in_use_is_left_out(tmp_path):
    boxes = np.array([[0, 0, 5, 5]])
    np.savez(tmp_path / "1.npz", bbox=boxes)
    check_unchanged_by_use(VinvlObjects(tmp_path), rows(None))


def test_a_source_with_an_endpoint():
    from hf_mner.knowledge import LlmRationales

    source = LlmRationales("tiny", "http://localhost:1/v1")
    before = Hasher.hash(source)
    source._is_warned = True
    source._choose([("a post", "a caption")])
    assert Hasher.hash(source) == before
