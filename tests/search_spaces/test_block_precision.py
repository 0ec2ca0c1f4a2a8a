"""Precision by stage or block: a choice wherever there is something to quantise."""

from dataclasses import dataclass

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace, WithBlockPrecision
from search_spaces.block_names import block_of, stage_of

CNN, VIT, HYBRID = CNNSpace(image_size=16), ViTSpace(image_size=16), HybridSpace(image_size=16)
SPACES = [
    WithBlockPrecision(base=base, by=by, quantisation=way)
    for base in (CNN, VIT, HYBRID)
    for by in ("stage", "block")
    for way in ("static", "dynamic")
]
NAMES = [f"{s.base.name}-{s.by}-{s.quantisation}" for s in SPACES]
OPERATORS = {"static": {"conv2d", "linear"}, "dynamic": {"linear"}}
GROUP = {"stage": stage_of, "block": block_of}


def groups(space, row):
    """What a network has to quantise, by its own graph."""
    return {
        GROUP[space.by](layer.name)
        for layer in space.graph(row).layers
        if layer.operator in OPERATORS[space.quantisation]
    }


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_a_choice_is_there_where_the_network_has_something_to_quantise(space):
    rows = space.sample(20, np.random.default_rng(0))
    first = len(space.base.choices)
    for row, active in zip(rows, space.active(rows)[:, first:], strict=True):
        names = {c.name for c, on in zip(space.choices[first:], active, strict=True) if on}
        assert names == {f"{group}.precision" for group in groups(space, row)}
    assert {c.scope for c in space.choices[first:]} == {"numerics"}


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_rows_say_which_blocks_stay_in_fp32(space):
    rng = np.random.default_rng(1)
    for row in space.sample(10, rng):
        base = space.to_base(row)
        there = sorted(groups(space, row))
        chosen = [block for block in there if rng.random() < 0.5]
        (mixed,) = space.with_fp32(base, chosen)
        np.testing.assert_array_equal(space.to_base(mixed), base)
        assert set(space.fp32_blocks(mixed)) == set(chosen)
        assert bool(space.is_fp32(mixed)[0]) == (chosen == there)


def test_blocks_stand_in_the_order_in_which_they_run():
    space = WithBlockPrecision(base=VIT)
    assert space.blocks == ("patches", *(f"layer{i}" for i in range(6)), "classifier")
    dynamic = WithBlockPrecision(base=CNN, quantisation="dynamic")
    assert dynamic.blocks == ("classifier",)
    assert WithBlockPrecision(base=CNN, by="block").fp32_blocks(
        WithBlockPrecision(base=CNN, by="block").with_fp32(
            CNN.extremes("smallest"), ["stage0.layer0", "stage0.layer2"]
        )
    ) == ("stage0.layer0",)  # the smallest network has no layer 2


def test_precision_leaves_the_networks_alone():
    space = WithBlockPrecision(base=HYBRID)
    rows = space.sample(30, np.random.default_rng(2))
    np.testing.assert_array_equal(
        space.layer_table(rows).macs, HYBRID.layer_table(space.to_base(rows)).macs
    )
    assert space.graph(rows[0]) == HYBRID.graph(space.to_base(rows)[0])
    np.testing.assert_array_equal(space.without_platform(rows), rows)


def test_the_number_of_rows_is_that_of_all_combinations():
    base = CNN.freeze({choice.name: choice.values[0] for choice in CNN.choices[1:]})
    space = WithBlockPrecision(base=base)
    assert len(space.blocks) == 5
    assert space.cardinality == base.cardinality * 2**5 == len(space.enumerate())


def test_the_extremes_are_wholly_in_int8_and_wholly_in_fp32():
    space = WithBlockPrecision(base=CNN)
    smallest = space.extremes("smallest")
    assert sorted(space.is_fp32(smallest)) == [False, True]
    assert {len(space.fp32_blocks(row)) for row in smallest} == {0, 5}


@pytest.mark.parametrize("space", SPACES[:4], ids=NAMES[:4])
def test_the_file_gives_the_space_back(space):
    again = SearchSpace.from_json(space.to_json())
    assert again == space
    assert again.hash == space.hash != space.base.hash
    assert again.choices == space.choices


@dataclass(frozen=True, kw_only=True)
class Convolutional(SearchSpace):
    """A network without a linear map."""

    def build(self, net, images):
        x = net.conv2d(images, net.choice("width", (8, 16)), kernel=3, name="stem")
        return net.global_pool(net.conv2d(x, self.num_classes, kernel=1, name="last"))


def test_there_must_be_something_to_quantise():
    assert WithBlockPrecision(base=Convolutional()).blocks == ("stem", "last")
    with pytest.raises(BadInputError, match=r"nothing that dynamic quantisation .*\(linear\)"):
        WithBlockPrecision(base=Convolutional(), quantisation="dynamic")


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'block'"):
        WithBlockPrecision(base=CNN, by="blocks")
    with pytest.raises(UnknownNameError, match="did you mean 'static'"):
        WithBlockPrecision(base=CNN, quantisation="statik")
    space = WithBlockPrecision(base=CNN)
    with pytest.raises(BadInputError, match="declared twice"):
        WithBlockPrecision(base=space)
    with pytest.raises(UnknownNameError, match="did you mean 'stage1'"):
        space.with_fp32(CNN.extremes("smallest"), ["stag1"])
    with pytest.raises(BadInputError, match="got 2 rows"):
        space.fp32_blocks(space.sample(2, np.random.default_rng(0)))
    with pytest.raises(BadInputError, match="has a 'base'"):
        SearchSpace.from_json({**space.to_json(), "parameters": {"by": "stage"}})
