import itertools

import numpy as np
import pytest

from predictors import (
    GraphFeatures,
    graph_feature_groups,
    graph_feature_names,
    graph_features,
    network_hashes,
)
from predictors.segments import segments
from records import BadInputError
from search_spaces import CNNSpace, HybridSpace, ViTSpace, WithPlatform, WithPrecision, WithRecipe
from search_spaces.standard import NASBench201, NASBenchMacro
from search_spaces.standard.nas_bench_201 import EDGES

CELLS = NASBench201(cells=1)
NONE, SKIP, CONV1, CONV3, POOL = range(5)
SPACES = [CELLS, NASBenchMacro(), CNNSpace(), ViTSpace(), HybridSpace()]


@pytest.fixture(params=SPACES, ids=lambda space: space.name)
def space(request):
    return request.param


def live_graph(networkx, row):
    """A cell as its operations that matter, joined as data runs: written anew, edge by edge.

    An arc's weight is the number of ways from one operation to the next without another.
    """
    graph = networkx.DiGraph()
    graph.add_node("in", op="in")
    graph.add_node("out", op="out")
    into = {0: {"in": 1}, 1: {}, 2: {}, 3: {}}  # what each of the cell's nodes is a sum of
    for (node, source), op in zip(EDGES, row, strict=True):
        if op == NONE or not into[source]:
            continue
        if op == SKIP:
            terms = into[source]
        else:
            graph.add_node((node, source), op=int(op))
            for term, times in into[source].items():
                graph.add_edge(term, (node, source), times=times)
            terms = {(node, source): 1}
        for term, times in terms.items():
            into[node][term] = into[node].get(term, 0) + times
    for term, times in into[3].items():
        graph.add_edge(term, "out", times=times)
    used = networkx.ancestors(graph, "out") | {"in", "out"}
    return graph.subgraph(used)


def test_equal_hashes_are_isomorphic_networks():
    networkx = pytest.importorskip("networkx")
    isomorphism = networkx.algorithms.isomorphism
    rows = CELLS.sample(100, np.random.default_rng(0))
    graphs = [live_graph(networkx, row) for row in rows]
    hashes = network_hashes(CELLS, rows)
    same = {"node_match": isomorphism.categorical_node_match("op", None),
            "edge_match": isomorphism.categorical_edge_match("times", 0)}  # fmt: skip
    equal = 0
    for i, j in itertools.combinations(range(len(rows)), 2):
        if sorted(op for _, op in graphs[i].nodes(data="op") if op not in ("in", "out")) != sorted(
            op for _, op in graphs[j].nodes(data="op") if op not in ("in", "out")
        ):
            assert hashes[i] != hashes[j]
            continue
        isomorphic = networkx.is_isomorphic(graphs[i], graphs[j], **same)
        assert (hashes[i] == hashes[j]) == isomorphic, (rows[i], rows[j])
        equal += isomorphic
    assert equal > 5


def test_equal_networks_have_equal_features_and_others_differ():
    rows = CELLS.enumerate()
    described, hashes = graph_features(CELLS, rows), network_hashes(CELLS, rows)
    first, inverse = np.unique(hashes, return_index=True, return_inverse=True)[1:]
    np.testing.assert_array_equal(described, described[first][inverse.reshape(-1)])
    assert len(np.unique(described, axis=0)) == len(first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([CONV3, SKIP, NONE, NONE, NONE, CONV1], [NONE, SKIP, NONE, NONE, NONE, CONV1]),
        ([CONV3, NONE, SKIP, NONE, NONE, CONV1], [NONE, CONV3, POOL, NONE, NONE, CONV1]),
        ([SKIP, CONV3, CONV1, NONE, NONE, SKIP], [SKIP, CONV1, CONV3, NONE, NONE, SKIP]),
        ([NONE, NONE, CONV1, NONE, CONV3, CONV3], [NONE] * 6),
    ],
    ids=["unused", "skipped", "order of a sum", "cut off"],
)
def test_what_does_not_change_the_network(one, other):
    first, second = graph_features(CELLS, [one, other])
    np.testing.assert_array_equal(first, second)


def test_two_convolutions_are_not_one_used_twice():
    twice = [CONV3, NONE, SKIP, NONE, SKIP, SKIP]
    two = [CONV3, CONV3, NONE, NONE, SKIP, SKIP]
    assert len(set(network_hashes(CELLS, [twice, two]))) == 2


def test_a_cell_by_hand():
    """1x1 then 3x3 to the output, a pool beside them, a shortcut, and a dead 3x3."""
    row = [CONV1, CONV3, NONE, SKIP, CONV3, NONE]
    pool = [CONV1, NONE, NONE, SKIP, CONV3, POOL]
    first, second, empty = graph_features(CELLS, [row, pool, [NONE] * 6])
    np.testing.assert_array_equal(first, second)
    found = dict(zip(graph_feature_names(CELLS), first - empty, strict=True))
    assert found["paths(shortcut)"] == 3  # one in each of three stages
    assert found["paths(conv2d 1x1 > conv2d 3x3)"] == 3
    assert found["paths(conv2d 3x3)"] == 0
    assert found["layers(conv2d 3x3)"] == 3
    assert (found["greatest depth"], found["mean depth"]) == (6, 3)
    assert found["log paths"] == pytest.approx(3 * np.log(2))
    assert found["segments cut off"] == -3
    clean = CELLS.layer_table(np.array([[CONV1, NONE, NONE, SKIP, CONV3, NONE]])).macs[0]
    position = graph_feature_names(CELLS).index("log macs")
    assert first[position] == pytest.approx(np.log(clean))


