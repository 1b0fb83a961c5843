"""The relation graph: against a loop over pairs of boxes, and where the rules meet."""

import math
import random

import pytest
import torch

from hf_mner.layers.relations import RELATIONS, find_octants, pairwise_iou, relation_graph
from hf_mner.metrics import box_iou

INSIDE, COVER = RELATIONS.index("inside"), RELATIONS.index("cover")
SIZE = (500, 375)


def random_boxes(rng, count):
    """Boxes in quarters of pixels, so that float32 is exact; some nested, identical, touching or with one centre."""
    boxes = []
    for _ in range(count):
        x, y = rng.randrange(0, 1900), rng.randrange(0, 1400)
        box = [x, y, rng.randrange(x + 1, 2001), rng.randrange(y + 1, 1501)]
        if boxes and rng.random() < 0.4:
            xmin, ymin, xmax, ymax = rng.choice(boxes)
            box = rng.choice(
                [
                    [xmin, ymin, xmax, ymax],
                    [xmin, ymin, (xmin + xmax + 1) // 2, ymax],  # nested, with common edges
                    [xmax, ymin, xmax + 80, ymax],  # touching
                    [xmin + 8, ymin + 8, xmax + 8, ymax + 8],  # at 45 degrees
                    [xmin + 20, ymin - 20, xmax - 20, ymax + 20],  # of the same centre
                    [xmin, ymin, xmin, ymin],  # a point
                ]
            )
            box = [*box[:2], max(box[0], box[2]), max(box[1], box[3])]
        boxes.append(box)
    rng.shuffle(boxes)
    return [[edge / 4 for edge in box] for box in boxes]


def label_by_hand(i, j, size):
    """The rules as the paper orders them, in whole quarters of pixels."""
    i, j, diagonal = [int(4 * edge) for edge in i], [int(4 * edge) for edge in j], math.hypot(*size)
    if i[0] <= j[0] and i[1] <= j[1] and i[2] >= j[2] and i[3] >= j[3]:
        return "inside"
    if j[0] <= i[0] and j[1] <= i[1] and j[2] >= i[2] and j[3] >= i[3]:
        return "cover"
    shared = max(0, min(i[2], j[2]) - max(i[0], j[0])) * max(0, min(i[3], j[3]) - max(i[1], j[1]))
    union = (i[2] - i[0]) * (i[3] - i[1]) + (j[2] - j[0]) * (j[3] - j[1]) - shared
    if 2 * shared > union:
        return "overlap"
    dx, dy = (j[0] + j[2] - i[0] - i[2]) / 8, (j[1] + j[3] - i[1] - i[3]) / 8
    if math.hypot(dx, dy) / diagonal >= 0.5:
        return "none"
    return f"class{octant_by_hand(dx, dy) + 1}"


def octant_by_hand(dx, dy):
    """The octant from the arc tangent; a multiple of 45 degrees is told apart exactly."""
    turn = math.degrees(math.atan2(dy, dx)) % 360
    if dx == 0 or dy == 0 or abs(dx) == abs(dy):
        return round(turn / 45) % 8
    return int(turn // 45)


def graph_by_hand(boxes, size):
    nodes = range(len(boxes))
    rows = [["none", *("inside" for _ in nodes)]]
    for i in nodes:
        rows.append(["cover", *("none" if i == j else label_by_hand(boxes[i], boxes[j], size) for j in nodes)])
    return [[RELATIONS.index(label) for label in row] for row in rows]


def graph_of(boxes, size=SIZE, dtype=torch.float32):
    boxes = torch.tensor(boxes, dtype=dtype).reshape(1, -1, 4)
    return relation_graph(boxes, torch.ones(boxes.shape[:2]), torch.tensor([size]))[0]


def label_of(i, j, size=SIZE):
    return RELATIONS[graph_of([i, j], size)[1, 2]]


def test_labels_are_those_of_a_loop_over_pairs_whatever_the_padding_holds():
    rng = random.Random(0)
    images = [random_boxes(rng, rng.randrange(51)) for _ in range(250)]
    images[7] = []
    sizes = [(rng.randrange(200, 501), rng.randrange(200, 376)) for _ in images]
    boxes, mask = torch.full((len(images), 50, 4), math.nan), torch.zeros(len(images), 50)
    for row, image in enumerate(images):
        boxes[row, : len(image)] = torch.tensor(image).reshape(-1, 4)
        mask[row, : len(image)] = 1
    graph = relation_graph(boxes, mask, torch.tensor(sizes))
    assert graph.dtype == torch.long
    assert graph.unique().tolist() == list(range(len(RELATIONS))), "every relation occurs"
    for row, (image, size) in enumerate(zip(images, sizes, strict=True)):
        real = len(image) + 1
        assert graph[row, :real, :real].tolist() == graph_by_hand(image, size), row
        assert not graph[row, real:].any()
        assert not graph[row, :, real:].any()


def test_permuted_objects_have_permuted_edges():
    boxes = torch.tensor(random_boxes(random.Random(1), 30))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    nodes = torch.cat([torch.zeros(1, dtype=torch.long), 1 + order])
    expected = graph_of(boxes.tolist())[nodes][:, nodes]
    assert torch.equal(graph_of(boxes[order].tolist()), expected)


@pytest.mark.parametrize("kind", [bool, int, float])
def test_padding_may_be_anywhere(kind):
    boxes = torch.tensor(random_boxes(random.Random(2), 6))
    mask = torch.tensor([[1, 0, 1, 1, 0, 1]]).to(torch.tensor(kind(1)).dtype)
    graph = relation_graph(boxes.unsqueeze(0), mask, torch.tensor([SIZE]))[0]
    kept = torch.tensor([0, 1, 3, 4, 6])
    assert torch.equal(graph[kept][:, kept], graph_of(boxes[mask[0].bool()].tolist()))
    assert not graph[[2, 5]].any()
    assert not graph[:, [2, 5]].any()


def test_an_image_without_objects_has_one_node():
    graph = relation_graph(torch.zeros(3, 0, 4), torch.zeros(3, 0), torch.full((3, 2), 10))
    assert graph.tolist() == [[[0]]] * 3


def test_the_image_includes_even_what_leaves_it():
    graph = graph_of([[-40, -40, 600, 600], [900, 900, 990, 990]])
    assert graph[0].tolist() == [0, INSIDE, INSIDE]
    assert graph[:, 0].tolist() == [0, COVER, COVER]


def test_each_of_two_identical_boxes_includes_the_other():
    graph = graph_of([[10, 10, 50, 50]] * 2)
    assert graph[1:, 1:].tolist() == [[0, INSIDE], [INSIDE, 0]]


def test_nested_boxes_with_a_common_edge_are_inside_and_cover():
    assert label_of([10, 10, 50, 50], [10, 20, 50, 30]) == "inside"
    assert label_of([10, 20, 50, 30], [10, 10, 50, 50]) == "cover"


def test_an_iou_of_one_half_is_no_overlap():
    assert label_of([0, 0, 30, 10], [10, 0, 40, 10]) == "class1"  # 200 / 400
    assert label_of([0, 0, 30, 10], [9, 0, 39, 10]) == "overlap"  # 210 / 390


def test_half_the_diagonal_is_too_far():
    near, far = [0, 0, 2, 2], [300, 400, 302, 402]  # 500 apart
    assert label_of(near, far, (600, 800)) == "none"
    assert label_of(near, far, (600, 801)) == "class2"


# Clockwise on the screen, as y points down.
@pytest.mark.parametrize(
    ("shift", "number"),
    [((1, 0), 1), ((1, 1), 2), ((0, 1), 3), ((-1, 1), 4), ((-1, 0), 5), ((-1, -1), 6), ((0, -1), 7), ((1, -1), 8)],
)
@pytest.mark.parametrize("length", [0.1, 7.0, 33.3, 100.0])
def test_a_class_begins_at_its_multiple_of_45_degrees(shift, number, length):
    start = torch.tensor(shift) * length
    before, after = (torch.stack([start[0] - turn * start[1], start[1] + turn * start[0]]) for turn in (-1e-4, 1e-4))
    assert find_octants(torch.stack([before, start, after])).tolist() == [(number - 2) % 8, number - 1, number - 1]
    x, y = (50 + 20 * step for step in shift)
    assert label_of([50, 50, 60, 60], [x, y, x + 10, y + 10]) == f"class{number}"


def test_equal_centres_are_the_first_class():
    assert label_of([10, 40, 90, 60], [40, 10, 60, 90]) == "class1"
    assert label_of([40, 10, 60, 90], [10, 40, 90, 60]) == "class1"
    assert find_octants(torch.tensor([[0.0, 0.0], [-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0]])).tolist() == [0] * 4


def test_boxes_without_area_have_labels():
    assert label_of([5, 5, 5, 5], [5, 5, 5, 5]) == "inside"
    assert label_of([0, 5, 10, 5], [5, 0, 5, 10]) == "class1"
    assert label_of([5, 5, 5, 5], [9, 7, 9, 7]) == "class1"
    assert pairwise_iou(torch.zeros(1, 2, 4)).tolist() == [[[0, 0], [0, 0]]]


def test_opposite_edges_have_opposite_labels():
    graph = graph_of(random_boxes(random.Random(3), 40))[1:, 1:]
    classes = graph >= RELATIONS.index("class1")
    has_direction = classes & ~torch.eye(40, dtype=torch.bool)
    assert torch.equal(has_direction, has_direction.T)
    turned = (graph - graph.T).abs()[has_direction]
    assert set(turned.tolist()) <= {4, 0}, "half a turn, or none where the centres are equal"
    for label in ("none", "overlap"):
        has_label = graph == RELATIONS.index(label)
        assert torch.equal(has_label, has_label.T)
    is_inside = graph == INSIDE
    assert (is_inside.T[graph == COVER]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.long])
def test_other_types_give_the_labels_of_their_numbers(dtype):
    boxes = torch.tensor(random_boxes(random.Random(4), 50)).to(dtype)
    mask, size = torch.ones(1, 50).to(dtype), torch.tensor([[4096, 3072]]).to(dtype)
    expected = relation_graph(boxes.float().unsqueeze(0), mask.float(), size.float())
    assert torch.equal(relation_graph(boxes.unsqueeze(0), mask, size), expected)
    assert expected[0].tolist() == graph_by_hand(boxes.tolist(), (4096, 3072))  # 4096 squared is not a float16


def test_the_iou_is_that_of_the_metrics():
    boxes = [box for box in random_boxes(random.Random(5), 40) if box[0] < box[2] and box[1] < box[3]]
    expected = torch.tensor([[box_iou(i, j) for j in boxes] for i in boxes])
    # One rounded division of exact areas: 6e-8 measured.
    torch.testing.assert_close(pairwise_iou(torch.tensor([boxes]))[0], expected, rtol=0, atol=1e-6)


def test_labels_come_from_tensor_operations_alone():
    """On the `meta` device nothing can be read back."""
    graph = relation_graph(*(torch.empty(shape, device="meta") for shape in ((2, 5, 4), (2, 5), (2, 2))))
    assert graph.shape == (2, 6, 6)
