"""A planted signal: names whose type only the image (`prefix`) or its description (the other fusions) tells."""

from __future__ import annotations

import random

import pytest
import torch
from tiny import tiny_image, tiny_mmavk_config, tiny_mmavk_processor

from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.mmavk.modeling_mmavk import MmavkForTokenClassification

NAMES = ("Anna", "Rome", "Adidas", "Kerr", "Oakland", "Berlin")
COLORS = {"PER": (220, 30, 30), "LOC": (30, 30, 220)}
SAYS = {"PER": "a man on a court", "LOC": "a tower at night"}


def planted(count: int, seed: int) -> list[dict]:
    """Posts such as "I am so Rome today": nothing in the words tells a person from a place."""
    generator = random.Random(seed)
    posts = []
    for number in range(count):
        kind = generator.choice(("PER", "LOC"))
        words = ["I", "am", generator.choice(NAMES), "today"]
        shade = tuple(min(255, max(0, value + generator.randint(-25, 25))) for value in COLORS[kind])
        posts.append(
            {
                "id": str(number),
                "tokens": words,
                "image": tiny_image(shade, size=(32, 32)),
                "entities": [{"start": 2, "end": 3, "type": kind, "boxes": []}],
                "knowledge": {"auxiliary": SAYS[kind]},
            }
        )
    return posts


def trained(fusion: str) -> tuple[MmavkForTokenClassification, object]:
    torch.manual_seed(0)
    model = MmavkForTokenClassification(tiny_mmavk_config(fusion=fusion, classifier_dropout=0.0))
    processor = tiny_mmavk_processor(fusion=fusion)
    rows = processor.rows(planted(48, seed=1), label2id=model.config.label2id)
    if fusion == "prefix":
        rows = model.eval().encode_shared(rows, processor, 16, EncodingCache())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    for step in range(150):
        batch = processor.pad(rows[16 * (step % 3) :][:16])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), processor


def accuracy(model, processor, posts: list[dict]) -> float:
    found = recognize_entities(model, processor, posts)
    right = [
        [(e["start"], e["end"], e["type"]) for e in one["entities"]] == [(2, 3, post["entities"][0]["type"])]
        for one, post in zip(found, posts, strict=True)
    ]
    return sum(right) / len(posts)


@pytest.mark.parametrize("fusion", ["prefix", "concat", "word_level"])
def test_the_fusion_brings_what_the_image_tells(fusion):
    model, processor = trained(fusion)
    posts = planted(40, seed=2)
    assert accuracy(model, processor, posts) >= 0.95
    blind = [{**post, "image": None, "knowledge": None} for post in posts]
    assert accuracy(model, processor, blind) <= 0.75, "the words alone tell nothing; a coin is right in half the posts"


def test_words_alone_do_not_tell():
    model, processor = trained("none")
    assert accuracy(model, processor, planted(40, seed=2)) <= 0.75
