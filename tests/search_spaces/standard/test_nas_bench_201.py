import numpy as np
import pytest
import torch

from records import BadInputError
from search_spaces.standard import NASBench201
from search_spaces.standard.nas_bench_201 import EDGES, OPERATIONS
from search_spaces.tabulate import all_genes
from supernet import Subnet
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced
from tests.search_spaces.standard.tables import assert_equals_float32, published

SMALL = NASBench201(image_size=8, channels_first=4, cells=1)

FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"  # noqa: E501
SECOND = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"  # noqa: E501
OTHER = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def space():
    return NASBench201()


class TestNASBench201(SearchSpaceContract):
    space = SMALL

    def other(self):
        return NASBench201(image_size=8, channels_first=8, cells=1)


def test_the_space_has_15625_networks(space):
    assert space.cardinality == 15_625


def test_all_rows_of_the_table_have_the_published_costs(space):
    table = published("nb201", "ops", "macs_m", "params_m")
    assert len(table["ops"]) == space.cardinality
    layers = space.layer_table(table["ops"].astype(np.int16))
    assert_equals_float32(layers.macs, table["macs_m"])
    assert_equals_float32(layers.parameters, table["params_m"])


def test_all_rows_of_the_table_have_the_published_index_and_string(space):
    table = published("nb201", "index", "arch", "ops")
    np.testing.assert_array_equal(space.index(table["ops"]), table["index"])
    np.testing.assert_array_equal(space.genes_at(table["index"]), table["ops"])
    np.testing.assert_array_equal(space.genes_of(table["arch"].tolist()), table["ops"])
    assert space.arch_strings(table["ops"]) == table["arch"].tolist()


def test_networks_printed_by_the_authors_have_their_index_and_costs():
    """Printed in D-X-Y/NATS-Bench, issues 18, 24 and 36, for three datasets."""
    printed = {
        (32, 10): ([15.64737, 113.95, 113.95137], [None, 0.802, 0.802426]),
        (32, 100): ([15.65322, 113.96, None], [None, 0.808, None]),
        (16, 120): ([3.91948, 28.50, None], [None, 0.810, None]),
    }
    for (image_size, num_classes), costs in printed.items():
        space = NASBench201(image_size=image_size, num_classes=num_classes)
        genes = space.genes_of([FIRST, SECOND, OTHER])
        assert space.index(genes)[:2].tolist() == [0, 1]
        layers = space.layer_table(genes)
        # the authors count the addition of the classifier's bias
        own_costs = (layers.macs + num_classes, layers.parameters)
        for ours, theirs in zip(own_costs, costs, strict=True):
            for own, other in zip(ours / 1e6, theirs, strict=True):
                digits = len(str(other).partition(".")[2])
                assert other is None or round(own, digits) == other


def test_index_and_string_go_both_ways_for_every_network(space):
    genes = all_genes([len(OPERATIONS)] * len(EDGES))
    index = space.index(genes)
    np.testing.assert_array_equal(np.sort(index), np.arange(space.cardinality))
    np.testing.assert_array_equal(space.genes_at(index), genes)
    np.testing.assert_array_equal(space.genes_of(space.arch_strings(genes)), genes)


def test_all_cells_of_a_network_are_alike():
    space = NASBench201(cells=2, image_size=8)
    graph = space.graph(space.genes_of([SECOND])[0])
    cells = {}
    for layer in graph.layers:
        if ".cell" in layer.name:
            cell, _, rest = layer.name.partition(".node")
            cells.setdefault(cell, []).append((rest, layer.operator, layer.kernel))
    assert len(cells) == 6
    assert len({tuple(layers) for layers in cells.values()}) == 1
    operators = [operator for _, operator, _ in cells["stage0.cell0"]]
    assert operators.count("conv2d") == 3
    assert operators.count("add") == 3


def test_a_cell_of_cut_edges_gives_every_image_the_same_logits():
    nothing = Subnet(SMALL.graph(np.zeros(6, np.int16))).eval()
    with torch.no_grad():
        logits = nothing(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(logits, logits[:1].expand(3, -1))


def test_extracted_networks_equal_the_supernets_slices():
    rows = SMALL.genes_of([
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
        SECOND,
    ])  # fmt: skip
    assert_extracted_equal_sliced(SMALL, rows)


@pytest.mark.parametrize(
    "text",
    ["", "|none~0|", SECOND[:-1], SECOND + "|", SECOND.replace("~1", "~2"),
     FIRST.replace("nor_conv_1x1", "conv")],
    ids=["empty", "one edge", "cut", "long", "wrong source", "unknown operation"],
)  # fmt: skip
def test_strings_that_are_no_network_are_refused(text):
    with pytest.raises(BadInputError, match=r"no network of NAS-Bench-201; expected .*avg_pool"):
        SMALL.genes_of([FIRST, text])


@pytest.mark.parametrize("index", [-1, 15_625, 0.5])
def test_places_outside_the_benchmark_are_refused(index):
    with pytest.raises(BadInputError, match="goes from 0 to 15624, got"):
        SMALL.genes_at([0, index])


@pytest.mark.parametrize("name", ["channels_first", "cells"])
def test_parameters_below_one_are_refused(name):
    with pytest.raises(BadInputError, match=f"{name} must be at least 1, got 0"):
        NASBench201(**{name: 0})