def test_repeats_of_a_cell_change_no_feature_but_sizes():
    few, many = GraphFeatures(CELLS), GraphFeatures(NASBench201(cells=2))
    assert few.names == many.names
    rows = CELLS.sample(100, np.random.default_rng(0))
    a, b = few(rows) - few(rows[:1]), many(rows) - many(rows[:1])
    for group, times in (("choices", 1), ("paths", 2), ("counts", 2), ("shape", 2)):
        np.testing.assert_allclose(
            times * a[:, few.group == group], b[:, many.group == group], atol=1e-9
        )


def test_whole_networks_are_sized_as_the_layer_table_says(space):
    if space is CELLS:
        return  # has dead layers
    rows = space.sample(50, np.random.default_rng(1))
    names = graph_feature_names(space)
    found = graph_features(space, rows)[:, names.index("log macs")]
    np.testing.assert_allclose(found, np.log(space.layer_table(rows).macs))


def test_names_columns_and_groups_agree(space):
    rows = space.sample(40, np.random.default_rng(2))
    found, names = graph_features(space, rows), graph_feature_names(space)
    assert found.shape == (40, len(names))
    assert np.isfinite(found).all()
    assert len(set(names)) == len(names)
    groups = graph_feature_groups(space)
    assert sorted(np.concatenate(list(groups.values()))) == list(range(len(names)))
    np.testing.assert_array_equal(graph_features(space, rows[7:8])[0], found[7])
    assert graph_features(space, rows[:0]).shape == (0, len(names))


def test_distinct_networks_of_chains_differ(space):
    if space is CELLS:
        return
    rows = np.unique(space.sample(300, np.random.default_rng(3)), axis=0)
    assert len(np.unique(network_hashes(space, rows))) == len(rows)
    assert len(np.unique(graph_features(space, rows), axis=0)) == len(rows)


def test_segments_cover_all_layers_in_order(space):
    chain = segments(space)
    layers = [layer for segment in chain for layer in segment.layers]
    assert layers == sorted(set(layers))
    assert layers[-1] == len(space.nodes) - 1
    for before, segment in itertools.pairwise(chain):
        assert segment.start == before.layers[-1]
        inside = {segment.start, *segment.layers}
        for layer in segment.layers:
            assert set(space.nodes[layer].inputs) <= inside


def test_foreign_genes():
    with pytest.raises(BadInputError):
        graph_features(CELLS, np.zeros((2, 3), int))


def test_settings_that_are_too_many_to_keep_are_described_alike(space, monkeypatch):
    rows = space.sample(60, np.random.default_rng(4))
    kept = graph_features(space, rows)
    monkeypatch.setattr("predictors.segment_groups.MOST_KEPT", 0)
    fresh = GraphFeatures(space)
    assert fresh.names == graph_feature_names(space)
    np.testing.assert_array_equal(fresh(rows), kept)
    np.testing.assert_array_equal(fresh.network_hashes(rows), network_hashes(space, rows))


def test_segments_of_too_many_paths_are_known_by_their_layers(monkeypatch):
    monkeypatch.setattr("predictors.segments.MOST_PATHS", 3)
    assert not any(segment.paths for segment in segments(CELLS) if segment.genes)
    describe = GraphFeatures(CELLS)
    assert not any(name.startswith("paths") for name in describe.names)
    one, twin = describe([[3, 0, 1, 0, 0, 2], [0, 3, 0, 0, 0, 2]])
    np.testing.assert_array_equal(one, twin)


# ---- beside the network -------------------------------------------------------------------------

TWINS = [[3, 0, 1, 0, 0, 2], [0, 3, 0, 0, 0, 2]]
RECIPE = (("learning_rate", (0.1, 0.2, 0.4)), ("augmentation", ("none", "mixup")))


def test_a_recipe_stands_beside_the_columns_of_the_network():
    space = WithRecipe(base=CELLS, recipe=RECIPE)
    first = space.trained_by(TWINS, {"learning_rate": 0.1, "augmentation": "none"})
    other = space.trained_by(TWINS, {"learning_rate": 0.4, "augmentation": "mixup"})
    one, twin, trained, _ = graph_features(space, np.concatenate([first, other]))
    np.testing.assert_array_equal(one, twin)
    known = len(graph_feature_names(CELLS))
    np.testing.assert_array_equal(one[:known], graph_features(CELLS, TWINS)[0])
    names = graph_feature_names(space)
    assert set(graph_feature_groups(space)["numerics"]) == set(range(known, len(names)))
    differ = {names[j] for j in np.flatnonzero(one != trained)}
    assert differ == {
        "learning_rate", "learning_rate=0.1", "learning_rate=0.4", "augmentation=none",
    }  # fmt: skip
    np.testing.assert_array_equal(network_hashes(space, first), network_hashes(space, other))


def test_precisions_of_one_network_are_told_apart_in_a_listed_space():
    space = WithPrecision(base=CELLS, precisions=("int8", "fp32"))
    low, twin = graph_features(space, space.in_precision(TWINS, "int8"))
    high = graph_features(space, space.in_precision(TWINS, "fp32"))[0]
    np.testing.assert_array_equal(low, twin)
    assert (low != high).sum() == 1


def test_the_platform_is_no_feature_of_a_network():
    space = WithPlatform(base=CELLS, platform=(("rows", (8, 16)),))
    rows = np.array([[3, 0, 1, 0, 0, 2, platform] for platform in (0, 1)])
    one, other = graph_features(space, rows)
    np.testing.assert_array_equal(one, other)
    assert graph_feature_names(space) == graph_feature_names(CELLS)
