from collections import Counter

import numpy as np
import pytest

from deployment import Lowering
from deployment.kernel_tables.descriptions import (
    DESCRIPTION,
    DescribedLowering,
    KernelDescription,
    as_descriptions,
    one_network,
)
from deployment.kernel_tables.fusion import Fusion
from records import BadInputError
from search_spaces import CNNSpace, ConvStage, HybridSpace, Node, ViTSpace
from search_spaces.primitives import ATTRIBUTES

SPACES = {
    "cnn": CNNSpace(
        image_size=16,
        stages=(
            ConvStage(se=(0, 1), activations=("relu", "hardswish", "silu")),
            ConvStage(stride=2),
        ),
    ),
    "vit": ViTSpace(
        image_size=16, depths=(1, 2, 3), windows=(0, 2), mixings=("softmax", "linear")
    ),
    "hybrid": HybridSpace(image_size=16),
}


def kernels_of(lowering, row):
    place = lowering.description_of_variant[lowering.tabulation.codes(row)[:, 0]]
    return as_descriptions(lowering.descriptions[place[place >= 0]])


@pytest.mark.parametrize("name", SPACES)
def test_usual_columns_are_those_of_the_plain_lowering(name):
    space = SPACES[name]
    genes = space.sample(200, np.random.default_rng(0))
    plain, described = Lowering(space).table(genes), DescribedLowering(space).table(genes)
    for column in plain.flat:
        np.testing.assert_array_equal(described.column(column), plain.column(column))


@pytest.mark.parametrize("name", SPACES)
def test_kernels_of_a_network_are_those_of_the_network_declared_alone(name):
    space = SPACES[name]
    lowering = DescribedLowering(space, batch_size=3)
    for row in space.sample(6, np.random.default_rng(1)):
        alone = [
            Node(
                name=layer.name,
                operator=layer.operator,
                inputs=layer.inputs,
                attributes={name: getattr(layer, name) for name in ATTRIBUTES},
                active=True,
            )
            for layer in space.graph(row).layers
        ]
        ours = kernels_of(lowering, row[None])
        theirs = one_network(alone, batch_size=3, channel_block=8)
        assert Counter(ours) == Counter(theirs)
        assert len(ours) > 5


def test_descriptions_tell_apart_what_the_plain_columns_do_not():
    space = SPACES["cnn"]
    lowering = DescribedLowering(space)
    flat = lowering.tabulation.columns
    plain = Lowering(space).tabulation.columns
    there = flat["active"] > 0
    usual = np.unique(np.stack([flat[name][there] for name in plain], axis=1), axis=0)
    assert len(lowering.descriptions) > len(usual)


def test_folded_sums_and_activations_are_told():
    space = CNNSpace(image_size=16, stages=(ConvStage(activations=("relu", "hardswish")),))
    rows = as_descriptions(DescribedLowering(space).descriptions)
    pointwise = [row for row in rows if row.kind_name == "pointwise"]
    assert {row.has_sum for row in pointwise} == {0, 1}
    assert {row.activation for row in pointwise} == {0, 1, 3}
    assert {row.reads_plain for row in rows if row.kind_name == "convolution"} == {1}
    fusion = Fusion(space.nodes, space.choices, 8)
    assert len(fusion.plain) == len(space.nodes)


def test_absent_kernels_have_no_description():
    lowering = DescribedLowering(SPACES["hybrid"])
    there = lowering.tabulation.columns["active"] > 0
    np.testing.assert_array_equal(lowering.description_of_variant >= 0, there)
    flat = lowering.tabulation.columns
    for column, values in zip(DESCRIPTION, lowering.descriptions.T, strict=True):
        np.testing.assert_array_equal(
            values[lowering.description_of_variant[there]], flat[column][there]
        )


def test_a_description_reads_as_a_short_text():
    row = dict.fromkeys(DESCRIPTION, 0) | {"kind": 2, "operator": 1, "kernel": 3, "stride": 2}
    row |= {"in_channels": 32, "channels": 32, "height": 16, "width": 16}
    text = KernelDescription(**row).describe()
    assert text == "depthwise 3x3 /2, 32 to 32 channels, 16x16"


def test_arrays_of_another_width_are_refused():
    with pytest.raises(BadInputError, match=f"n x {len(DESCRIPTION)}"):
        as_descriptions(np.zeros((2, 3), np.int64))


def test_choices_left_open_are_refused():
    with pytest.raises(BadInputError, match="fix all choices"):
        one_network(SPACES["vit"].nodes, batch_size=1, channel_block=8)
