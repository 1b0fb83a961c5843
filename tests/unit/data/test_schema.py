"""Knowledge that a processor could not show is refused, with the part named."""

import pytest

from hf_mner.data.schema import check_knowledge

BOX = [1, 1, 5, 5]


@pytest.mark.parametrize(
    "knowledge",
    [
        {},
        {"caption": None, "objects": None, "encyclopedia": []},
        {"caption": "a man", "auxiliary": "x", "similarity": 0.3},
        {"similarity": -1},
        {"similarity": 1.0},
        {"similarity": None},
        {"objects": [{"label": "person", "box": BOX}], "encyclopedia": [{"mention": "a", "title": "A", "text": "b"}]},
    ],
)
def test_knowledge_of_the_schema_is_taken(knowledge):
    check_knowledge(knowledge, (8, 8))


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        ("a man", r"`knowledge` is a str; expected a mapping such as"),
        ({"captions": "a man"}, r"parts that nothing reads: \['captions'\]; known parts: caption,"),
        ({"caption": 5}, r"`knowledge\['caption'\]` is 5; expected a text or None"),
        ({"similarity": 1.01}, r"`knowledge\['similarity'\]` is 1.01; expected a number in \[-1, 1\]"),
        ({"similarity": float("nan")}, r"is nan; expected a number in \[-1, 1\]"),
        ({"similarity": "0.3"}, r"is '0.3'; expected a number in \[-1, 1\]"),
        ({"similarity": True}, r"is True; expected a number in \[-1, 1\]"),
        ({"encyclopedia": [{"mention": "a", "title": "A", "text": None}]}, "expected `mention`, `title` and `text`"),
        ({"objects": [{"box": BOX}]}, "expected a `label`"),
        ({"objects": 3}, r"`knowledge\['objects'\]` is 3; expected a list"),
        ({"encyclopedia": {"mention": "a", "text": "b"}}, r"`knowledge\['encyclopedia'\]` is \{.*; expected a list"),
        ({"objects": [{"label": "cup", "box": BOX, "score": "high"}]}, "Object 'cup': `score` is 'high'"),
        ({"objects": [{"label": "cup", "box": BOX, "similarity": True}]}, "`similarity` is True; expected a number"),
        ({"objects": [{"label": "cup", "box": BOX, "caption": 5}]}, "Object 'cup': `caption` is 5; expected a text"),
        ({"encyclopedia": [{"mention": "a", "title": 5, "text": "b"}]}, "expected `mention`, `title` and `text`"),
        ({"sources": [1]}, r"`knowledge\['sources'\]` holds 1; expected notes with `part` and `source`"),
        ({"objects": [{"label": "cup"}]}, "Object 'cup': None is not a box; expected four numbers"),
        ({"objects": [{"label": "cup", "box": [5, 1, 1, 5]}]}, "Object 'cup': .* has no area; expected xmin < xmax"),
        ({"objects": [{"label": "cup", "box": [1, 1, 9, 5]}]}, "leaves its image of width 8 and height 8; clip"),
    ],
)
def test_what_cannot_be_shown_is_refused(knowledge, message):
    with pytest.raises(ValueError, match=message):
        check_knowledge(knowledge, (8, 8))


def test_bounds_need_a_known_image():
    check_knowledge({"objects": [{"label": "cup", "box": [1, 1, 900, 5]}]}, None)
