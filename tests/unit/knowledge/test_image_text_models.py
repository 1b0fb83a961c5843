"""Images of examples in every form that a user may hold them, and the errors of those that cannot be read."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_mner.data.images import DEFAULT_MAX_PIXELS
from hf_mner.knowledge.image_text_models import once_per_image, rgb_image


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (4, 3), "red").save(path)
    return path


def test_an_image_may_come_in_any_form(path):
    image = Image.open(path)
    buffer = io.BytesIO(path.read_bytes())
    forms = [str(path), path, buffer.getvalue(), image, np.asarray(image), {"bytes": None, "path": str(path)}]
    assert {rgb_image({"id": "1", "image": form}).tobytes() for form in forms} == {image.tobytes()}
    answers = once_per_image([{"image": form} for form in forms], 8, lambda images: [len(images)] * len(images))
    assert answers == [1] * len(forms), "the same pixels are asked about once"


@pytest.mark.parametrize("form", [str, Path, lambda path: {"path": str(path)}])
def test_a_missing_file_is_named_with_its_example(form, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^Example '7': its image .*absent.jpg.* does not exist; correct the"):
        rgb_image({"id": "7", "image": form(tmp_path / "absent.jpg")})
    with pytest.raises(FileNotFoundError, match=r"^Example 'a man' \(without id\): its image"):
        rgb_image({"tokens": ["a", "man"], "image": form(tmp_path / "absent.jpg")})


def test_what_cannot_be_read_is_named_with_its_example(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"^Example '7': Image .*text.jpg cannot be decoded"):
        rgb_image({"id": "7", "image": tmp_path / "text.jpg"})
    with pytest.raises(OSError, match=r"^Example '7': its image cannot be read \(.*Is a directory"):
        rgb_image({"id": "7", "image": tmp_path})
    with pytest.raises(ValueError, match=r"^Example '7' has an image of type int; give a path, a PIL image"):
        rgb_image({"id": "7", "image": 3})


@pytest.mark.parametrize("form", [str, lambda address: {"path": address, "bytes": None}])
def test_nothing_is_fetched(form):
    with pytest.raises(
        ValueError, match="Example '7' has the address 'http://127.0.0.1:9/a.jpg' as image; sources fetch"
    ):
        rgb_image({"id": "7", "image": form("http://127.0.0.1:9/a.jpg")})


def test_huge_files_are_refused(tmp_path):
    side = int(DEFAULT_MAX_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "huge.png")
    with pytest.raises(ValueError, match=r"^Example '7': .*more than the limit"):
        rgb_image({"id": "7", "image": str(tmp_path / "huge.png")})
