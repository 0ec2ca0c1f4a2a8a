from dataclasses import replace

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces.standard.vit_resnas import PUBLISHED, ViTResNASSpace, ViTResNASStage
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced

SMALL = ViTResNASSpace(
    image_size=16,
    channels=1,
    num_classes=3,
    patch_size=4,
    patch_channels=4,
    stages=(
        ViTResNASStage(widths=(8, 12), blocks=2, heads=(1, 2), head_dim=4, hidden=(8, 16)),
        ViTResNASStage(widths=(16, 24), blocks=3, heads=(1, 3), head_dim=6, hidden=(20, 24, 28)),
    ),
)

HOMES = {
    "ViT-ResNAS-Tiny": ViTResNASSpace.tiny(),
    "ViT-ResNAS-Small": ViTResNASSpace.small(),
    "ViT-ResNAS-Medium": ViTResNASSpace.small(),
}


class TestViTResNASSpace(SearchSpaceContract):
    space = SMALL

    def other(self):
        return replace(SMALL, patch_channels=8)


def macs_by_hand(found, extra_tokens):
    """The authors' formula; with one extra token it is what they count."""
    side, total = 16, 3 * 24 * 9 * 112**2 + 2 * 24 * 24 * 9 * 112**2
    total += found.widths[0] * 24 * 49 * side**2
    for s, (width, blocks) in enumerate(zip(found.widths, found.blocks, strict=True)):
        if s:
            side //= 2
            total += 9 * found.widths[s - 1] * width * side**2
            total += found.widths[s - 1] * width * extra_tokens
        n, head_dim = side**2 + extra_tokens, (32, 48, 64)[s]
        for block in blocks:
            if block is not None:
                heads, hidden = block
                total += n * (4 * heads * head_dim + 2 * hidden) * width
                total += 2 * n * n * heads * head_dim
    return total + found.widths[-1] * 1000


@pytest.mark.parametrize("space", [SMALL, *HOMES.values()], ids=["small example", *HOMES])
def test_cardinality_is_a_product_of_blocks_half_of_which_may_be_left_out(space):
    expected = 1
    for stage in space.stages:
        block = len(stage.heads) * len(stage.hidden)
        expected *= len(stage.widths) * block ** ((stage.blocks + 1) // 2)
        expected *= (1 + block) ** (stage.blocks // 2)
    assert space.cardinality == expected


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_networks_have_the_published_size_and_macs(name):
    """Parameters with what is left out, MACs with a class token: both round as published."""
    space, published = HOMES[name], PUBLISHED[name]
    graph = space.graph(space.published(name))
    parameters = graph.parameters + published.left_out_parameters()
    assert round(parameters / 1e6) == published.parameters / 1e6
    assert round(macs_by_hand(published, 1) / 1e9, 1) == published.macs / 1e9
    assert graph.macs == macs_by_hand(published, 0)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_networks_are_architectures_of_their_space(name):
    space = HOMES[name]
    found = space.published(name)
    assert space.decode(space.encode(found)) == [found]
    attention = [x for x in space.graph(found).layers if x.operator == "attention"]
    assert [(x.heads, x.qk_dim) for x in attention] == [
        (block[0], dim)
        for blocks, dim in zip(PUBLISHED[name].blocks, (32, 48, 64), strict=True)
        for block in blocks
        if block is not None
    ]


def test_a_network_of_another_space_is_refused():
    with pytest.raises(BadInputError, match=r"'stage0\.width' cannot be restricted to"):
        ViTResNASSpace.tiny().published("ViT-ResNAS-Small")
    with pytest.raises(UnknownNameError, match="did you mean 'ViT-ResNAS-Tiny'"):
        ViTResNASSpace.tiny().published("ViT-ResNAS-Ti")


def test_a_reduction_adds_the_mean_to_as_many_channels_as_there_were():
    for row in SMALL.sample(50, np.random.default_rng(0)):
        layers = SMALL.graph(row).layers
        prefix = "stage1.reduction."
        named = {x.name.removeprefix(prefix): x for x in layers if x.name.startswith(prefix)}
        skip, old, new = named["pool"], named["old"], named["new"]
        assert skip.channels == skip.in_channels == old.channels
        assert old.channels + new.channels == named["concat"].channels
        assert (skip.height, old.height, new.height) == (2, 2, 2)
        (before,) = skip.inputs
        assert (
            layers[before].name == "stage1.reduction.skip"
        )  # what the normalisation has not seen


def test_blocks_may_be_left_out_independently():
    space = ViTResNASSpace.tiny()
    optional = [c.name for c in space.choices if c.name.endswith("present")]
    assert optional == [f"stage{s}.layer{i}.present" for s in range(3) for i in (1, 3, 5)]
    genes = space.sample(2000, np.random.default_rng(0))
    present = genes[:, [c.name in optional for c in space.choices]]
    assert len(np.unique(present[:, :3], axis=0)) == 8


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"patch_size": 3}, "patch_size must be even, got 3"),
        ({"stages": (SMALL.stages[0], SMALL.stages[0])}, "wider than the one before it"),
        ({"image_size": 18}, "patches that do not cover it"),
    ],
)
def test_bad_parameters_are_refused(change, why):
    with pytest.raises(BadInputError, match=why):
        replace(SMALL, **change)


def test_a_stage_without_blocks_is_refused():
    with pytest.raises(BadInputError, match="at least one block, got 0"):
        replace(SMALL.stages[0], blocks=0)


def test_extracted_networks_equal_the_supernets_slices():
    rows = [*SMALL.sample(6, np.random.default_rng(0)), *SMALL.extremes("largest")]
    assert_extracted_equal_sliced(SMALL, rows)
