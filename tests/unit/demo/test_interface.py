"""The page as it is built, without a server."""

from __future__ import annotations

import sys

import gradio
import pytest

from hf_mner.demo.interface import (
    ARGUMENTS,
    build_demo,
    describe_missing,
    example_rows,
    introduction,
    refuse_unknown,
    visible_errors,
)
from hf_mner.demo.models import DemoModels
from hf_mner.demo.posts import photograph
from hf_mner.demo.requests import Limits


@pytest.fixture(scope="module")
def demo(scanner_folder):
    return build_demo({"scanner": str(scanner_folder)}, limits=Limits(queue_size=3))


def test_every_field_has_a_label(demo):
    fields = ("textbox", "image", "dropdown", "slider")
    named = [block.label for block in demo.blocks.values() if block.get_block_name() in fields]
    assert len(named) >= 6
    assert all(named)


def test_one_public_endpoint_with_defaults(demo):
    public = demo.get_api_info()["named_endpoints"]
    assert list(public) == ["/recognize"]
    parameters = {one["parameter_name"]: one for one in public["/recognize"]["parameters"]}
    assert list(parameters) == ["text", "image", "caption", "model", "threshold", "knowledge"]
    assert list(parameters) == list(ARGUMENTS)
    assert all(one["parameter_has_default"] for one in parameters.values()), "so that a missing text is our message"
    assert parameters["model"]["parameter_default"] == "scanner"
    assert public["/recognize"]["returns"][0]["type"]["type"] == "array"


def test_requests_wait_in_one_queue_and_nothing_passes_it_by(demo):
    assert demo._queue.max_size == 3
    assert demo.api_open is False
    recognising = [one for one in demo.fns.values() if one.concurrency_id == "recognition"]
    assert len(recognising) == 2
    assert {one.concurrency_limit for one in recognising} == {1}
    assert demo.analytics_enabled is False


def test_the_texts_say_what_cannot_be_seen():
    text = introduction(Limits(file_bytes=2_000_000))
    assert "reads no pixels" in text
    assert "at most 2 MB and 16 megapixels, a text 5,000 characters" in text
    missing = describe_missing(DemoModels())
    assert missing.startswith(
        "No checkpoint was given for MMAVK, HamLearning, MNER-QG, so this demo cannot show them."
    )
    assert "`hf-mner demo --model mmavk=CHECKPOINT`" in missing


def test_examples_are_the_posts_of_the_demo(monkeypatch):
    rows = example_rows()
    assert len(rows) == 3
    assert rows[2][1:] == [photograph(), "a woman in a navy uniform in front of an American flag"]
    monkeypatch.setattr("hf_mner.demo.posts.find_spec", lambda name: None)
    assert [row[1] for row in example_rows()] == [None, None, None], "without matplotlib there is no photograph"


def test_what_a_visitor_can_mend_is_a_message():
    with pytest.raises(gradio.Error) as caught, visible_errors():
        raise ValueError("`model` is '<b>'")
    assert caught.value.message == "`model` is '&lt;b&gt;'"
    assert caught.value.print_exception is False
    with pytest.raises(KeyError), visible_errors():
        raise KeyError("a bug stays one")


def test_a_bug_is_not_taken_for_an_unknown_argument():
    with pytest.raises(TypeError, match="unhashable"):
        refuse_unknown(None, TypeError("unhashable type"))


def test_without_gradio_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mner\[demo\]"'):
        build_demo()
