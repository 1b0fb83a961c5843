"""`pipeline("multimodal-ner")` with a tiny SCANNER of both stages: every kind of input, options, errors, reload."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import GeneratorType

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from tiny import tiny_examples, tiny_image, tiny_mmavk, tiny_mmavk_processor
from torch.utils.data import Dataset as TorchDataset
from transformers import pipeline

import hf_mner

TEXT = "Steve Kerr coaches the Warriors in Oakland"
OTHER = "#Paris is so lovely today!"
LONG = " ".join([TEXT, OTHER] * 12)


@pytest.fixture(scope="module")
def pipe(scanner_folder):
    return pipeline("multimodal-ner", model=str(scanner_folder))


@pytest.fixture(scope="module")
def expected(pipe):
    entities = pipe(TEXT)
    assert len(entities) > 1, "else most tests here would say nothing"
    return entities


def assert_same(one: list[dict], other: list[dict], tolerance: float = 1e-5) -> None:
    """Equal entities; scores may differ by float32 sums of other batch widths (1e-6 measured, a wrong row: 1e-1)."""
    keys = ("entity_group", "word", "start", "end")
    assert [[entity[key] for key in keys] for entity in one] == [[entity[key] for key in keys] for entity in other]
    for left, right in zip(one, other, strict=True):
        assert left["score"] == pytest.approx(right["score"], abs=tolerance)
        assert [item["box"] for item in left["boxes"]] == [item["box"] for item in right["boxes"]]
        for box, other_box in zip(left["boxes"], right["boxes"], strict=True):
            assert box["score"] == pytest.approx(other_box["score"], abs=tolerance)


def check_schema(entities: list[dict], text: str) -> None:
    for entity in entities:
        assert set(entity) == {"entity_group", "score", "word", "start", "end", "boxes"}
        assert text[entity["start"] : entity["end"]] == entity["word"]
        assert 0 <= entity["score"] <= 1
    assert entities == sorted(entities, key=lambda entity: entity["start"])
    json.dumps(entities)


# ------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("text", [TEXT, OTHER, LONG, "  O'Brien\u00a0😀  meets https://t.co/x  "])
def test_offsets_are_those_of_the_text(pipe, text):
    entities = pipe(text)
    check_schema(entities, text)
    assert entities


def test_long_text_is_read_to_its_end(pipe):
    assert len(LONG.split()) > 128, "more than one window"
    assert max(entity["end"] for entity in pipe(LONG)) > len(LONG) - 100


def images(folder) -> dict[str, object]:
    picture = tiny_image()
    picture.save(folder / "picture.png")
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return {
        "path": str(folder / "picture.png"),
        "Path": folder / "picture.png",
        "PIL": picture,
        "bytes": content.getvalue(),
        "numpy": np.asarray(picture),
        "dictionary": {"bytes": content.getvalue(), "path": None},
        "none": None,
    }


@pytest.mark.parametrize("kind", ["path", "Path", "PIL", "bytes", "numpy", "dictionary", "none"])
def test_image_of_every_kind(pipe, expected, kind, tmp_path):
    """A text system reads no pixels, but the image is opened and its size is known."""
    image = images(tmp_path)[kind]
    assert_same(pipe({"text": TEXT, "image": image}), expected)
    assert_same(pipe(text=TEXT, image=image), expected)
    assert_same(pipe(TEXT, image=image), expected)
    example = pipe.preprocess({"text": TEXT, "image": image}).example
    assert example.get("image_size") == (None if kind == "none" else [8, 8])


def test_batch_of_posts_with_and_without_image(pipe, expected, tmp_path):
    posts = [{"text": TEXT, "image": image} for image in images(tmp_path).values()] + [{"text": OTHER}, TEXT]
    found = pipe(posts, batch_size=4)
    assert len(found) == len(posts)
    for post, entities in zip(posts, found, strict=True):
        assert_same(entities, pipe(OTHER) if post == {"text": OTHER} else expected)


@pytest.mark.parametrize("container", [list, tuple], ids=["list", "tuple"])
def test_many_posts_give_as_many_lists(pipe, expected, container):
    found = pipe(container([TEXT, OTHER, TEXT]))
    assert isinstance(found, list)
    assert_same(found[0], expected)
    assert_same(found[1], pipe(OTHER))
    assert_same(found[2], expected)


def test_text_and_image_keywords(pipe, expected):
    found = pipe(text=[TEXT, OTHER], image=[tiny_image(), None])
    assert_same(found[0], expected)
    assert_same(found[1], pipe(OTHER))
    assert len(pipe(text=[TEXT, OTHER])) == 2


@pytest.mark.parametrize("batch_size", [1, 2])
def test_generator_is_read_lazily(pipe, expected, batch_size):
    asked = []

    def posts():
        for number in range(1000):
            asked.append(number)
            yield TEXT

    found = pipe(posts(), batch_size=batch_size)
    assert not isinstance(found, list)
    assert_same(next(iter(found)), expected)
    assert len(asked) <= 3 * batch_size


def test_texts_of_a_list_share_batches_by_length(pipe):
    """Long and short texts come by turns; each pair that the encoder reads is of one length."""
    padding = []
    hook = pipe.model.span_detection.text_model.register_forward_pre_hook(
        lambda _, __, kwargs: padding.append(int((kwargs["attention_mask"] == 0).sum())), with_kwargs=True
    )
    try:
        found = pipe([TEXT, f"{TEXT} {OTHER}"] * 4, batch_size=2)
    finally:
        hook.remove()
    assert len(found) == 8
    assert padding == [0] * 4


def test_images_are_not_read_far_ahead(pipe):
    opened = []

    def post(number: int) -> dict:
        opened.append(number)
        return {"text": TEXT, "image": tiny_image()}

    class Posts(TorchDataset):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> dict:
            return post(index)

    next(iter(pipe(Posts(), batch_size=2)))
    assert opened == [0, 1]


def test_what_comes_before_a_bad_post_of_a_data_set_is_given(pipe, expected):
    found = iter(pipe(Dataset.from_dict({"text": [TEXT, TEXT, TEXT, None]}), batch_size=2))
    assert_same(next(found), expected)
    assert_same(next(found), expected)
    with pytest.raises(ValueError, match=r"Post number 3 \(counted from 0\): .* no text"):
        next(found)


def test_splits_of_a_data_set_are_not_read_as_posts(pipe):
    with pytest.raises(ValueError, match="has the splits train, test; pass one of them"):
        pipe(DatasetDict({name: Dataset.from_dict({"text": [TEXT]}) for name in ("train", "test")}))


def test_generator_gives_all(pipe):
    texts = [TEXT, OTHER, "", TEXT]
    found = list(pipe((text for text in texts), batch_size=3))
    assert len(found) == 4
    for text, entities in zip(texts, found, strict=True):
        assert_same(entities, pipe(text))


def test_data_set(pipe, expected):
    dataset = Dataset.from_dict({"text": [TEXT, OTHER], "unread": [1, 2]})
    found = pipe(dataset)
    assert isinstance(found, GeneratorType)
    found = list(found)
    assert_same(found[0], expected)
    assert_same(found[1], pipe(OTHER))
    words = Dataset.from_dict({"tokens": [TEXT.split()]})
    assert_same(next(iter(pipe(words))), expected)


@pytest.mark.parametrize("empty", ["", "   ", "\u00a0\n", {"tokens": []}, {"tokens": [" ", ""]}, {"text": ""}])
def test_text_without_words_has_no_entities(pipe, expected, empty):
    assert pipe(empty) == []
    found = pipe([TEXT, empty, TEXT], batch_size=3)
    assert found[1] == []
    assert_same(found[2], expected)


def test_no_posts(pipe):
    assert pipe([]) == []
    assert pipe(()) == []
    assert list(pipe(text for text in [])) == []


def test_words(pipe, expected):
    tokens = TEXT.split()
    assert_same(pipe({"tokens": tokens}), expected)
    assert_same(pipe(tokens, is_split_into_words=True), expected)
    assert_same(pipe(tuple(tokens), is_split_into_words=True), expected)
    assert_same(pipe([tokens, tokens], is_split_into_words=True)[1], expected)
    assert_same(pipe({"text": tokens, "image": None}, is_split_into_words=True), expected)
    assert len(pipe(tokens)) == len(tokens), "without it, every word is a text of its own"


def test_offsets_of_words_count_in_the_joined_words(pipe):
    tokens = ["New  York", "", "Kerr", "😀", "O'Brien", "\u00a0", "in", "Oakland"]
    check_schema(pipe({"tokens": tokens}), " ".join(tokens))


# ------------------------------------------------------------------------------------------------------------ options


def posts() -> list[dict]:
    return [{"tokens": example["tokens"], "knowledge": example["knowledge"]} for example in tiny_examples()] * 2


def test_batch_size_changes_nothing(pipe):
    one, many = pipe(posts(), batch_size=1), pipe([*posts(), LONG], batch_size=32)
    assert sum(map(len, one)) > 10
    assert any(entity["boxes"] for entities in one for entity in entities)
    for left, right in zip([*one, pipe(LONG)], many, strict=True):
        assert_same(left, right)


def test_threshold(pipe):
    everything = [entity for entities in pipe(posts()) for entity in entities]
    scores = sorted(entity["score"] for entity in everything)
    middle = scores[len(scores) // 2]
    kept = [entity for entities in pipe(posts(), threshold=middle) for entity in entities]
    assert kept == [entity for entity in everything if entity["score"] >= middle]
    assert 0 < len(kept) < len(everything)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_threshold_outside_its_range_is_refused(pipe, threshold):
    with pytest.raises(ValueError, match=f"`threshold` must be between 0 and 1, got {threshold}"):
        pipe(TEXT, threshold=threshold)


@pytest.mark.parametrize("threshold", ["0.5", True])
def test_threshold_that_is_no_number_is_refused(pipe, threshold):
    with pytest.raises(ValueError, match=f"`threshold` must be between 0 and 1, got {threshold!r}"):
        pipe(TEXT, threshold=threshold)


@pytest.mark.parametrize(
    ("post", "name"),
    [
        ("Anna \ud800", "The text"),
        ({"tokens": ["Anna", "\udc00"]}, "The text"),
        ({"text": TEXT, "knowledge": {"auxiliary": "Anna \ud800"}}, r"`knowledge\['auxiliary'\]`"),
        ({"text": TEXT, "knowledge": {"encyclopedia": [{"mention": "a", "text": "Anna \ud800"}]}}, "`knowledge"),
    ],
)
def test_half_a_character_is_refused(pipe, post, name):
    with pytest.raises(ValueError, match=rf"{name}.* has '\\ud.00' at character 5, half of a character; expected"):
        pipe(post)


def test_unknown_keyword_is_refused(pipe):
    with pytest.raises(TypeError, match="treshold"):
        pipe(TEXT, treshold=0.5)


def test_boxes_are_those_of_the_given_objects(pipe):
    example = tiny_examples()[0]
    entities = pipe({"tokens": example["tokens"], "knowledge": example["knowledge"]})
    boxes = [list(item["box"].values()) for entity in entities for item in entity["boxes"]]
    assert boxes
    assert all(box in [item["box"] for item in example["knowledge"]["objects"]] for box in boxes)
    assert all(list(item["box"]) == ["xmin", "ymin", "xmax", "ymax"] for e in entities for item in e["boxes"])


def test_knowledge_is_returned_when_asked_for(pipe):
    post = posts()[0]
    entities = pipe(post, return_knowledge=True)
    assert entities
    for entity in entities:
        assert entity["knowledge"]["caption"] == post["knowledge"]["caption"]
        assert [item["label"] for item in entity["knowledge"]["objects"]] == ["person", "cup", "ball"]
    assert all("knowledge" not in entity for entity in pipe(post))
    assert all(entity["knowledge"] == {} for entity in pipe(TEXT, return_knowledge=True))


class Captions:
    """A knowledge source that remembers what it was asked."""

    column, needs_entities = "caption", False

    def __init__(self):
        self.asked: list[str] = []

    def __call__(self, examples):
        self.asked += [" ".join(example["tokens"]) for example in examples]
        return [f"a picture of {example['tokens'][0]}" for example in examples]


class Facts:
    """A source that looks up the candidates of stage 1."""

    column, needs_entities = "encyclopedia", True

    def __call__(self, examples):
        spans = [[" ".join(e["tokens"][s["start"] : s["end"]]) for s in e["entities"]] for e in examples]
        return [[{"mention": name, "title": name, "text": f"{name} is known"} for name in names] for names in spans]


def test_knowledge_source_is_asked_and_shown(pipe):
    source = Captions()
    found = pipe([TEXT, {"text": OTHER, "knowledge": {"caption": "mine"}}], knowledge=source, return_knowledge=True)
    assert source.asked == [TEXT], "not for what the input brings along"
    assert {entity["knowledge"]["caption"] for entity in found[0]} == {"a picture of Steve"}
    assert {entity["knowledge"]["caption"] for entity in found[1]} == {"mine"}


def test_several_knowledge_sources(pipe):
    entities = pipe(TEXT, knowledge=[Captions(), Facts()], return_knowledge=True)
    assert entities
    for entity in entities:
        assert entity["knowledge"]["encyclopedia"] == f"{entity['word']} is known"
        assert entity["knowledge"]["caption"] == "a picture of Steve"


def test_shown_knowledge_says_where_it_is_from(pipe):
    class Named(Captions):
        identity = {"source": "Named", "model": "m", "revision": "1", "prompt": "", "settings": "{}"}

    encyclopedia = hf_mner.Encyclopedia.from_records(
        [{"title": name, "description": f"{name} is known.", "source": "wiki"} for name in TEXT.split()],
    )
    entities = pipe(TEXT, knowledge=[Named(), encyclopedia], return_knowledge=True)
    notes = {note["part"]: note for entity in entities for note in entity["knowledge"]["sources"]}
    assert notes["caption"] == {"part": "caption", "source": "Named", "model": "m", "revision": "1", "prompt": ""}
    looked_up = notes["encyclopedia"]
    assert (looked_up["source"], looked_up["rule"], looked_up["record"]) == ("Encyclopedia", "exact", "wiki")
    assert looked_up["revision"] == encyclopedia.identity["revision"]
    assert looked_up["title"] in TEXT.split()
    unnamed = pipe({"text": TEXT, "knowledge": {"caption": "mine"}}, return_knowledge=True)
    assert all(entity["knowledge"]["sources"] == [] for entity in unnamed)


def test_the_article_of_a_mention_with_signs_is_named(pipe):
    class Everything(Facts):
        identity = {"source": "Facts", "model": "", "revision": "", "prompt": "", "settings": "{}"}

        def __call__(self, examples):
            return [[{**entry, "rule": "exact"} for entry in entries] for entries in super().__call__(examples)]

    found = pipe("The fans of St. Louis , Steve  Kerr, and Oakland!", knowledge=Everything(), return_knowledge=True)
    assert found
    for entity in found:
        (note,) = entity["knowledge"]["sources"]
        assert note["rule"] == "exact", entity["word"]


def test_a_source_that_nothing_reads_is_not_asked(pipe):
    class Writing(Captions):
        column = "ocr"

    class FromWriting(Captions):
        reads = ("ocr",)

        def __call__(self, examples):
            return [example["knowledge"]["ocr"] for example in examples]

    idle, used = Writing(), Writing()
    pipe(TEXT, knowledge=[Captions(), idle])
    assert idle.asked == []
    (first, *_) = pipe(TEXT, knowledge=[used, FromWriting()], return_knowledge=True)
    assert used.asked == [TEXT]
    assert first["knowledge"]["caption"] == "a picture of Steve"


def test_knowledge_of_all_posts(pipe):
    found = pipe([TEXT, {"text": OTHER, "knowledge": {"caption": "mine"}}], knowledge={"caption": "ours"})
    assert len(found) == 2
    found = pipe([TEXT, OTHER], knowledge={"caption": "ours"}, return_knowledge=True)
    assert {entity["knowledge"]["caption"] for entities in found for entity in entities} == {"ours"}


def test_what_is_no_knowledge_source_is_refused(pipe):
    with pytest.raises(ValueError, match="`knowledge`: 'captions' is no knowledge source; .* `hf_mner.open_sources"):
        pipe(TEXT, knowledge=["captions"])


@pytest.mark.parametrize("as_list", [True, False])
def test_the_class_of_a_source_is_refused(pipe, as_list):
    with pytest.raises(
        ValueError, match=r"`knowledge`: <class '.*ClipSimilarity'> is no knowledge source; expected an object"
    ):
        pipe(TEXT, knowledge=[hf_mner.ClipSimilarity] if as_list else hf_mner.ClipSimilarity)


def test_knowledge_source_given_at_the_start(scanner_folder):
    source = Captions()
    pipeline("multimodal-ner", model=str(scanner_folder), knowledge=source)(TEXT)
    assert source.asked == [TEXT]


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("post", "error", "message"),
    [
        ({"image": None}, ValueError, r"keys \['image'\] but no text; give it `text` \(a string\) or `tokens`"),
        ({"text": None}, ValueError, "but no text; give it `text`"),
        ({"tokens": "Steve Kerr"}, ValueError, "but no text; give it `text`"),
        ({"tokens": [1, 2]}, ValueError, "but no text; give it `text`"),
        (5, ValueError, "Cannot read an input of type int; pass a text"),
        ([None], ValueError, "Cannot read an input of type NoneType"),
        ({"text": "a", "image": b"no image"}, ValueError, "the given 8 bytes cannot be decoded.*Replace it"),
        ({"text": "a", "image": "absent.png"}, FileNotFoundError, "absent.png"),
        ({"text": "a", "image": "https://example.org/a.png"}, ValueError, "is not fetched; pass a file"),
        ({"text": "a", "image": 5}, TypeError, "image of type int is not understood"),
        ({"text": "a", "knowledge": "a man"}, ValueError, "`knowledge` is a str; expected a mapping"),
        ({"text": "a", "knowledge": {"captions": ""}}, ValueError, r"parts that nothing reads: \['captions'\]"),
        ({"text": "a", "knowledge": {"caption": 5}}, ValueError, r"`knowledge\['caption'\]` is 5; expected a text"),
        ({"text": "a", "knowledge": {"objects": [{"box": [0, 0, 1, 1]}]}}, ValueError, "expected a `label`"),
        ({"text": "a", "knowledge": {"objects": [{"label": "cup", "box": [3, 0, 1, 1]}]}}, ValueError, "Object 'cup'"),
    ],
)
def test_bad_post_is_refused(pipe, post, error, message):
    with pytest.raises(error, match=message):
        pipe(post)


def test_image_with_too_many_pixels_is_refused(pipe):
    with pytest.raises(ValueError, match="8 x 8 = 64 pixels, more than the limit `max_pixels`=63; shrink it"):
        pipe({"text": TEXT, "image": tiny_image()}, max_pixels=63)
    assert pipe({"text": TEXT, "image": tiny_image()}, max_pixels=64)


@pytest.mark.parametrize("address", ["http://127.0.0.1/a.png", "http://[::1]/a.png", "http://10.0.0.1/a.png"])
def test_private_address_is_refused_even_when_addresses_are_allowed(pipe, address):
    with pytest.raises(ValueError, match="is not a public address; only public hosts are fetched"):
        pipe({"text": TEXT, "image": address}, allow_urls=True)


def test_text_and_posts_together_are_refused(pipe):
    with pytest.raises(ValueError, match="either the posts themselves or `text=`"):
        pipe(TEXT, text=TEXT)
    with pytest.raises(ValueError, match="either the posts themselves or `text=`"):
        pipe()


def test_texts_and_images_must_be_as_many(pipe):
    with pytest.raises(ValueError, match="Got 2 texts and 1 images; pass as many, with `None` for no image"):
        pipe(text=[TEXT, OTHER], image=[None])


# ------------------------------------------------------------------------------------------- a saved pipeline


def test_saved_pipeline_gives_the_same(scanner_folder, tmp_path):
    pipe = hf_mner.pipeline(model=str(scanner_folder))
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert str(hf_mner.__file__.rpartition("/")[0]) not in (tmp_path / "config.json").read_text()
    again = hf_mner.pipeline(model=str(tmp_path))
    assert type(again) is type(pipe) is hf_mner.MultimodalNerPipeline
    assert again(posts(), return_knowledge=True) == pipe(posts(), return_knowledge=True)


def test_pipeline_of_a_model_in_memory(pipe, expected):
    built = hf_mner.MultimodalNerPipeline(model=pipe.model, processor=pipe.processor)
    assert built(TEXT) == expected


def run_python(code: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_cheap_and_still_registers():
    code = """
