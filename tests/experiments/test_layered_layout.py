from itertools import pairwise

import numpy as np
import pytest

from experiments.layered_layout import place_nodes


def random_graph(seed):
    """A connected graph whose edges go from smaller to larger numbers."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 12))
    edges = {(int(rng.integers(0, j)), j) for j in range(1, n)}
    edges |= {(i, n - 1) for i in range(n - 1) if not any(a == i for a, _ in edges)}
    for _ in range(n // 2):
        i, j = sorted(rng.choice(n, 2, replace=False).tolist())
        edges.add((i, j))
    sizes = [(float(w), float(h)) for w, h in rng.uniform(5, 60, (n, 2))]
    return sizes, sorted(edges)


@pytest.mark.parametrize("seed", range(30))
def test_nodes_do_not_overlap_and_edges_go_to_the_right(seed):
    sizes, edges = random_graph(seed)

    placed = place_nodes(sizes, edges, gap=10, spacing=4)

    boxes = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        for (x, y), (w, h) in zip(placed.centres, sizes, strict=True)
    ]
    for i, a in enumerate(boxes):
        assert a[0] >= -1e-9
        assert a[1] >= -1e-9
        assert a[2] <= placed.width + 1e-9
        assert a[3] <= placed.height + 1e-9
        for b in boxes[:i]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart
    for (first, second), path in zip(edges, placed.paths, strict=True):
        assert path[0] == placed.centres[first]
        assert path[-1] == placed.centres[second]
        assert all(b[0] > a[0] for a, b in pairwise(path))
        for x, y in path[1:-1]:  # the bends pass no node
            assert not any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes)


def crossings(placed):
    """Pairs of straight pieces between the same columns that cross."""
    pieces = [piece for path in placed.paths for piece in pairwise(path)]
    return sum(
        a[0] == c[0] and b[0] == d[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0
        for i, (a, b) in enumerate(pieces)
        for c, d in pieces[:i]
    )


def test_lines_that_need_not_cross_do_not():
    edges = [(0, 1), (0, 2), (0, 3), (1, 6), (2, 5), (3, 4), (4, 7), (5, 7), (6, 7)]
    sizes = [(10.0, 10.0)] * 8

    placed = place_nodes(sizes, edges, gap=10, spacing=4)

    assert crossings(placed) == 0
    assert place_nodes(sizes, edges, gap=10, spacing=4) == placed


def test_a_chain_is_a_straight_line():
    placed = place_nodes([(10.0, 5.0)] * 4, [(0, 1), (1, 2), (2, 3)], gap=6, spacing=3)

    assert placed.centres == ((5, 2.5), (21, 2.5), (37, 2.5), (53, 2.5))
    assert (placed.width, placed.height) == (58, 5)
