"""Identities of sources: they change with what changes the answers, and no model is loaded for them."""

import json

import pytest

from hf_mner.knowledge import AuxiliaryKnowledge, CaptionSimilarity, ClipSimilarity, ImageCaptioner
from hf_mner.knowledge.model_identity import (
    DIGITS,
    check_revision,
    file_digest,
    folder_digest,
    model_name,
    model_revision,
    prompt_version,
    weights_digest,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def tiny_model(seed=0):
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(seed)
    return transformers.BertModel(config)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the Hub with the main branch of `org/model`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    references = tmp_path / "models--org--model" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text("0123abcd")
    return tmp_path


def test_a_hub_name_has_the_commit_of_the_cache(cache):
    assert model_revision("org/model") == "0123abcd"
    assert model_revision("org/model", "v2") == "v2", "not in the cache, and no network to ask"
    assert model_revision("org/other") == "main"
    assert ClipSimilarity("org/model").identity["revision"] == "0123abcd"


def test_a_folder_changes_with_its_configuration_and_its_weights(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    first = folder_digest(tmp_path)
    assert len(first) == DIGITS
    assert model_revision(str(tmp_path)) == first
    (tmp_path / "README.md").write_text("a new text")
    assert folder_digest(tmp_path) == first, "what nothing reads does not count"

    with torch.no_grad():
        model.pooler.dense.bias += 1  # one small tensor, as where only a head is trained
    model.save_pretrained(tmp_path)
    second = folder_digest(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 8}')
    assert len({first, second, folder_digest(tmp_path)}) == 3


def test_a_folder_elsewhere_is_the_same_model(tmp_path):
    for name in ("one", "two"):
        tiny_model().save_pretrained(tmp_path / name)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    assert model_name(str(tmp_path / "one")) == "one", "the folders above it are of this machine alone"


def test_a_loaded_model_changes_with_any_of_its_tensors():
    assert weights_digest(tiny_model()) == weights_digest(tiny_model()) == model_revision(tiny_model())
    changed = tiny_model()
    with torch.no_grad():
        changed.pooler.dense.bias[0] += 1
    half = tiny_model().to(torch.bfloat16)
    digests = {weights_digest(model) for model in (tiny_model(), tiny_model(seed=1), changed, half)}
    assert len(digests) == 4


def test_names_of_loaded_models(tmp_path):
    model = tiny_model()
    assert model_name(model) == "BertModel"
    model.save_pretrained(tmp_path / "mine")
    assert model_name(transformers.BertModel.from_pretrained(tmp_path / "mine")) == "mine"
    assert model_name("org/model") == "org/model"


def test_prompts_and_files_have_short_digests(tmp_path):
    assert prompt_version(None) == prompt_version("") == ""
    assert len(prompt_version("a photo of")) == DIGITS
    assert prompt_version("a photo of") != prompt_version("a photo")
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    same, equal, other = (file_digest(tmp_path / name) for name in "abc")
    assert same == equal != other


def test_settings_that_change_answers_are_in_the_identity():
    one, other = (ImageCaptioner("no/such-model", max_new_tokens=count).identity for count in (20, 30))
    assert one["settings"] != other["settings"]
    assert json.loads(one["settings"])["max_new_tokens"] == 20
    assert one["source"] == "ImageCaptioner"
    assert (one["model"], one["revision"], one["prompt"]) == ("no/such-model", "main", "")
    assert ImageCaptioner("no/such-model", prompt="a photo of").identity["prompt"]
    assert AuxiliaryKnowledge("no/such-model").identity["prompt"], "its packaged prompt counts too"


def test_batch_size_and_device_do_not_change_the_identity():
    one = ImageCaptioner("no/such-model", batch_size=1, device="cpu").identity
    assert one == ImageCaptioner("no/such-model", batch_size=64).identity


def test_what_the_sources_read():
    assert ImageCaptioner.reads == AuxiliaryKnowledge.reads == ("image",)
    assert ClipSimilarity.reads == ("image", "tokens")
    assert CaptionSimilarity("no/such-model", part="auxiliary").reads == ("tokens", "auxiliary")


def test_a_packaged_model_keeps_its_name():
    assert CaptionSimilarity().identity["model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_no_model_is_loaded_for_an_identity(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    source = CaptionSimilarity(str(tmp_path))
    assert source.identity == CaptionSimilarity(str(tmp_path)).identity
    assert source._model is None


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"`revision='v1'` was given for the folder .*expected a Hub name as `model`"):
        check_revision(str(tmp_path), "v1")
    with pytest.raises(ValueError, match="given for a loaded BertModel.*Leave `revision` out, or give the name"):
        check_revision(tiny_model(), "v1")
    with pytest.raises(ValueError, match="`revision='v1'` was given"):
        ImageCaptioner(str(tmp_path), revision="v1")
