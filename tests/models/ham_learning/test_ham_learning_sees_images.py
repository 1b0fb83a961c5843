"""Planted signals: names whose type only the class of an object tells, or only the place of one beside another."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tiny import detected, tiny_ham_learning_config, tiny_ham_learning_processor, tiny_image

from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.models.ham_learning import modeling_ham_learning
from hf_mner.models.ham_learning.modeling_ham_learning import HamLearningForTokenClassification

NAMES = ("Anna", "Rome", "Adidas", "Kerr", "Oakland", "Berlin")
SHOWS = {"PER": "person", "LOC": "tower"}
SIDE = 100  # of the images, in pixels


def seen(label: str, x: int, y: int) -> dict[str, Any]:
    """An object of 10 pixels of which the detector tells nothing but its class and its box."""
    return {**detected(label, [x, y, x + 10, y + 10], None), "feature": [1.0]}


def told_by_class(kind: str, generator: random.Random) -> list[dict[str, Any]]:
    """A person or a tower, and a cup, anywhere."""
    return [
        seen(label, generator.randrange(SIDE - 10), generator.randrange(SIDE - 10)) for label in (SHOWS[kind], "cup")
    ]


def told_by_relation(kind: str, generator: random.Random) -> list[dict[str, Any]]:
    """A cup anywhere and a ball beside it: to its right for a person, to its left for a place.

    The ball alone tells little: it is as good as anywhere, whatever the type.
    """
    x, y, shift = generator.randrange(16, SIDE - 26), generator.randrange(SIDE - 10), generator.randrange(11, 17)
    objects = [seen("cup", x, y), seen("ball", x + (shift if kind == "PER" else -shift), y)]
    return generator.sample(objects, 2)


def planted(count: int, seed: int, show: Callable[[str, random.Random], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Posts such as "I am Rome today": nothing in the words tells a person from a place, nor do the pixels."""
    generator = random.Random(seed)
    posts = []
    for number in range(count):
        kind = generator.choice(("PER", "LOC"))
        posts.append(
            {
                "id": str(number),
                "tokens": ["I", "am", generator.choice(NAMES), "today"],
                "image": tiny_image(size=(SIDE, SIDE)),
                "entities": [{"start": 2, "end": 3, "type": kind, "boxes": []}],
                "knowledge": {"objects": show(kind, generator)},
            }
        )
    return posts


def trained(show: Callable[..., Any], views: Sequence[str], most_steps: int = 400):
    """Train until the loss is low, at most so many steps."""
    torch.manual_seed(0)
    fields = {"object_feature_size": 1, "num_semantic_layers": 1, "num_iterations": 1, "classifier_dropout": 0.0}
    model = HamLearningForTokenClassification(tiny_ham_learning_config(views=list(views), **fields))
    processor = tiny_ham_learning_processor(object_feature_size=1)
    rows = processor.rows(planted(96, 1, show), label2id=model.config.label2id)
    rows = model.eval().encode_shared(rows, processor, 16, EncodingCache())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    model.train()
    for step in range(most_steps):
        loss = model(**processor.pad(rows[16 * (step % 6) :][:16])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.05:
            break
    return model.eval(), processor


def accuracy(model, processor, posts: list[dict[str, Any]]) -> float:
    found = recognize_entities(model, processor, posts)
    right = [
        [(e["start"], e["end"], e["type"]) for e in one["entities"]] == [(2, 3, post["entities"][0]["type"])]
        for one, post in zip(found, posts, strict=True)
    ]
    return sum(right) / len(posts)


@pytest.mark.parametrize("views", [["semantic"], ["spatial"], ["semantic", "spatial"]])
def test_classes_of_objects_are_read(views):
    model, processor = trained(told_by_class, views)
    posts = planted(40, 2, told_by_class)
    assert accuracy(model, processor, posts) >= 0.95
    blind = [{**post, "image": None} for post in posts]
    assert accuracy(model, processor, blind) <= 0.75, "the words alone tell nothing; a coin is right in half the posts"


def test_the_relation_of_two_objects_is_read_by_the_spatial_view(monkeypatch):
    """By the edges of the graph: no node knows its place."""
    monkeypatch.setattr(
        modeling_ham_learning, "node_places", lambda boxes: boxes.new_zeros(len(boxes), 1 + boxes.shape[1], 4)
    )
    model, processor = trained(told_by_relation, ["spatial"])
    assert accuracy(model, processor, planted(40, 2, told_by_relation)) >= 0.95


def test_the_semantic_view_knows_no_places():
    model, processor = trained(told_by_relation, ["semantic"], most_steps=200)
    assert accuracy(model, processor, planted(40, 2, told_by_relation)) <= 0.75
