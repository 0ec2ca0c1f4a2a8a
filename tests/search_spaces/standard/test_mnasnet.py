import numpy as np
import pytest

from records import BadInputError
from search_spaces.standard import MnasNetSpace
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced

SMALL = MnasNetSpace(image_size=32, num_classes=10, width=0.25)


def configuration(expansions, kernels, layers, squeeze_excite):
    found = {}
    for s, values in enumerate(zip(expansions, kernels, layers, squeeze_excite, strict=True)):
        keys = ("e", "k", "l", "se")
        found |= {f"block{s}_{key}": v for key, v in zip(keys, values, strict=True)}
    return found


EFFICIENTNET_B0 = configuration(
    (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 3, 3, 4, 1), (True,) * 7
)


class TestMnasNetSpace(SearchSpaceContract):
    space = SMALL

    def other(self):
        return MnasNetSpace(image_size=32, width=0.25, activation="relu")


def test_the_space_has_10_to_the_11_networks():
    assert MnasNetSpace().cardinality == (3 * 2 * 2) ** 7 * 3**6 * 4 == 104_485_552_128


def test_efficientnet_b0_has_its_published_costs():
    """torchvision's `efficientnet_b0`: 5,288,548 parameters, 0.386 G multiply-accumulates."""
    space = MnasNetSpace()
    layers = space.layer_table(space.genes_of([EFFICIENTNET_B0]))
    assert layers.parameters == 5_288_548
    assert round(int(layers.macs[0]) / 1e9, 3) == 0.386


def test_configurations_go_both_ways():
    assert SMALL.configurations(SMALL.genes_of([EFFICIENTNET_B0])) == [EFFICIENTNET_B0]
    genes = SMALL.sample(300, np.random.default_rng(0))
    configurations = SMALL.configurations(genes)
    np.testing.assert_array_equal(SMALL.genes_of(configurations), genes)
    assert len({tuple(c.items()) for c in configurations}) == len(np.unique(genes, axis=0))


def test_squeeze_and_excitation_is_a_choice_of_each_stage():
    flags = (False, True, False, True, True, False, True)
    genes = SMALL.genes_of([configuration((4,) * 7, (3,) * 7, (2,) * 7, flags)])
    gates = {
        layer.name.partition(".")[0]
        for layer in SMALL.graph(genes[0]).layers
        if layer.operator == "multiply"
    }
    assert gates == {"stage1", "stage3", "stage4", "stage6"}


def test_extracted_networks_equal_the_supernets_slices():
    rows = [*SMALL.sample(2, np.random.default_rng(1)), SMALL.genes_of([EFFICIENTNET_B0])[0]]
    assert_extracted_equal_sliced(SMALL, rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block0_l": 4}, r"'stage0.depth' of row 0 is 4; allowed: \(1, 2, 3\)"),
        ({"block3_e": 3}, r"'stage3.expansion' of row 0 is 3; allowed: \(1, 4, 6\)"),
        ({"block7_e": 6}, "unknown key 'block7_e'; did you mean"),
    ],
)
def test_configurations_that_are_no_network_are_refused(change, message):
    with pytest.raises(BadInputError, match=message):
        SMALL.genes_of([{**EFFICIENTNET_B0, **change}])


def test_a_configuration_with_less_than_every_choice_is_refused():
    partial = {k: v for k, v in EFFICIENTNET_B0.items() if k not in ("block2_k", "block5_se")}
    with pytest.raises(BadInputError, match="row 1 lacks block2_k, block5_se"):
        SMALL.genes_of([EFFICIENTNET_B0, partial])
