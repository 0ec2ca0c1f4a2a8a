import math
from dataclasses import replace

import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from search_spaces.standard.efficientformer import (
    PUBLISHED,
    EfficientFormerSpace,
    MetaStage,
)
from tests.search_spaces.contract import SearchSpaceContract
from tests.search_spaces.standard.extraction import assert_extracted_equal_sliced

SMALL = EfficientFormerSpace(
    image_size=16,
    channels=1,
    num_classes=3,
    stages=(
        MetaStage(widths=(8, 16), maps=(0, 2)),
        MetaStage(widths=(12, 16), maps=(0, 1), tokens=(0, 1)),
        MetaStage(widths=(16,), maps=(0, 1, 2), tokens=(0, 1, 2)),
    ),
    stem_stride=2,
    mixers=("pool", "conv"),
    mlp_ratios=(1, 2),
    heads=2,
    qk_dim=4,
    v_dim=6,
)


@pytest.fixture(scope="module")
def space():
    return EfficientFormerSpace()


class TestEfficientFormerSpace(SearchSpaceContract):
    space = SMALL

    def other(self):
        return replace(SMALL, stem_stride=1)


def test_cardinality_counts_maps_only_where_no_tokens_went_before(space):
    *early, third, last = space.stages
    maps = len(last.maps) + (len(third.tokens) - 1)  # chosen after no tokens, else none
    counts = [len(s.maps) for s in (*early, third)]
    widths = [len(s.widths) for s in space.stages]
    assert space.cardinality == math.prod(widths + counts) * maps * len(last.tokens)


def test_cardinality_of_a_small_space_is_that_of_its_distinct_networks():
    tiny = replace(SMALL, mixers=("pool",), mlp_ratios=(1,))
    genes = np.unique(tiny.sample(20_000, np.random.default_rng(0)), axis=0)
    assert len(genes) == tiny.cardinality == (2 * 2) * (2 * 2) * (3 + 1) * 3
    assert len({tuple(tiny.graph(row).layers) for row in genes}) == len(genes)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_networks_have_the_published_size_and_macs(space, name):
    """With what is left out within 0.4 % of the paper's parameters, and 0.8 % of its MACs."""
    graph, published = space.graph(space.published(name)), PUBLISHED[name]
    parameters = graph.parameters + published.left_out_parameters()
    assert parameters == pytest.approx(published.parameters, rel=0.004)
    assert graph.macs == pytest.approx(published.macs, rel=0.008)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("EfficientFormer-L1", 12.29), ("EfficientFormer-L3", 31.41), ("EfficientFormer-L7", 82.23)],
)
def test_published_networks_have_the_size_that_others_counted(space, name, millions):
    """To two digits, as in timm's and mmpretrain's tables of the same networks."""
    parameters = space.graph(space.published(name)).parameters
    assert round((parameters + PUBLISHED[name].left_out_parameters()) / 1e6, 2) == millions


def test_published_networks_are_known_by_name(space):
    with pytest.raises(UnknownNameError, match="Known: EfficientFormer-L1, EfficientFormer-L3"):
        space.published("EfficientFormer-L")
    with pytest.raises(BadInputError, match=r"'stage0\.width' cannot be restricted to"):
        SMALL.published("EfficientFormer-L1")


def test_once_tokens_always_tokens():
    attended = 0
    for row in SMALL.sample(300, np.random.default_rng(0)):
        operators = [layer.operator for layer in SMALL.graph(row).layers]
        mixers = [o for o in operators if o in ("avg_pool", "attention")]
        assert mixers == sorted(mixers, key=("avg_pool", "attention").index)
        assert operators.count("to_tokens") - operators.count("to_map") == 1
        attended += "attention" in mixers
    assert 50 < attended < 300


def test_a_block_on_maps_mixes_by_its_choice():
    kinds = {"pool": ["avg_pool"], "conv": ["conv2d", "batch_norm"]}
    for kind, operators in kinds.items():
        space = replace(SMALL, mixers=(kind,), stages=(MetaStage(widths=(8, 16), maps=(1,)),))
        layers = space.graph(space.extremes("largest")[0]).layers
        found = [x.operator for x in layers if x.name.startswith("stage0.map0.mixer")]
        assert found == [*operators, "scale", "add"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mixers": ("pool", "conf")}, "unknown mixer 'conf'; did you mean 'conv'"),
        ({"stem_stride": 3}, "stem_stride must be 1, 2 or 4, got 3"),
    ],
)
def test_bad_parameters_are_refused(change, why):
    with pytest.raises(BadInputError, match=why):
        replace(SMALL, **change)


def test_fewer_than_no_blocks_are_refused():
    with pytest.raises(BadInputError, match=r"tokens are 0 or more blocks, got \(-1, 0\)"):
        MetaStage(widths=(8,), maps=(1,), tokens=(-1, 0))


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (2, 8), (4, 4)])
def test_the_stem_has_the_stride_that_is_asked_for(stride, side):
    space = replace(SMALL, stem_stride=stride)
    layers = {x.name: x for x in space.graph(space.extremes("largest")[0]).layers}
    assert layers["stage0.stem1.conv"].height == side


def test_extracted_networks_equal_the_supernets_slices():
    rows = [*SMALL.sample(6, np.random.default_rng(0)), *SMALL.extremes("largest")]
    assert_extracted_equal_sliced(SMALL, rows)
