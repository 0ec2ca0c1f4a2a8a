"""Dead edges and longest paths, against a walk over all paths of a cell."""

import itertools

import numpy as np
import pytest

from latency_models.transfer import cell_features, live_genes, longest_path
from search_spaces.standard.nas_bench_201 import EDGES, NASBench201

PATHS = [p for p in itertools.chain.from_iterable(
    itertools.product([0], *([list(range(1, 3))] * k), [3]) for k in range(3)
) if all(a < b for a, b in itertools.pairwise(p))]  # fmt: skip


def open_paths(cell):
    """The edges of each path from input to output that no `none` cuts."""
    for nodes in PATHS:
        edges = [EDGES.index((b, a)) for a, b in itertools.pairwise(nodes)]
        if all(cell[e] != 0 for e in edges):
            yield edges


@pytest.fixture(scope="module")
def cells():
    return NASBench201().sample(300, np.random.default_rng(0))


def test_from_a_live_edge_a_path_leads_on_to_the_output(cells):
    live = live_genes(cells)
    ends = [tail for k in range(3) for tail in itertools.combinations((1, 2), k)]
    for cell, pruned in zip(cells, live, strict=True):
        for e, (node, _) in enumerate(EDGES):
            onward = [[node, *(n for n in tail if n > node)] for tail in ends]
            paths = [[*p, 3] if p[-1] != 3 else p for p in onward]
            is_live = any(
                all(cell[EDGES.index((b, a))] != 0 for a, b in itertools.pairwise(path))
                for path in paths
            )
            assert pruned[e] == (cell[e] if is_live else 0)


def test_the_longest_path_is_the_longest_of_all_paths(cells):
    length = np.array([0.0, 0.5, 2.0, 3.0, 1.0])
    want = [max((length[c[p]].sum() for p in open_paths(c)), default=0.0) for c in cells]
    np.testing.assert_array_equal(longest_path(cells, length), want)


def test_cells_that_differ_in_dead_edges_only_differ_in_half_of_their_features():
    cells = np.array([[3, 0, 0, 2, 0, 0], [0, 0, 0, 2, 0, 0], [1, 1, 1, 1, 1, 1]], np.int16)
    features = cell_features(cells)
    one_hot = features.choices.shape[1] // 2
    assert (features.choices[0, one_hot:] == features.choices[1, one_hot:]).all()
    assert (features.choices[0, :one_hot] != features.choices[1, :one_hot]).any()
