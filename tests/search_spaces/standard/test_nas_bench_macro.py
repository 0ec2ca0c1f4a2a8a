import numpy as np
import pytest

from records import BadInputError
from search_spaces.standard import NASBenchMacro
from search_spaces.tabulate import all_genes
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced
from tests.search_spaces.standard.tables import published

SMALL = NASBenchMacro(image_size=16, stem_width=4, head_width=16)


class TestNASBenchMacro(SearchSpaceContract):
    space = SMALL

    def other(self):
        return NASBenchMacro(image_size=16, stem_width=8, head_width=16)


def test_the_space_has_6561_networks():
    assert NASBenchMacro().cardinality == 6_561


def test_all_rows_of_the_table_have_the_published_costs():
    table = published("nb_macro", "arch", "params", "flops")
    space = NASBenchMacro()
    layers = space.layer_table(space.genes_of(table["arch"]))
    np.testing.assert_array_equal(layers.macs, table["flops"])
    np.testing.assert_array_equal(layers.parameters, table["params"])


def test_the_smallest_network_counted_by_hand():
    """Identities only: stem, three strided 1x1 convolutions, head and classifier."""
    layers = NASBenchMacro().layer_table(np.zeros((1, 8), np.int16))
    convolutions = [(27 * 32, 32), (32 * 64, 16), (64 * 128, 8), (128 * 256, 4), (256 * 1280, 4)]
    assert layers.macs == sum(weights * size**2 for weights, size in convolutions) + 1280 * 10
    norms = 2 * (32 + 64 + 128 + 256 + 1280)
    assert layers.parameters == sum(weights for weights, _ in convolutions) + norms + 1281 * 10


def test_names_go_both_ways_for_every_network():
    genes = all_genes([3] * 8)
    names = SMALL.names(genes)
    assert len(set(names)) == 6_561
    np.testing.assert_array_equal(SMALL.genes_of(names), genes)


def test_a_digit_is_the_kind_of_its_layer():
    graph = SMALL.graph(SMALL.genes_of(["00120012"])[0])
    depthwise = {
        layer.name.rpartition(".depthwise")[0]: (layer.kernel, layer.channels / layer.width)
        for layer in graph.layers
        if layer.operator == "conv2d" and layer.groups > 1
    }
    kernels = {name: kernel for name, (kernel, _) in depthwise.items()}
    assert kernels == {
        "stage1.layer0": 3, "stage1.layer1": 5, "stage2.layer1": 3, "stage2.layer2": 5,
    }  # fmt: skip
    channels = {layer.name: layer.channels for layer in graph.layers}
    assert channels["stage1.layer0.depthwise.conv"] == 3 * 8
    assert channels["stage1.layer1.depthwise.conv"] == 6 * 16


def test_extracted_networks_equal_the_supernets_slices():
    assert_extracted_equal_sliced(SMALL, SMALL.genes_of(["01201120", "22222222", "10010210"]))


@pytest.mark.parametrize("name", ["0122012", "012201201", "0122013a", ""])
def test_names_that_are_no_network_are_refused(name):
    with pytest.raises(BadInputError, match="no network of NAS-Bench-Macro; expected 8 of the"):
        SMALL.genes_of(["00000000", name])
