import itertools

import numpy as np
import pytest

from experiments.inner_graph import inner_graph
from experiments.sections import sections
from search_spaces.standard.nas_bench_201 import EDGES, OPERATIONS
from tests.experiments.doubles import named, standard
from tests.search_spaces.zoo import Zoo

WORDS = {"none": "zeros", "nor_conv_1x1": "conv 1x1", "nor_conv_3x3": "conv 3x3",
         "avg_pool_3x3": "mean 3x3"}  # fmt: skip


def paths(graph):
    """Every way from the input to the output, as the operations on it, sorted."""
    behind = {}
    for first, second in graph.edges:
        behind.setdefault(first, []).append(second)
    last = len(graph.texts) - 1

    def walk(node, words):
        words = (*words, graph.texts[node]) if graph.texts[node] not in ("", "+") else words
        if node == last:
            return [words]
        return [path for other in behind.get(node, []) for path in walk(other, words)]

    return sorted(walk(0, ()))


def paths_of_cell(operations):
    """The same from the definition of the space: every path along the cell's edges."""
    found = []
    for length in range(4):
        for between in itertools.combinations((1, 2), length):
            nodes = (0, *between, 3)
            edges = [(b, a) for a, b in itertools.pairwise(nodes)]
            named = [operations[EDGES.index(edge)] for edge in edges]
            found.append(tuple(WORDS[o] for o in named if o != "skip_connect"))
    return sorted(found)


def test_a_cell_has_the_paths_of_its_definition():
    space = standard("nas-bench-201")
    rows = space.sample(60, np.random.default_rng(0))
    for row in rows:
        cell = next(s for s in sections(space.graph(row)) if s.name == "stage0.cell0")
        operations = [OPERATIONS[gene] for gene in row]

        graph = inner_graph(cell)

        assert paths(graph) == paths_of_cell(operations)
        assert graph.texts[0] == graph.texts[-1] == ""
        assert all(first < second for first, second in graph.edges)


def test_sums_of_sums_are_one_sum():
    space = standard("nas-bench-201")
    row = space.genes_of(
        ["|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_1x1~1"
         "|skip_connect~2|"]
    )  # fmt: skip

    graph = inner_graph(named(space, row)["stage1.cell0"])

    assert graph.texts.count("+") == 1
    assert len([edge for edge in graph.edges if graph.texts[edge[1]] == "+"]) == 4


def test_branches_side_by_side_are_named():
    section = named(Zoo())["a, b, concat"]

    graph = inner_graph(section)

    assert graph.texts == ("", "a: mean 3x3", "b: mean 3x3", "concat", "")
    assert graph.edges == ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4))


@pytest.mark.parametrize("name", ["stage1.reduction", "stage2.reduction"])
def test_a_cell_with_a_concatenation(name):
    graph = inner_graph(named(standard("vit-resnas-tiny"))[name])

    assert paths(graph) == [
        ("conv 3x3 /2", "concat"), ("conv 3x3 /2", "concat"), ("mean 2x2 /2", "concat"),
    ]  # fmt: skip


def test_a_gate_is_one_node():
    graph = inner_graph(named(standard("mnasnet"))["stage0.layer1"])

    assert "SE" in graph.texts
    assert not any("sigmoid" in text for text in graph.texts)
    assert graph.texts.index("SE") > [t.startswith("depthwise") for t in graph.texts].index(True)
