import numpy as np
import pytest

from records import BadInputError
from search_spaces import HybridSpace, HybridStage
from tests.search_spaces.contract import SearchSpaceContract


class TestHybridSpace(SearchSpaceContract):
    space = HybridSpace(image_size=16, channels=1)

    def other(self):
        return HybridSpace(image_size=16, channels=1, stages=(HybridStage(stride=1),))


def test_a_stage_without_blocks_has_neither_blocks_nor_tokens():
    space = HybridSpace(image_size=16, stages=(HybridStage(depths=(0, 2)),))
    graph = space.graph(space.extremes("smallest")[0])
    names = [layer.name for layer in graph.layers]
    assert not [n for n in names if "layer" in n or "tokens" in n or "map" in n]
    assert names[-3:] == ["stage0.begin.activation", "pool", "classifier"]


@pytest.mark.parametrize("block", ["conv", "attention"])
def test_a_space_of_one_kind_of_block_has_no_genes_of_the_other(block):
    space = HybridSpace(image_size=16, stages=(HybridStage(blocks=(block,)),))
    kinds = {c.name.rsplit(".", 1)[-1] for c in space.choices}
    of_block = {"conv": {"kernel", "expansion"}, "attention": {"heads", "mlp_ratio"}}
    assert kinds == {"width", "depth", *of_block[block]}
    assert len(space.extremes("largest")) == 1
    both = HybridSpace(image_size=16, stages=(HybridStage(),))
    j = [c.name for c in both.choices].index("stage0.block")
    rows = both.extremes("largest")
    (row,) = rows[rows[:, j] == both.choices[j].values.index(block)]
    assert space.graph(space.extremes("largest")[0]).layers == both.graph(row).layers


def test_extremes_are_one_for_each_kind_of_block():
    space = HybridSpace(image_size=16)
    for which, most in (("largest", np.max), ("smallest", np.min)):
        rows = space.extremes(which)
        assert len(rows) == 2
        np.testing.assert_array_equal(rows, space.gene_space.check(rows))
        genes = space.sample(20_000, np.random.default_rng(0))
        macs = space.layer_table(np.concatenate([rows, genes])).macs
        assert macs[:2].min() == most(macs) or macs[:2].max() == most(macs)
    blocks = [
        {v for n, v in a.items if n.endswith("block")}
        for a in space.decode(space.extremes("largest"))
    ]
    assert blocks == [{"conv"}, {"attention"}]


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ({"kernels": (2, 3)}, r"kernels must be odd, got \(2, 3\)"),
        ({"blocks": ("conv", "atention")}, "unknown block 'atention'; did you mean 'attention'"),
        ({"depths": (-1, 1)}, r"0 or more blocks, got depths \(-1, 1\)"),
        ({"depths": ()}, "'stage0.depth' has no values"),
        ({"blocks": ()}, "'stage0.block' has no values"),
        ({"stride": 0}, r"'stage0\.begin\.conv'.*stride below 1"),
        ({"heads": (0, 2)}, "would have fewer than 1 head"),
    ],
)
def test_bad_stages_are_refused_when_the_space_is_made(stage, why):
    with pytest.raises(BadInputError, match=why):
        HybridSpace(stages=(HybridStage(**stage),))
