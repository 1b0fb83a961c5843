"""Models that cannot be loaded, or were trained for something else: what the errors say."""

import shutil

import pytest
from test_captions import picture
from test_objects import tiny_classifier, tiny_segmenter

from hf_mner.knowledge import (
    CaptionSimilarity,
    ImageCaptioner,
    ImageClassifier,
    ObjectDetector,
    SegmentationObjects,
    SourceError,
    SourceSetupError,
    add_knowledge,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a classifier and a segmenter."""
    parent = tmp_path_factory.mktemp("models")
    for name, (model, processor) in {"classifier": tiny_classifier(), "segmenter": tiny_segmenter()}.items():
        model.save_pretrained(parent / name)
        processor.save_pretrained(parent / name)
    return parent


def post():
    return [{"id": "1", "tokens": ["a"], "image": picture(1)}]


@pytest.mark.parametrize("kind", [ImageCaptioner, ImageClassifier, ObjectDetector])
@pytest.mark.parametrize("name", ["nope_folder", "org/nope", "a/b/c"])
def test_a_model_that_is_nowhere_is_named(kind, name):
    text = (
        rf"source {kind.__name__} \(.*the model '{name}' is neither a folder here nor in the cache .* Correct the name"
    )
    with pytest.raises(SourceError, match=text):
        add_knowledge(post(), [kind(name)])
    with pytest.raises(SourceError, match=text):
        kind(name)(post())


def test_a_model_of_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="missing' is neither a folder here"):
        add_knowledge(post(), [ImageClassifier(str(tmp_path / "missing"))])


def test_a_revision_that_is_not_there_is_named():
    with pytest.raises(SourceError, match=r"'org/nope' \(revision 'v2'\) is neither a folder"):
        add_knowledge(post(), [ImageClassifier("org/nope", revision="v2")])


@pytest.mark.parametrize("kind", [ImageCaptioner, ObjectDetector, SegmentationObjects])
def test_a_model_of_another_kind_is_refused_in_one_line(kind, folders):
    with pytest.raises(
        ValueError, match="classifier' cannot be loaded: Unrecognized .* Expected a model that"
    ) as error:
        add_knowledge(post(), [kind(str(folders / "classifier"))])
    assert isinstance(error.value, SourceSetupError)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_weights_of_another_task_are_refused(folders):
    """A segmentation model has no classifier: transformers would choose one by chance."""
    text = "segmenter' cannot be loaded: its weights lack 2 parameters of a SegformerForImageClassification, which wou"
    with pytest.raises(ValueError, match=f"{text}.*classifier.bias, classifier.weight. Expected") as error:
        add_knowledge(post(), [ImageClassifier(str(folders / "segmenter"))])
    assert isinstance(error.value, SourceError)
    assert ImageClassifier(str(folders / "classifier"), threshold=0.0)(post())[0]


def test_what_a_source_does_not_read_may_be_missing(tmp_path):
    """Text encoders are published without the pooling layer, which the mean of hidden states leaves aside."""
    from test_similarity import tiny_bert

    model, tokenizer = tiny_bert()
    transformers.BertModel(model.config, add_pooling_layer=False).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    knowledge = {"knowledge": {"caption": "b"}}
    assert CaptionSimilarity(str(tmp_path))([{"tokens": ["a"], **knowledge}])[0] is not None


def test_broken_folders_are_named(folders, tmp_path):
    texts = {
        "empty": "empty' cannot be loaded: Unrecognized model",
        "weights": "weights' cannot be loaded: Error no file named model.safetensors",
        "pointer": "pointer' cannot be loaded: Error while deserializing",
    }
    for name in ("weights", "pointer"):
        shutil.copytree(folders / "classifier", tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights" / "model.safetensors").unlink()
    (tmp_path / "pointer" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    for name, text in texts.items():
        with pytest.raises(SourceSetupError, match=text):
            add_knowledge(post(), [ImageClassifier(str(tmp_path / name))])
