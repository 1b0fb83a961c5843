"""A post with an emoji, a line break, scores and a box."""

from __future__ import annotations

import pytest
from tiny import tiny_image

from hf_mner.interchange import AnnotatedPost


@pytest.fixture
def post() -> AnnotatedPost:
    text = "I 😀 saw Steve Kerr\nin Oakland"
    start = text.index("Steve")
    box = {"box": {"xmin": 1.0, "ymin": 2.0, "xmax": 5.0, "ymax": 8.0}, "score": 0.5}
    kerr = {"entity_group": "PER", "word": "Steve Kerr", "start": start, "end": start + 10, "score": 0.75}
    place = text.index("Oakland")
    oakland = {"entity_group": "LOC", "word": "Oakland", "start": place, "end": place + 7, "score": 0.25, "boxes": []}
    return {
        "id": "kerr",
        "text": text,
        "image": tiny_image(size=(10, 8)),
        "image_size": [10, 8],
        "entities": [{**kerr, "boxes": [box]}, oakland],
    }
