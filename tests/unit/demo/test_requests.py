"""What a visitor of the demo may send, and what is refused, without a server."""

from __future__ import annotations

import base64
import io

import pytest
from tiny import noisy_image

import hf_mner
from hf_mner.demo.requests import DemoPost, Limits, decoded_size, describe_reading, read_knowledge, read_post

LIMITS = Limits(20, 400, 2000, caption_characters=30, knowledge_characters=200, knowledge_items=3)


def png(size=(8, 8)):
    content = io.BytesIO()
    noisy_image(0, size).save(content, format="PNG")
    return content.getvalue()


def address(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.fixture
def uploads(tmp_path):
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


@pytest.fixture
def read(uploads):
    def run(text="Anna in Rome", image=None, caption=None, knowledge=None):
        return read_post(text, image, caption, knowledge, LIMITS, uploads)

    return run


def test_an_upload_and_an_address_with_the_bytes_are_read(read, uploads):
    (uploads / "a.png").write_bytes(png())
    pixels = noisy_image(0).tobytes()
    for image in ({"path": str(uploads / "a.png")}, {"path": None, "url": address(png())}, address(png())):
        assert read(image=image).image.tobytes() == pixels
    for image in (None, "", {}):
        assert read(image=image).image is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": ""}, "`text` is ''; expected a text with words"),
        ({"text": " \n"}, "expected a text with words"),
        ({"text": None}, "`text` is None; expected"),
        ({"text": ["Anna"]}, "expected a text with words"),
        ({"text": "Anna " * 5}, "`text` has 25 characters; expected at most 20. Shorten it"),
        ({"image": address(png((25, 20)))}, "has 25 x 20 = 500 pixels, more than the limit `max_pixels`=400"),
        ({"image": address(bytes(3000))}, "Image in `image` has 3,000 bytes; expected at most 2,000"),
        ({"image": address(b"no image")}, "cannot be decoded .*; expected a whole image file"),
        ({"image": "data:image/png,abc"}, "`image` cannot be decoded .no `;base64` before the comma."),
        ({"image": "data:image/png;base64,a$c"}, "`image` cannot be decoded"),
        ({"image": "https://example.org/a.png"}, "web addresses are not read: send the file itself"),
        ({"image": "/etc/hostname"}, "Paths and web addresses are not read"),
        ({"image": 3}, "`image` is no image that this demo reads"),
        ({"image": {"path": "/etc/hostname"}}, "`image` is no image that this demo reads"),
        ({"caption": 3}, "`caption` is 3; expected a text"),
        ({"knowledge": "{"}, "`knowledge` is not JSON .*; expected an object"),
        ({"knowledge": "[1]"}, r"`knowledge` is \[1\]; expected an object"),
        ({"caption": "a", "knowledge": {"caption": "b"}}, "give one of them"),
        ({"caption": "a" * 31}, "`caption` has 31 characters; expected at most 30. Send the part that matters"),
        ({"knowledge": "x" * 201}, "`knowledge` has 201 characters; expected at most 200. Send the part"),
        ({"knowledge": {"auxiliary": "x" * 200}}, "`knowledge` has 217 characters; expected at most 200"),
        ({"knowledge": {"objects": [1] * 4}}, r"`knowledge\['objects'\]` has 4 items; expected at most 3. Send those"),
        ({"knowledge": {"sources": [1]}}, r"`knowledge\['sources'\]` is given; .* Leave it out"),
    ],
)
def test_what_is_refused(read, fields, message):
    with pytest.raises(ValueError, match=message):
        read(**fields)


def test_files_outside_of_the_uploads_are_not_read(read, uploads):
    (uploads.parent / "secret.png").write_bytes(png())
    (uploads / "link.png").symlink_to(uploads.parent / "secret.png")
    for path in (uploads.parent / "secret.png", uploads / ".." / "secret.png", uploads / "link.png", uploads):
        with pytest.raises(ValueError, match="is no image that this demo reads"):
            read(image={"path": str(path), "meta": {"_type": "gradio.FileData"}})


def test_a_large_file_is_refused_by_its_own_name(read, uploads):
    (uploads / "a.png").write_bytes(bytes(2001))
    with pytest.raises(ValueError, match="Image holiday.png has 2,001 bytes; expected at most 2,000. Save it smaller"):
        read(image={"path": str(uploads / "a.png"), "orig_name": "holiday.png"})


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4])
def test_the_size_of_an_address_is_known_before_it_is_decoded(size):
    assert decoded_size(address(bytes(size))) == size


def test_an_image_in_memory_is_not_named_by_its_address(read):
    with pytest.raises(ValueError, match="cannot identify image file the image"):
        read(image=address(b"no image"))


def test_json_that_is_too_deep_is_a_message():
    with pytest.raises(ValueError, match="`knowledge` is not JSON"):
        read_knowledge(None, "[" * 49_000)


def test_knowledge_from_both_fields():
    assert read_knowledge(" a man ", '{"auxiliary": "x"}') == {"caption": "a man", "auxiliary": "x"}
    assert read_knowledge("", "  ") is None
    assert read_knowledge(None, {"caption": "a"}) == {"caption": "a"}


def test_the_page_says_what_the_model_reads(scanner_folder):
    pipe = hf_mner.pipeline(model=str(scanner_folder))
    told = "ScannerForMultimodalNer reads caption, encyclopedia, objects, and no pixels."
    picture = noisy_image(0)
    assert describe_reading(pipe, DemoPost("a", None, None)) == told
    assert describe_reading(pipe, DemoPost("a", picture, {"caption": "a"})) == told
    assert describe_reading(pipe, DemoPost("a", picture, None), has_sources=True) == told
    assert describe_reading(pipe, DemoPost("a", picture, None)).startswith(f"{told} This image does not count")