import sys, hf_mner
heavy = {"torch", "datasets", "numpy", "PIL", "transformers.modeling_utils", "transformers.pipelines"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("transformers.models.")]
from transformers import AutoConfig
print(type(AutoConfig.for_model("scanner")).__name__)
"""
    assert run_python(code) == "ScannerConfig"


def test_import_after_transformers_registers_too():
    code = """
import transformers
from transformers import AutoConfig, AutoModelForTokenClassification, pipelines
import hf_mner
print(type(AutoConfig.for_model("scanner")).__name__)
print("multimodal-ner" in pipelines.PIPELINE_REGISTRY.get_supported_tasks())
print(hf_mner.ScannerConfig in AutoModelForTokenClassification._model_mapping)
"""
    assert run_python(code).split() == ["ScannerConfig", "True", "True"]


# ------------------------------------------------------------------------------- knowledge given, images not read


def test_a_mapping_is_the_knowledge_of_every_post_without_its_own(pipe):
    own = {"text": TEXT, "knowledge": {"caption": "a cup"}}
    first, second = pipe([TEXT, own], knowledge={"caption": "a tower"}, return_knowledge=True)
    assert {entity["knowledge"]["caption"] for entity in first} == {"a tower"}
    assert {entity["knowledge"]["caption"] for entity in second} == {"a cup"}


@pytest.mark.parametrize("knowledge", [{}, {"caption": "a man"}])
def test_an_image_that_nothing_reads_is_reported(pipe, knowledge, monkeypatch):
    said = []
    monkeypatch.setattr("hf_mner.pipelines.multimodal_ner.logger.warning_once", said.append)
    pipe({"text": TEXT, "image": tiny_image(), "knowledge": knowledge or None})
    assert len(said) == (0 if knowledge else 1)
    assert all("this image does not count. Pass a source such as `knowledge=ImageCaptioner(...)`" in t for t in said)


def test_knowledge_that_the_model_does_not_read_is_reported(tmp_path, monkeypatch):
    tiny_mmavk().save_pretrained(tmp_path)
    tiny_mmavk_processor(knowledge=["auxiliary"]).save_pretrained(tmp_path)
    said = []
    monkeypatch.setattr("hf_mner.pipelines.multimodal_ner.logger.warning_once", said.append)
    recognize = hf_mner.pipeline("multimodal-ner", model=str(tmp_path))
    recognize({"text": TEXT, "knowledge": {"auxiliary": "a man", "caption": None}})
    assert not said
    recognize({"text": TEXT, "knowledge": {"caption": "a man"}})
    assert len(said) == 1
    assert "has caption; MmavkForTokenClassification reads `auxiliary`, `similarity`, so it does not count" in said[0]


@pytest.mark.parametrize(("key", "meant"), [("imgae", "image"), ("images", "image"), ("texts", "text")])
def test_a_key_that_is_almost_read_is_refused(pipe, key, meant):
    with pytest.raises(ValueError, match=f"has the key '{key}', which nothing reads; did you mean '{meant}'"):
        pipe({"text": TEXT, key: None})


def test_columns_of_a_data_set_pass(pipe, expected):
    assert_same(pipe({"text": TEXT, "image_id": 5, "text_id": 3, "label": 0, "ner_tags": []}), expected)


def test_text_and_tokens_together_are_refused(pipe):
    with pytest.raises(ValueError, match="has both `text` and `tokens`; give the one"):
        pipe({"text": TEXT, "tokens": TEXT.split()})


def test_the_error_of_one_post_among_many_says_which(pipe):
    with pytest.raises(ValueError, match=r"Post number 2 \(counted from 0\): .* no text"):
        pipe([TEXT, TEXT, {"image": None}], batch_size=2)


def test_a_path_is_no_knowledge_source(pipe):
    with pytest.raises(ValueError, match=r"`knowledge`: 'entities.jsonl' is no knowledge source; expected"):
        pipe(TEXT, knowledge="entities.jsonl")
