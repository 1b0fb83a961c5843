"""Posts made at random, with all that makes characters hard to count."""

from __future__ import annotations

import random

from tiny import tiny_image

from hf_mner.data.alignment import split_words
from hf_mner.interchange import AnnotatedPost

WORDS = [
    "Steve",
    "Kerr",
    "#NBA",
    "O'Brien",
    "U.S.",
    "😀",
    "👩‍👩‍👧",
    "🇩🇪",
    "Zürich",
    "e\u0301",
    "𝔘nicode",
    "小米",
    "!",
    "a",
]
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\n\n "]
TYPES = ["PER", "LOC", "ORG", "A & B"]


def random_posts(seed: int, count: int = 30, is_flat: bool = True, is_scored: bool = True) -> list[AnnotatedPost]:
    """Posts whose entities begin and end with words; every second one has an image of 80 x 60 pixels."""
    draw = random.Random(seed)
    return [random_post(draw, number, is_flat, is_scored) for number in range(count)]


def random_post(draw: random.Random, number: int, is_flat: bool, is_scored: bool) -> AnnotatedPost:
    text = "".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(draw.randint(1, 12)))
    words = split_words(text)
    post: AnnotatedPost = {"id": f"post-{number}", "text": text}
    if number % 2:
        post["image"] = tiny_image(size=(80, 60))
        post["image_size"] = [80, 60]
    post["entities"] = []
    place = 0
    while place < len(words):
        stop = min(place + draw.randint(1, 3), len(words))
        if draw.random() < 0.4:
            start, end = words[place].start, words[stop - 1].end
            entity = {"entity_group": draw.choice(TYPES), "word": text[start:end], "start": start, "end": end}
            entity["boxes"] = [random_box(draw, is_scored) for _ in range(draw.randint(0, 2) if number % 2 else 0)]
            post["entities"].append(entity | ({"score": draw.random()} if is_scored else {}))
        place = stop if is_flat else place + 1
    return post


def random_box(draw: random.Random, is_scored: bool) -> dict:
    xmin, ymin = draw.uniform(0, 40), draw.uniform(0, 30)
    edges = [xmin, ymin, xmin + draw.uniform(1, 40), ymin + draw.uniform(1, 30)]
    box = {"box": {name: round(edge, 3) for name, edge in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)}}
    return box | ({"score": draw.random()} if is_scored else {})


def without_image(post: AnnotatedPost) -> AnnotatedPost:
    return {key: value for key, value in post.items() if key != "image"}
