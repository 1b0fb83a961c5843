from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from hf_mner.data import load_rgb_image, read_image_size, remote_images
from hf_mner.data.remote_images import is_public_address


def as_bytes(image, image_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def test_every_source_gives_the_same_image(write_image):
    path = write_image("a.png")
    image = Image.open(path)
    content = path.read_bytes()
    sources = [
        path,
        str(path),
        content,
        image,
        np.asarray(image),
        {"bytes": content, "path": None},
        {"path": str(path)},
    ]
    for source in sources:
        loaded = load_rgb_image(source)
        assert (loaded.mode, loaded.size, loaded.getpixel((0, 0))) == ("RGB", (8, 6), (10, 200, 30)), source


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
    ],
)
def test_modes_become_rgb_on_white(mode, color, expected):
    loaded = load_rgb_image(Image.new(mode, (2, 2), color))
    assert (loaded.mode, loaded.getpixel((1, 1))) == ("RGB", expected)


def test_transparent_palette_becomes_white():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([200, 0, 0] * 256)
    assert load_rgb_image(as_bytes(image, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert load_rgb_image(as_bytes(image)).getpixel((0, 0)) == (200, 0, 0)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    assert load_rgb_image(path).size == (4, 8)
    assert read_image_size(path) == (4, 8)


def test_pixel_limit_is_checked_before_decoding(write_image):
    path = write_image("a.png", size=(10, 11))
    assert load_rgb_image(path, max_pixels=110).size == (10, 11)
    cut = path.read_bytes()[:45]  # the header alone: decoding it would be another error
    for call in (lambda: load_rgb_image(cut, max_pixels=109), lambda: read_image_size(path, max_pixels=109)):
        with pytest.raises(ValueError, match="10 x 11 = 110 pixels, more than the limit `max_pixels`=109; shrink"):
            call()


def test_decompression_bomb_is_a_plain_error(monkeypatch, write_image, recwarn):
    path = write_image("a.png", size=(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="larger than the pixel limit of PIL"):
        load_rgb_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert load_rgb_image(path).size == (20, 20)
    assert not recwarn.list


def test_bytes_that_are_no_image(write_file):
    whole = as_bytes(Image.effect_noise((64, 64), 90), "JPEG")
    for bad in (b"no image", b"", whole[: len(whole) // 2], as_bytes(Image.new("RGB", (9, 9)))[:45]):
        with pytest.raises(ValueError, match="cannot be decoded .*expected a whole image file"):
            load_rgb_image(bad)
    path = write_file("bad.jpg", b"no image")
    for call in (load_rgb_image, read_image_size):
        with pytest.raises(ValueError, match=r"bad\.jpg cannot be decoded"):
            call(path)


def test_sources_that_are_not_understood(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_rgb_image(tmp_path / "none.jpg")
    with pytest.raises(TypeError, match="An image of type int is not understood"):
        load_rgb_image(3)
    with pytest.raises(ValueError, match="holds neither"):
        load_rgb_image({"bytes": None, "path": None})
    for array in (np.zeros((4, 4, 3)), np.zeros((3, 8, 8), "uint8"), np.zeros((0, 4, 3), "uint8")):
        with pytest.raises(ValueError, match="expected uint8 in 0-255"):
            load_rgb_image(array)


def test_urls_are_refused_unless_allowed():
    for url in ("http://example.com/a.jpg", "HTTPS://example.com/a.jpg"):
        with pytest.raises(ValueError, match="is not fetched; pass a file, or `allow_urls=True`"):
            load_rgb_image(url)
        with pytest.raises(ValueError, match="is not fetched"):
            load_rgb_image({"bytes": None, "path": url})


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "2130706433"]
    + ["[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "100.64.0.1"],
)
def test_private_hosts_are_never_fetched(host, monkeypatch):
    monkeypatch.setattr(remote_images.socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(ValueError, match=r"not a public address|cannot be resolved"):
        load_rgb_image(f"http://{host}/a.png", allow_urls=True)


def test_a_host_with_one_private_address_is_refused(monkeypatch):
    answers = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.5", 80))]
    monkeypatch.setattr(remote_images.socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(ValueError, match=r"'two\.example' is at 10\.0\.0\.5, which is not a public address"):
        load_rgb_image("http://two.example/a.png", allow_urls=True)


def test_public_addresses_are_recognised():
    assert is_public_address("93.184.216.34")
    assert is_public_address("2606:2800:220:1::1")
    assert is_public_address("::ffff:93.184.216.34")
    assert not is_public_address("224.0.0.1")


@pytest.fixture
def server():
    content = as_bytes(Image.new("RGB", (3, 2), "blue"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            target = {"/away": "http://10.0.0.1/a.png", "/near": "/a.png", "/loop": "/loop"}.get(self.path)
            self.send_response(302 if target else 200 if self.path == "/a.png" else 404)
            self.send_header("Location" if target else "Content-Type", target or "image/png")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    http_server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http_server.server_port}"
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def test_fetching_and_redirects(server, monkeypatch):
    # The test's own server stands for a public one; every other address keeps the real rule.
    monkeypatch.setattr(remote_images, "is_public_address", lambda ip: ip == "127.0.0.1" or is_public_address(ip))
    assert load_rgb_image(f"{server}/a.png", allow_urls=True).size == (3, 2)
    assert load_rgb_image(f"{server}/near", allow_urls=True).size == (3, 2)
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1' is at 10\.0\.0\.1, which is not a public address"):
        load_rgb_image(f"{server}/away", allow_urls=True)
    with pytest.raises(ValueError, match="redirects more than 3 times"):
        load_rgb_image(f"{server}/loop", allow_urls=True)
    with pytest.raises(ValueError, match="answers 404"):
        load_rgb_image(f"{server}/none", allow_urls=True)
    monkeypatch.setattr(remote_images, "MAX_BYTES", 20)
    with pytest.raises(ValueError, match="more than 20 bytes"):
        load_rgb_image(f"{server}/a.png", allow_urls=True)
