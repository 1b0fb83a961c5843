"""Connected areas of a map of classes, as boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Run = tuple[int, int, int]  # row, first column, column after the last, of neighbouring cells with one class


def connected_areas(
    classes: np.ndarray, probabilities: np.ndarray, ignored: Sequence[int] = ()
) -> list[tuple[list[int], float, int, int]]:
    """Return the areas of neighbouring cells (left, right, above, below) with one class.

    scipy has a faster one, but is no dependency. This one joins runs of cells and not cells, so that a map of
    513 x 513 takes some milliseconds.

    Args:
        classes: `h w`, the class of each cell.
        probabilities: `h w`, how sure it is.
        ignored: classes whose areas are left out.

    Returns:
        For each area its box `[xmin, ymin, xmax, ymax]` in cells, mean probability, class, and number of cells.
    """
    import numpy as np

    runs = _runs(classes)
    sums = np.concatenate([np.zeros((len(classes), 1)), probabilities.cumsum(axis=1, dtype=np.float64)], axis=1)
    groups: dict[int, list[Run]] = {}
    for run, root in zip(runs, _roots(classes, runs), strict=True):
        if classes[run[0], run[1]] not in ignored:
            groups.setdefault(root, []).append(run)
    areas = []
    for group in groups.values():
        rows, starts, ends = zip(*group, strict=True)
        count = sum(ends) - sum(starts)
        total = sum(sums[row, end] - sums[row, start] for row, start, end in group)
        box = [min(starts), min(rows), max(ends), max(rows) + 1]
        areas.append((box, float(total / count), int(classes[rows[0], starts[0]]), count))
    return areas


def _runs(classes: np.ndarray) -> list[Run]:
    import numpy as np

    runs = []
    for row, cells in enumerate(classes):
        edges = [0, *(np.flatnonzero(cells[1:] != cells[:-1]) + 1).tolist(), len(cells)]
        runs += [(row, start, end) for start, end in zip(edges[:-1], edges[1:], strict=True)]
    return runs


def _roots(classes: np.ndarray, runs: list[Run]) -> list[int]:
    """Return for each run the index of one run of its area, the same for all runs of it (union-find)."""
    parents = list(range(len(runs)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    above = 0  # the first run of the row above that can touch
    for index, (row, start, end) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] <= start):
            above += 1
        other = above
        while runs[other][0] == row - 1 and runs[other][1] < end:
            if classes[row - 1, runs[other][1]] == classes[row, start]:
                parents[root(index)] = root(other)
            other += 1
    return [root(index) for index in range(len(runs))]
