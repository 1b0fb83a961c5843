"""The endpoint `/recognize` of a running demo: the pipeline's entities, messages for what is refused, a full queue."""

from __future__ import annotations

import base64
import io
import json
import threading
import urllib.error
import urllib.request

import pytest
from demo_server import LIMITS, serve_demo
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from tiny import noisy_image

import hf_mner

TEXT = "Steve Kerr coaches the Warriors in Oakland"


@pytest.fixture(scope="module")
def server(scanner_folder, tmp_path_factory):
    with serve_demo(scanner_folder, tmp_path_factory.mktemp("grounded")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return Client(server.url, verbose=False, analytics_enabled=False)


@pytest.fixture
def ask(client):
    def run(text=TEXT, **fields):
        return client.predict(text=text, api_name="/recognize", **fields)

    return run


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "a.png"
    noisy_image(0, (64, 48)).save(path)
    return path


def post_json(url, data):
    request = urllib.request.Request(url, json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def ask_by_http(server, data):
    """Ask as curl does: one request that waits in the queue, and one for the answer, a stream of events."""
    route = f"{server.url}/gradio_api/call/recognize"
    event = post_json(route, {"data": data})["event_id"]
    with urllib.request.urlopen(f"{route}/{event}", timeout=60) as reply:
        kind, answer = reply.read().decode().strip().splitlines()[-2:]
    return kind.removeprefix("event: "), json.loads(answer.removeprefix("data: "))


def plain(value):
    return json.loads(json.dumps(value))


def test_entities_are_those_of_the_pipeline(server, ask):
    expected = plain(hf_mner.pipeline(model=server.models["scanner"])(TEXT, return_knowledge=True))
    assert expected
    assert ask() == expected
    assert ask_by_http(server, [TEXT, None, None, "scanner", 0.0, None]) == ("complete", [expected])


def test_caption_and_knowledge_are_shown_to_the_model(server, ask):
    knowledge = {"encyclopedia": [{"mention": "Warriors", "title": "Warriors", "text": "The Warriors are a team"}]}
    pipe = hf_mner.pipeline(model=server.models["scanner"])
    post = {"text": TEXT, "knowledge": {"caption": "a man", **knowledge}}
    expected = plain(pipe(post, return_knowledge=True, threshold=0.2))
    assert any("a man" in json.dumps(entity["knowledge"]) for entity in expected)
    assert ask(caption="a man", knowledge=knowledge, threshold=0.2) == expected


def test_an_image_is_uploaded_or_sent_along(server, ask, picture):
    pipe = hf_mner.pipeline(model=server.models["grounded"])
    expected = plain(pipe({"text": TEXT, "image": str(picture)}, return_knowledge=True))
    assert any(entity["boxes"] for entity in expected)
    assert ask(image=handle_file(str(picture)), model="grounded") == expected
    address = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    assert ask_by_http(server, [TEXT, address, None, "grounded", 0, None]) == ("complete", [expected])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": " "}, "`text` is ' '; expected a text with words"),
        ({"text": "a " * 101}, "`text` has 202 characters; expected at most 200"),
        ({"model": "mmavk"}, "a system that has no checkpoint here; choose one of scanner, grounded"),
        ({"model": "nothing"}, "which this demo does not have; choose one of scanner, grounded"),
        ({"threshold": 2}, "`threshold` must be between 0 and 1, got 2"),
        ({"threshold": True}, "`threshold` must be between 0 and 1, got True"),
        ({"text": None}, "`text` is None; expected a text with words"),
        ({"caption": "a" * 5001}, "`caption` has 5,001 characters; expected at most 5,000"),
        ({"model": ["x"]}, "`model` is .'x'.; expected a name. Choose one of scanner, grounded"),
        ({"knowledge": {"captoin": "a"}}, "parts that nothing reads: .'captoin'."),
        ({"image": "https://example.org/a.png"}, "web addresses are not read"),
    ],
)
def test_what_is_refused_is_a_message(ask, fields, message):
    with pytest.raises(AppError, match=message):
        ask(**fields)


