"""What all detectors need after the network, against plain loops."""

import numpy as np
import pytest

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge.areas import connected_areas
from hf_mner.knowledge.detections import as_objects, copied, overlaps, suppress_doubles
from hf_mner.metrics.boxes import box_iou


def random_boxes(count, seed=0, limit=100.0):
    corners = np.random.default_rng(seed).uniform(0, limit, (count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def test_overlaps_are_those_of_the_metric():
    boxes = random_boxes(40)
    assert overlaps(boxes[0], boxes).tolist() == pytest.approx([box_iou(boxes[0], box) for box in boxes])
    assert overlaps(np.zeros(4), np.zeros((2, 4))).tolist() == [0, 0], "no division by zero"


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_suppression_is_that_of_a_plain_loop(threshold):
    rng = np.random.default_rng(1)
    boxes, scores, classes = random_boxes(60, seed=2), rng.uniform(size=60), rng.integers(0, 3, 60)
    kept = []
    for index in sorted(range(60), key=lambda box: -scores[box]):
        rivals = [other for other in kept if classes[other] == classes[index]]
        if all(box_iou(boxes[index], boxes[other]) <= threshold for other in rivals):
            kept.append(index)
    assert suppress_doubles(boxes, scores, classes, threshold).tolist() == kept


def test_nothing_detected_is_nothing_kept():
    none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int)
    assert suppress_doubles(*none, 0.5).tolist() == []
    assert as_objects(*none[:2], [], (10, 10), 5) == []


def test_objects_are_clipped_and_come_best_first():
    boxes = np.array([[1, 2, 3, 4], [-5, -5, 30, 8], [12, 0, 20, 5], [0, 0, 9, 0.5], [0, 0, 5, 5]])
    found = as_objects(boxes, np.array([0.2, 0.9, 0.8, 0.7, 0.6]), list("abcde"), (10, 8), 18)
    assert [(item["label"], item["box"]) for item in found] == [
        ("b", [0, 0, 10, 8]),
        ("e", [0, 0, 5, 5]),
        ("a", [1, 2, 3, 4]),
    ], "one lies outside, one is half a pixel high"
    check_knowledge({"objects": found}, image_size=[10, 8])
    assert [item["label"] for item in as_objects(boxes, np.arange(5), list("abcde"), (10, 8), 2)] == ["e", "b"]


def test_copied_objects_share_nothing():
    found = as_objects(np.array([[0, 0, 5, 5]]), np.ones(1), ["a"], (10, 8), 1)
    other = copied(found)
    other[0]["box"][0] = 3
    other[0]["caption"] = "changed"
    assert found[0]["box"] == [0, 0, 5, 5]
    assert found[0]["caption"] is None
    assert copied(None) is None


def flood(classes, probabilities):
    """Return the areas by the plainest way: from each cell to its neighbours."""
    open_cells, areas = {tuple(cell) for cell in np.argwhere(classes >= 0).tolist()}, []
    while open_cells:
        area, border = set(), {min(open_cells)}
        while border:
            row, column = border.pop()
            area.add((row, column))
            around = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            border |= {cell for cell in (around & open_cells) - area if classes[cell] == classes[row, column]}
        open_cells -= area
        rows, columns = zip(*area, strict=True)
        box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        mean = float(np.mean([probabilities[cell] for cell in area]))
        areas.append((box, round(mean, 9), int(classes[rows[0], columns[0]]), len(area)))
    return sorted(areas)


@pytest.mark.parametrize("seed", range(20))
def test_areas_are_those_of_a_flood(seed):
    rng = np.random.default_rng(seed)
    classes, probabilities = rng.integers(0, 3, (12, 9)), rng.uniform(size=(12, 9))
    found = connected_areas(classes, probabilities)
    assert sorted((box, round(mean, 9), *rest) for box, mean, *rest in found) == flood(classes, probabilities)


def test_areas_meet_at_sides_and_not_at_corners():
    classes = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 2]])
    found = connected_areas(classes, np.ones((3, 3)), ignored=[0])
    assert found == [([0, 0, 3, 2], 1.0, 1, 5), ([2, 2, 3, 3], 1.0, 2, 1)]
    assert len(connected_areas(np.eye(3, dtype=int), np.ones((3, 3)), ignored=[0])) == 3
