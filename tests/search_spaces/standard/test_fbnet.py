import numpy as np
import pytest

from records import BadInputError
from search_spaces.primitives import operator_index
from search_spaces.standard import FBNetSpace
from search_spaces.standard.fbnet import BLOCKS
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced
from tests.search_spaces.standard.tables import assert_equals_float32, published

SMALL = FBNetSpace(
    image_size=16, num_classes=10, stem_width=8, depths=(1, 2, 2), widths=(8, 16, 24),
    strides=(1, 2, 2), head_width=32,
)  # fmt: skip

FBNET_C = (
    "k3_e1", "k3_e6", "skip", "k3_e1", "k3_e1", "k5_e6", "k5_e3", "k5_e6", "k3_e6",
    "k5_e6", "k5_e3", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e3",
    "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k3_e6",
)  # fmt: skip


class TestFBNetSpace(SearchSpaceContract):
    space = SMALL

    def other(self):
        return FBNetSpace.cifar100()


def test_the_space_has_nine_kinds_in_22_layers():
    for space in (FBNetSpace(), FBNetSpace.cifar100()):
        assert space.cardinality == 9**22
        assert {choice.values for choice in space.choices} == {BLOCKS}


def test_fbnet_c_has_the_parameters_of_its_reimplementations():
    """5,572,200 in osmr/imgclsmob (`fbnet_cb`); 5.5 M in the paper, 375 M multiply-accumulates."""
    space = FBNetSpace()
    layers = space.layer_table(np.array([[BLOCKS.index(kind) for kind in FBNET_C]], np.int16))
    assert layers.parameters == 5_572_200
    assert layers.macs == pytest.approx(375e6, rel=0.03)


def test_all_rows_of_the_table_have_the_published_parameters():
    table = published("fbnet", "op_idx", "params_m")
    layers = FBNetSpace.cifar100().layer_table(table["op_idx"].astype(np.int16))
    assert_equals_float32(layers.parameters, table["params_m"])


def test_all_rows_of_the_table_have_the_published_flops_counted_as_flopth_counts():
    """Norms count 2 a value, activations and pooling 1, a module that runs twice counts once."""
    table = published("fbnet", "op_idx", "flops_m")
    layers = FBNetSpace.cifar100().layer_table(table["op_idx"].astype(np.int16))
    operator, elements = layers.column("operator"), layers.column("elements")
    counted = layers.macs.copy()
    for i, name in enumerate(layers.names):
        if name.endswith("norm"):
            counted += 2 * elements[:, i]
        elif name.endswith("activation") and ".expand." not in name:
            counted += elements[:, i] * (operator[:, i] == operator_index("activation"))
        if name == "head.activation":
            counted += elements[:, i]
    assert_equals_float32(counted, table["flops_m"])
    more = counted / layers.macs - 1
    assert 0.03 < more.min() < more.max() < 0.07


def layers_of(kind, place):
    """Operators of the layer of one kind at a place: 0 keeps its shape, 1 does not."""
    genes = np.full((1, len(SMALL.choices)), BLOCKS.index("k3_e1"), np.int16)
    genes[0, place] = BLOCKS.index(kind)
    prefix = SMALL.choices[place].name.removesuffix("block")
    return [layer for layer in SMALL.graph(genes[0]).layers if layer.name.startswith(prefix)]


def test_skip_is_nothing_where_the_shape_stays_and_a_convolution_where_it_changes():
    assert layers_of("skip", 0) == []
    operators = [layer.operator for layer in layers_of("skip", 1)]
    assert operators == ["conv2d", "batch_norm", "activation"]
    shrink = layers_of("skip", 1)[0]
    assert (shrink.kernel, shrink.stride, shrink.in_channels, shrink.channels) == (1, 2, 8, 16)


@pytest.mark.parametrize("kind", BLOCKS[:-1])
@pytest.mark.parametrize("place", [0, 1], ids=["same shape", "other shape"])
def test_a_kinds_name_is_what_it_does(kind, place):
    layers = layers_of(kind, place)
    convolutions = [layer for layer in layers if layer.operator == "conv2d"]
    expand, depthwise, project = convolutions
    kernel, expansion, *groups = kind.split("_")
    assert depthwise.kernel == int(kernel[1:])
    assert depthwise.groups == expand.channels == int(expansion[1:]) * expand.in_channels
    assert expand.groups == project.groups == (2 if groups else 1)
    shuffled = [layer.operator for layer in layers].count("channel_shuffle")
    assert shuffled == len(groups)
    assert layers[-1].operator == ("add" if place == 0 else "batch_norm")


def test_extracted_networks_equal_the_supernets_slices():
    kinds = [
        ["k5_e6", "k3_e1_g2", "skip", "skip", "k5_e3"],
        ["skip", "k3_e6", "k5_e1_g2", "k5_e1", "k3_e1_g2"],
    ]
    rows = [np.array([BLOCKS.index(kind) for kind in row], np.int16) for row in kinds]
    assert_extracted_equal_sliced(SMALL, rows)


@pytest.mark.parametrize(
    "parameters",
    [{"depths": (1, 2)}, {"strides": (1, 2)}, {"depths": (0, 1, 2), "widths": (8, 8, 8),
      "strides": (1, 1, 1)}],
    ids=["too few depths", "too few strides", "depth 0"],
)  # fmt: skip
def test_stages_that_do_not_fit_each_other_are_refused(parameters):
    with pytest.raises(BadInputError, match="one entry for each stage, depths of 1 or more; got"):
        FBNetSpace(**parameters)