def test_missing_and_unknown_arguments_by_name(server):
    route = f"{server.url}/gradio_api/call"
    event = post_json(f"{route}/v2/recognize", {"caption": "a man"})["event_id"]
    with urllib.request.urlopen(f"{route}/recognize/{event}", timeout=60) as reply:
        answer = reply.read().decode()
    assert "event: error" in answer
    assert "`text` is None; expected a text with words" in answer
    with pytest.raises(urllib.error.HTTPError) as caught:
        post_json(f"{route}/v2/recognize", {"text": TEXT, "captoin": "a man"})
    assert caught.value.code == 422
    expected = "`captoin` is no argument of /recognize; expected text, image, caption, model, threshold, knowledge."
    assert json.load(caught.value) == {"error": f"{expected} Correct its name."}


@pytest.mark.parametrize("place", [0, 2])
def test_half_a_character_is_a_message(server, place):
    data = [TEXT, None, None, "scanner", 0, None]
    data[place] = "Anna \ud800"
    kind, answer = ask_by_http(server, data)
    assert kind == "error"
    name = {0: "The text", 2: "`knowledge['caption']`"}[place]
    assert answer["error"].startswith(f"{name} has '\\ud800' at character 5, half of a character; expected")


def test_images_that_are_too_large_or_no_images_are_a_message(server, ask, tmp_path):
    noisy_image(0).resize((200, 60)).save(tmp_path / "wide.png")
    with pytest.raises(AppError, match="Image wide.png has 200 x 60 = 12,000 pixels, more than the limit"):
        ask(image=handle_file(str(tmp_path / "wide.png")))
    (tmp_path / "text.png").write_bytes(b"no image")
    with pytest.raises(AppError, match="Image text.png cannot be decoded"):
        ask(image=handle_file(str(tmp_path / "text.png")))
    content = base64.b64encode(bytes(LIMITS.file_bytes + 1)).decode()
    kind, answer = ask_by_http(server, [TEXT, f"data:image/png;base64,{content}", None, "scanner", 0, None])
    assert kind == "error"
    assert "has 40,001 bytes; expected at most 40,000" in answer["error"]


def test_an_upload_that_is_too_large_is_refused_where_it_arrives(server, ask, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(LIMITS.file_bytes + 1))
    with pytest.raises(ValueError, match="exceeds the maximum file size of 40000 bytes"):  # the client asks before
        ask(image=handle_file(str(tmp_path / "large.png")))
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.png"\r\n\r\n'
    body = head + (tmp_path / "large.png").read_bytes() + b"\r\n--x--\r\n"
    upload = urllib.request.Request(
        f"{server.url}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(upload, timeout=60)
    assert caught.value.code == 413
    assert b"maximum allowed size of 40000 bytes" in caught.value.read()


def test_files_of_the_server_are_not_read(server, picture):
    for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
        kind, answer = ask_by_http(server, [TEXT, {"path": str(picture), **meta}, None, "scanner", 0, None])
        assert kind == "error"
        assert "Kerr" not in json.dumps(answer)


def test_nothing_passes_the_queue_by(server):
    with pytest.raises(urllib.error.HTTPError) as caught:
        post_json(f"{server.url}/gradio_api/api/recognize", {"data": [TEXT, None, None, "scanner", 0, None]})
    assert caught.value.code == 404


def test_a_full_queue_answers_with_an_error(server, monkeypatch):
    """One request is at work and four wait; the sixth and all others are told so at once."""
    hold = threading.Event()
    real = hf_mner.demo.interface.find_entities
    monkeypatch.setattr(hf_mner.demo.interface, "find_entities", lambda *given: hold.wait(30) and real(*given))
    route = f"{server.url}/gradio_api/call/recognize"
    data = {"data": [TEXT, None, None, "scanner", 0, None]}
    events, refused = [], []
    try:
        events.append(post_json(route, data)["event_id"])
        threading.Event().wait(1)  # until it is at work and leaves the queue
        for _ in range(LIMITS.queue_size + 2):
            try:
                events.append(post_json(route, data)["event_id"])
            except urllib.error.HTTPError as error:
                refused.append((error.code, json.load(error)["detail"]))
    finally:
        hold.set()
    assert refused == [(503, "Queue is full. Max size is 4 and size is 4.")] * 2
    for event in events:
        with urllib.request.urlopen(f"{route}/{event}", timeout=60) as reply:
            assert b"event: complete" in reply.read()


def test_the_page_comes_from_the_server_alone(server):
    with urllib.request.urlopen(server.url, timeout=60) as reply:
        page = reply.read().decode()
    assert "fonts.googleapis.com/css" not in page
    assert server.demo.share is False
    assert io.StringIO(page).read(15).lower() == "<!doctype html>"
