import math
from dataclasses import dataclass

import numpy as np
import pytest

from predictors import Entropy, entropy, rank_quality
from search_spaces import CNNSpace, HybridSpace, SearchSpace, ViTSpace
from search_spaces.blocks import classifier, mbconv, squeeze_excite
from search_spaces.expression import is_equal
from search_spaces.standard import NASBench201
from tests.python_calls import calls_of


@dataclass(frozen=True, kw_only=True)
class ChainSpace(SearchSpace):
    """Three stages: two layers, one layer of chosen kernel, two of which one is depthwise.

    One layer of the first mixes positions, that of the second, and both of the third.
    """

    image_size: int = 16

    def build(self, net, images):
        kernel = net.choice("kernel", (3, 5))
        dead = net.choice("dead", (0, 1))
        x = net.conv2d(images, 8, kernel=3, name="a")
        x = net.activation(net.batch_norm(net.conv2d(x, 8, kernel=1, name="b")), "relu")
        x = net.conv2d(x, 12, kernel=kernel, stride=2, name="c")
        x = net.depthwise(x, kernel=3, stride=2, name="d")
        with net.when(is_equal(dead, 1)):
            x = net.zeros(x)
        return classifier(net, net.conv2d(x, 20, kernel=3, name="e"), self.num_classes)


def of(space, rows):
    return entropy(space.layer_table(space.gene_space.check(rows)))


def test_a_chain_has_the_entropy_of_the_papers_formula():
    found = of(ChainSpace(), [[0, 0], [1, 0]])
    for i, kernel in enumerate((3, 5)):
        widths = [3 * 9, 8, 8 * kernel**2, 12 * 9 / 12, 12 * 9]
        sums = np.cumsum(np.log(widths)) / 2
        ends = [(16 * 16 * 8, sums[1]), (8 * 8 * 12, sums[2]), (4 * 4 * 20, sums[4])]
        stages = [math.log(size) * total for size, total in ends]
        expected = stages[0] + stages[1] + 8 * stages[2]
        assert found.entropy[i] == pytest.approx(expected, rel=1e-12)
        spread = np.std([1, 2])  # the first stage is a stem
        assert found.depth_spread[i] == pytest.approx(spread)
        assert found.score[i] == pytest.approx(expected - 10 * math.exp(spread))
        assert found.depth[i] == 5
        assert found.effectiveness[i] == pytest.approx(5 / np.prod(widths) ** (1 / 5))


def test_weights_of_the_stages_and_of_the_penalty_may_be_others():
    space = ChainSpace()
    table = space.layer_table(space.gene_space.check([[0, 0]]))
    plain = entropy(table, last_stage=1, penalty=0)
    assert plain.score == plain.entropy
    last = entropy(table, last_stage=3, penalty=0).score - plain.score
    assert entropy(table).entropy - plain.score == pytest.approx(last * 7 / 2)


@dataclass(frozen=True, kw_only=True)
class InvertedSpace(SearchSpace):
    """A stem, and three stages of inverted bottlenecks; the depth of the last is chosen."""

    image_size: int = 16

    def build(self, net, images):
        depth = net.choice("depth", (2, 3, 6))
        x = net.conv2d(images, 8, kernel=3, stride=2, name="stem")
        for s, blocks in enumerate((2, 2, 6)):
            for i in range(blocks):
                with net.scope(f"stage{s}.block{i}"), net.when(depth > i if s == 2 else True):
                    x = mbconv(net, x, 8 * 2**s, kernel=3, expansion=4, stride=2 if i == 0 else 1,
                               shortcut=i > 0)  # fmt: skip
        return classifier(net, x, self.num_classes)


def test_depths_vary_in_blocks_and_without_the_stem():
    found = of(InvertedSpace(), [[0], [1], [2]])
    spreads = [np.std([2, 2, depth]) for depth in (2, 3, 6)]
    np.testing.assert_allclose(found.depth_spread, spreads, atol=1e-6)
    assert found.depth.tolist() == [19, 22, 31]


def test_the_penalty_does_not_outweigh_what_deep_stages_gain():
    """More blocks are more entropy, and the score says so too."""
    found = of(InvertedSpace(), [[0], [1], [2]])
    assert (np.diff(found.score) > 0).all()
    assert (found.entropy - found.score < 0.1 * found.entropy).all()


