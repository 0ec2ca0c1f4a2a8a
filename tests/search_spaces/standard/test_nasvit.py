import math
from dataclasses import replace

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces import least
from search_spaces.standard.nasvit import (
    PUBLISHED,
    AttentiveNASSpace,
    MobileStage,
    NASViTSpace,
)
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced

CONVOLUTIONAL = AttentiveNASSpace(
    image_size=16,
    channels=1,
    num_classes=3,
    resolutions=(8, 12, 16),
    stem_widths=(8, 16),
    stages=(
        MobileStage(widths=(8, 16), depths=(1, 2), expansions=(1,), stride=1),
        MobileStage(widths=(16,), depths=(1, 3), kernels=(3,), expansions=(2, 3), se=True),
    ),
    last_widths=(8, 16),
)

HYBRID = NASViTSpace(
    image_size=16,
    channels=1,
    num_classes=3,
    resolutions=(10, 16),
    stem_widths=(8,),
    stages=(
        MobileStage(widths=(8, 16), depths=(1, 2), kernels=(3,), expansions=(1, 2)),
        MobileStage(widths=(8, 16, 24), depths=(1, 2, 3), kernels=(3, 5), expansions=(2,),
                    se=True, attention=True),
    ),
    last_widths=(8, 16),
)  # fmt: skip


@pytest.fixture(scope="module")
def attentive_nas():
    return AttentiveNASSpace()


@pytest.fixture(scope="module")
def nasvit():
    return NASViTSpace()


class TestAttentiveNASSpace(SearchSpaceContract):
    space = CONVOLUTIONAL

    def other(self):
        return replace(CONVOLUTIONAL, resolutions=(16,))


class TestNASViTSpace(SearchSpaceContract):
    space = HYBRID

    def other(self):
        return replace(HYBRID, last_widths=(8,))


def choices_of(space):
    """All choices are free: of the network, its ends, and every stage."""
    stages = ((s.widths, s.depths, s.kernels, s.expansions) for s in space.stages)
    return [space.resolutions, space.stem_widths, space.last_widths, *sum(stages, ())]


def test_cardinality_is_the_product_of_all_choices(attentive_nas, nasvit):
    for space in (CONVOLUTIONAL, HYBRID, attentive_nas, nasvit):
        assert space.cardinality == math.prod(map(len, choices_of(space)))


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_networks_have_the_published_macs(attentive_nas, name):
    """The README's millions, rounded: no deviation costs anything."""
    graph = attentive_nas.graph(attentive_nas.published(name))
    assert graph.macs == pytest.approx(PUBLISHED[name].macs, abs=0.5e6)


def test_published_networks_do_not_lie_in_other_spaces(nasvit):
    with pytest.raises(BadInputError, match=r"'stage5\.width' cannot be restricted to"):
        nasvit.published("AttentiveNAS-A2")
    with pytest.raises(UnknownNameError, match="Known: AttentiveNAS-A0, AttentiveNAS-A1"):
        nasvit.published("AttentiveNAS-A")


def test_macs_of_nasvits_published_family_lie_within_the_space(nasvit):
    """A0 to A5 have 208 to 757 M MACs; their architectures are not published."""
    macs = nasvit.layers.columns["macs"].astype(np.float64)
    low, _ = least(nasvit, nasvit.layers, macs)
    high, _ = least(nasvit, nasvit.layers, -macs)
    assert low < 208e6
    assert -high > 757e6
    assert low > 0.8 * 208e6  # the smallest is not far below A0


def test_a_resolution_costs_what_images_of_that_size_cost():
    for resolution in CONVOLUTIONAL.resolutions:
        fixed = replace(CONVOLUTIONAL, image_size=resolution, resolutions=(resolution,))
        for row in fixed.sample(20, np.random.default_rng(0)):
            chosen = dict(fixed.decode(row)[0].items) | {"resolution": resolution}
            (architecture,) = CONVOLUTIONAL.decode(
                [[c.values.index(chosen[c.name]) for c in CONVOLUTIONAL.choices]]
            )
            own, resized = fixed.graph(row), CONVOLUTIONAL.graph(architecture)
            assert (own.macs, own.parameters) == (resized.macs, resized.parameters)
            names = [layer.name for layer in resized.layers if layer.operator != "resize"]
            assert names == [layer.name for layer in own.layers]


def test_transformer_blocks_cost_what_a_count_by_hand_gives(nasvit):
    """Queries and keys as wide as the block, values four times, two MLPs of ratio 1."""
    genes = nasvit.sample(20, np.random.default_rng(0))
    seen = 0
    for row in genes:
        blocks = {}
        for layer in nasvit.graph(row).layers:
            if ".layer" in layer.name:
                blocks.setdefault(".".join(layer.name.split(".")[:2]), []).append(layer)
        for name, layers in blocks.items():
            if int(name[5]) < 3 or name.endswith("layer0"):
                assert all(x.operator != "attention" for x in layers)
                continue
            seen += 1
            c, n = layers[0].channels, layers[0].height * layers[0].width
            dense = 2 * c * c + c * 4 * c + 4 * c * c + 4 * c * c
            biases = 2 * c + 4 * c + c + 4 * c
            assert sum(x.parameters for x in layers) == (
                dense + biases + 9 * 4 * c + 3 * 2 * c + 3 * c
            )
            assert sum(x.macs for x in layers) == n * (dense + 9 * 4 * c) + n * n * (c + 4 * c)
    assert seen > 100


def test_scales_have_a_slot_for_every_width_and_depth_of_their_stage():
    scale = next(i for i, node in enumerate(HYBRID.nodes) if node.operator == "scale")
    genes = HYBRID.sample(500, np.random.default_rng(0))
    table = HYBRID.layer_table(genes)
    there = table.column("active")[:, scale] > 0
    position = {c.name: j for j, c in enumerate(HYBRID.choices)}
    width, depth = (genes[there, position[f"stage1.{n}"]] for n in ("width", "depth"))
    np.testing.assert_array_equal(table.column("slot")[there, scale], width * 3 + depth)
    assert set(depth) == {1, 2}


def test_maps_of_odd_size_are_halved_upwards_in_block_and_shortcut():
    space = replace(HYBRID, image_size=10, resolutions=(10,))
    layers = {x.name: x for x in space.graph(space.extremes("smallest")[0]).layers}
    pool = layers["stage1.layer0.shortcut.pool"]
    assert (pool.in_height, pool.padding, pool.height) == (3, 1, 2)
    assert layers["stage1.layer0.add"].height == 2


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ({"depths": (0, 1)}, r"at least one block, got depths \(0, 1\)"),
        ({"kernels": (3, 4)}, r"kernels must be odd, got \(3, 4\)"),
        ({"widths": (8, 12), "attention": True}, r"widths that 8 divides .* got \(8, 12\)"),
    ],
)
def test_bad_stages_are_refused(stage, why):
    with pytest.raises(BadInputError, match=why):
        MobileStage(**{"widths": (8, 16), "depths": (1, 2), **stage})


def test_resolutions_beyond_the_images_are_refused():
    with pytest.raises(BadInputError, match=r"resolutions \(8, 32\) go beyond image_size 16"):
        replace(CONVOLUTIONAL, resolutions=(8, 32))


@pytest.mark.parametrize("space", [CONVOLUTIONAL, HYBRID], ids=["AttentiveNAS", "NASViT"])
def test_extracted_networks_equal_the_supernets_slices(space):
    rows = [*space.sample(4, np.random.default_rng(0)), *space.extremes("largest")]
    assert_extracted_equal_sliced(space, rows)
