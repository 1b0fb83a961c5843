"""The picture of a relation graph: where nodes and names go, what an arrow looks like, and what the legend says."""

from itertools import combinations
from math import dist

import pytest
from PIL import Image, ImageDraw, ImageFont

from hf_mner.layers.relations import RELATIONS
from hf_mner.visualization.relation_graph import NODE_RADIUS, Writing, draw_relation_graph, list_arrows, spread_nodes
from hf_mner.visualization.relation_legend import COLORS, LEGEND_WIDTH, describe_reading, wrap_text


def detected(box, score=0.5):
    return {"label": "cat", "score": score, "box": box, "caption": None, "similarity": None}


def test_every_relation_has_a_color_and_those_of_directions_differ():
    assert tuple(COLORS) == RELATIONS[1:]
    assert len(set(COLORS.values())) == len(COLORS) - 1, "inside and cover share one"


def test_nodes_stay_where_they_are_unless_they_would_cover_each_other():
    assert spread_nodes([(10, 10), (200, 10)]) == [(10, 10), (200, 10)]
    nodes = spread_nodes([(50.0, 50.0)] * 40)
    assert nodes[0] == (50, 50)
    assert min(dist(*pair) for pair in combinations(nodes, 2)) > 2 * NODE_RADIUS


def test_a_pair_has_one_arrow_from_rim_to_rim():
    relations = [["none", "class1", "none"], ["class5", "none", "cover"], ["none", "inside", "none"]]
    first, second = list_arrows([(0, 0), (100, 0), (100, 200)], relations)
    assert first == ((NODE_RADIUS, 0), (100 - NODE_RADIUS, 0), "class1")
    assert second.relation == "cover"
    assert second.start == pytest.approx((100, NODE_RADIUS))


def test_an_arrow_has_its_color_and_its_head_at_the_second_object():
    relations = [["none", "class1"], ["class5", "none"]]
    drawn = draw_relation_graph(
        Image.new("RGB", (900, 600)), [detected([0, 0, 200, 600]), detected([700, 0, 900, 600])], relations
    )
    margin = 14

    def colored(x):
        return sum(drawn.getpixel((x + margin, y + margin)) == COLORS["class1"] for y in range(250, 350))

    assert 1 <= colored(600) <= 2, "a thin line"
    assert colored(800 - NODE_RADIUS - 9) > 5
    assert 1 <= colored(100 + NODE_RADIUS + 9) <= 2


@pytest.mark.parametrize("size", [(64, 48), (2000, 1500), (3, 300)])
def test_an_image_of_any_size_is_drawn(size):
    for objects in ([], [detected([0, 0, *size], None)] * 3):
        relations = [["inside"] * len(objects)] * len(objects)
        drawn = draw_relation_graph(Image.new("RGB", size), objects, relations)
        assert drawn.width > LEGEND_WIDTH


def test_nothing_is_written_over_anything():
    writing = Writing(ImageDraw.Draw(Image.new("RGB", (200, 60))), (200, 60), ImageFont.load_default(13))
    assert writing.write_where_free("one", (0, 0, 0), [(190, 10), (10, 10)]), "the first place leaves the picture"
    assert not writing.write_where_free("two", (0, 0, 0), [(12, 12), (10, 55)])
    writing.write_node("1", (100, 30))
    assert not writing.write_where_free("two", (0, 0, 0), [(95, 20)])
    assert writing.write_where_free("two", (0, 0, 0), [(95, 20), (150, 20)])
    assert len(writing.taken) == 3


def test_the_legend_says_what_is_not_drawn():
    text = describe_reading(7, 0)
    assert "7 edges 'inside' to them and 7 edges 'cover' from them are not drawn" in text
    assert "no room" not in text
    assert "no room for 3 of the names" in describe_reading(7, 3)
    font = ImageFont.load_default(13)
    lines = wrap_text(text, font, 120)
    assert " ".join(lines) == text
    assert max(map(font.getlength, lines)) <= 120
