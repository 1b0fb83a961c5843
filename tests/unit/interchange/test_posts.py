"""Characters to words and back, and what does not fit."""

from __future__ import annotations

import pytest
from random_posts import random_posts, without_image
from tiny import tiny_examples

from hf_mner.data.labels import encode_bio
from hf_mner.interchange import from_example, to_example
from hf_mner.interchange.posts import each, post_text


@pytest.mark.parametrize("seed", range(3))
def test_examples_and_posts_are_the_same_entities(seed):
    for post in random_posts(seed, is_scored=False):
        example = to_example(without_image(post))
        words = [entity["word"] for entity in post["entities"]]
        for entity, word in zip(example["entities"], words, strict=True):
            assert "".join(example["tokens"][entity["start"] : entity["end"]]) == "".join(word.split())
        again = to_example(from_example(example))
        assert (again["tokens"], again["entities"]) == (example["tokens"], example["entities"])


def test_tiny_examples_come_back():
    for example in tiny_examples():
        back = to_example(from_example(example))
        assert (back["tokens"], back["entities"]) == (example["tokens"], example["entities"])


def entity(start, end, kind="ORG"):
    return {"entity_group": kind, "start": start, "end": end, "boxes": []}


def test_borders_inside_of_a_word():
    post = {"id": "a", "text": "the #NBAFinals now", "entities": [entity(5, 8)]}
    message = r"Post 'a': 'NBA' at characters 5-8 does not begin and end with a word .*\['NBAFinals'\]"
    with pytest.raises(ValueError, match=message):
        to_example(post)
    example = to_example(post, cut_words=True)
    assert example["tokens"] == ["the", "#", "NBA", "Finals", "now"]
    assert encode_bio([(e["start"], e["end"], e["type"]) for e in example["entities"]], 5)[2] == "B-ORG"


def test_spaces_around_an_entity_do_not_count():
    example = to_example({"id": "a", "text": "in  Oakland \n", "entities": [entity(2, 13)]})
    assert example["entities"] == [{"start": 1, "end": 2, "type": "ORG", "boxes": []}]


@pytest.mark.parametrize(
    ("post", "message"),
    [
        ({"id": "a"}, "has neither `text` nor `tokens`"),
        ({"id": "a", "text": "x y", "tokens": ["x"]}, "leave one out"),
        ({"id": "a", "text": "x y", "entities": [entity(0, 4)]}, "its text has 3"),
        ({"id": "a", "text": "x  y", "entities": [entity(1, 3)]}, "is only space"),
        ({"id": "a", "text": "x y z", "entities": [entity(0, 3), entity(2, 5, "PER")]}, "ORG at 0-3 and PER at 2-5"),
    ],
)
def test_what_does_not_fit_is_named(post, message):
    with pytest.raises(ValueError, match=message):
        to_example(post)
    assert list(each([post, {"id": "b", "text": "x"}], to_example, "skip"))[0]["id"] == "b"


def test_the_text_of_tokens():
    assert post_text({"tokens": ["a", "b"]}) == "a b"