def test_what_no_path_reaches_has_none():
    found = of(ChainSpace(), [[0, 1], [0, 0]])
    for name in Entropy.__dataclass_fields__:
        assert math.isnan(getattr(found, name)[0])
        assert math.isfinite(getattr(found, name)[1])


def test_of_joined_paths_the_one_of_most_entropy_counts_and_gates_are_none():
    @dataclass(frozen=True, kw_only=True)
    class Joined(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            branches = net.choice("branches", (1, 2))
            gated = net.choice("gated", (0, 1))
            x = net.conv2d(images, 8, kernel=1, name="stem")
            deep = net.conv2d(net.conv2d(x, 8, kernel=3, name="x1"), 8, kernel=3, name="x2")
            wide = net.conv2d(x, 8, kernel=5, name="x3")
            with net.when(is_equal(branches, 2)):
                deep = net.add(deep, wide)
            with net.when(is_equal(gated, 1)):
                deep = squeeze_excite(net, deep, hidden=4)
            return classifier(net, net.add(x, deep, name="sum"), self.num_classes)

    found = of(Joined(), [[0, 0], [1, 0], [0, 1], [1, 1]])
    total = (math.log(3) + 2 * math.log(72)) / 2
    np.testing.assert_allclose(found.entropy, 8 * math.log(64 * 8) * total)
    assert found.depth.tolist() == [3, 3, 3, 3]


def test_a_gate_is_no_path_also_where_it_is_the_deeper_one():
    @dataclass(frozen=True, kw_only=True)
    class Gated(SearchSpace):
        image_size: int = 8

        def build(self, net, images):
            x = net.conv2d(images, net.choice("width", (4, 8)), kernel=1, name="stem")
            deep = net.conv2d(
                net.conv2d(x, 8, kernel=3, name="g1"), x.channels, kernel=3, name="g2"
            )
            return classifier(net, net.multiply(x, net.squeeze(deep)), self.num_classes)

    found = of(Gated(), [[0], [1]])
    sizes = 8 * 8 * np.array([4, 8])
    np.testing.assert_allclose(found.entropy, 8 * np.log(sizes) * math.log(3) / 2)
    assert found.depth.tolist() == [1, 1]


def test_an_attention_layer_is_as_wide_as_what_it_reads():
    space = ViTSpace(image_size=16, patch_sizes=(4, 8), embed_dims=(48, 64), depths=(1, 2))
    row = space.extremes("smallest")
    found = of(space, row)
    layers = space.graph(row[0]).layers
    widths = [
        layer.in_channels * max(layer.kernel, 1) ** 2 / max(layer.groups, 1)
        for layer in layers[:-1]
        if layer.operator in ("conv2d", "linear", "attention")
    ]
    assert len(widths) == 5
    pooled = next(layer for layer in layers if layer.operator == "global_pool")
    size = pooled.in_channels * pooled.in_height * pooled.in_width
    assert found.entropy[0] == pytest.approx(8 * math.log(size) * np.log(widths).sum() / 2)


@pytest.mark.parametrize(
    "space", [CNNSpace(), HybridSpace(), NASBench201(cells=1)], ids=lambda s: s.name
)
def test_a_row_scores_the_same_among_others(space):
    rows = space.sample(40, np.random.default_rng(0))
    together = of(space, rows).score
    alone = np.concatenate([of(space, row[None]).score for row in rows])
    np.testing.assert_array_equal(together, alone)


def test_no_path_means_no_accuracy_on_nas_bench_201():
    """A cell without a path from its input to its output: 341 of them, as the benchmark says."""
    space = NASBench201(cells=1)
    assert int(np.isnan(of(space, space.enumerate()).score).sum()) == 341


def test_it_looks_at_each_layer_of_all_networks_at_once():
    space = CNNSpace()
    few, many = (
        space.layer_table(space.sample(n, np.random.default_rng(0))) for n in (200, 20_000)
    )
    entropy(few)  # what is made once is there
    assert calls_of(lambda: entropy(many)) == calls_of(lambda: entropy(few))
    assert rank_quality(entropy(many).score, many.macs).spearman > 0.3
