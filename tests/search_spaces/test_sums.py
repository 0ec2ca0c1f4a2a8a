import math
from dataclasses import dataclass

import numpy as np
import pytest

from records import BadInputError
from search_spaces import CNNSpace, HybridSpace, SearchSpace, layer_values, sums
from search_spaces.blocks import classifier
from search_spaces.elimination import entries
from search_spaces.sums import SumChain
from tests.search_spaces.conditional import DeadSpace, EitherSpace, made_up
from tests.search_spaces.doubles import TINY

SPACES = [*TINY, EitherSpace(image_size=8), DeadSpace(image_size=8)]
every = pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)


@dataclass(frozen=True, kw_only=True)
class Powers(SearchSpace):
    """Independent layers whose MACs are 1, 9 and 25 times the same number."""

    layers_declared: int = 45

    def build(self, net, images):
        x = net.conv2d(images, 1, kernel=1)
        for i in range(self.layers_declared):
            with net.scope(f"layer{i}"):
                x = net.conv2d(x, 1, kernel=net.choice("kernel", (1, 3, 5)))
        return classifier(net, x, self.num_classes)


def chain_of(space, metric="macs"):
    return SumChain(space, *layer_values(space, metric))


@every
@pytest.mark.parametrize("metric", ["macs", "parameters", "elements"])
def test_counts_equal_enumeration(space, metric):
    expected, times = np.unique(
        space.layer_table(space.enumerate()).total(metric), return_counts=True
    )
    for counts in (
        chain_of(space, metric).count_all(1000),
        chain_of(space, metric).count(1000),
    ):
        there = np.flatnonzero(counts.counts)
        assert counts.is_exact
        assert counts.error == (0, 0)
        np.testing.assert_array_equal(counts.sums[there], expected)
        np.testing.assert_array_equal(counts.counts[there], times)


@every
@pytest.mark.parametrize("levels", [1, 100, 5000])
def test_rounded_counts_keep_their_bounds(space, levels):
    values, costs = made_up(space, 5)
    counts = SumChain(space, space.layers, values).count_all(levels)
    assert counts.counts.sum() == space.cardinality
    rng = np.random.default_rng(0)
    for _ in range(50):
        low, high = np.sort(rng.choice(costs, 2))
        surely, maybe = (
            counts.counts[counts.levels(low, high, surely=s)].sum() for s in (True, False)
        )
        assert surely <= ((costs >= low) & (costs <= high)).sum() <= maybe


@every
def test_draws_of_a_level_have_its_sum(space):
    values, _ = made_up(space, 6)
    counts = SumChain(space, space.layers, values).count(60)
    drawn = 0
    for level in np.flatnonzero(counts.counts):
        rows = counts.draw(30, np.random.default_rng(level), slice(level, level + 1))
        np.testing.assert_array_equal(rows, space.gene_space.check(rows))
        found = values[space.layers.codes(rows)].sum(axis=0) - counts.sums[level]
        assert (found >= counts.error[0] - 1e-9).all()
        assert (found <= counts.error[1] + 1e-9).all()
        drawn += len(np.unique(rows, axis=0)) <= counts.counts[level]
    assert drawn == np.count_nonzero(counts.counts)


def test_bands_beyond_the_ends_hold_everything_or_nothing():
    space = TINY[1]
    counts = chain_of(space).count_all(1000)
    for low, high, expected in (
        (-math.inf, math.inf, space.cardinality),
        (-math.inf, counts.sums[0] - 1, 0),
        (counts.sums[-1] + 1, math.inf, 0),
        (math.inf, math.inf, 0),
        (-math.inf, -math.inf, 0),
        (counts.sums[0], counts.sums[-1], space.cardinality),
    ):
        for surely in (True, False):
            assert counts.counts[counts.levels(low, high, surely=surely)].sum() == expected


def test_counts_beyond_64_bits_are_exact():
    """The coefficients of (1 + x + x^3)^45, multiplied out in Python's integers."""
    space = Powers(image_size=8)
    counts = chain_of(space).count_all(1000)
    expected = [1]
    for _ in range(45):
        padded = [0, 0, 0, *expected, 0, 0, 0]
        expected = [padded[i + 3] + padded[i + 2] + padded[i] for i in range(len(expected) + 3)]
    assert counts.counts.tolist() == expected
    assert sum(expected) == space.cardinality == 3**45 > 1 << 64
    floats = chain_of(space).count(1000)
    np.testing.assert_allclose(floats.counts, np.array(expected, float), rtol=1e-13)


def test_counts_that_wrap_around_on_the_way_are_right():
    """Numbers on the way may exceed 64 bits, those at the end do not."""
    space = Powers(image_size=8, layers_declared=40)
    assert 1 << 63 < space.cardinality < 1 << 64
    counts = chain_of(space).count_all(1000).counts
    assert counts.dtype == np.uint64
    assert int(counts.sum()) == 3**40
    # at one distance from the end: one layer of 40 is of the second kind
    assert counts[:2].tolist() == [1, 40]


def test_a_float_can_be_drawn_where_integers_are_too_long(monkeypatch):
    space = Powers(image_size=8)
    counts = chain_of(space).count(1000)
    rows = counts.draw(20_000, np.random.default_rng(0), slice(0, 136))
    shares = np.bincount(rows.ravel(), minlength=3) / rows.size
    np.testing.assert_allclose(shares, 1 / 3, atol=0.003)
    monkeypatch.setattr(sums, "_LARGEST_FLOAT", 1e20)
    with pytest.raises(BadInputError, match=r"a space with 10\^21 settings is too large to draw"):
        chain_of(space).count(1000)


def test_chunks_draw_like_one_array(monkeypatch):
    counts = chain_of(CNNSpace(image_size=16)).count(1000)
    monkeypatch.setattr(sums, "_CHUNK", 100)
    rows = counts.draw(500, np.random.default_rng(0), slice(0, len(counts.counts)))
    assert len(rows) == 500
    assert len(np.unique(rows, axis=0)) > 490
    assert counts.draw(0, np.random.default_rng(0), slice(0, len(counts.counts))).shape == (
        0, len(CNNSpace(image_size=16).choices),
    )  # fmt: skip
    empty = np.flatnonzero(counts.counts == 0)[0]
    with pytest.raises(BadInputError, match=f"no architecture is on the levels from {empty}"):
        counts.draw(1, np.random.default_rng(0), slice(empty, empty + 1))


def test_tables_that_do_not_fit_are_refused(monkeypatch):
    chain = chain_of(CNNSpace(image_size=16))
    monkeypatch.setattr(sums, "MAX_ENTRIES", 1000)
    for count in (chain.count, chain.count_all):
        with pytest.raises(BadInputError, match=r"counting needs tables over .* use a search"):
            count(1000)


@every
def test_every_gene_is_forgotten_once_and_what_is_alive_is_read(space):
    chain = chain_of(space)
    assert sorted(step.gene for step in chain.steps) == list(range(len(space.choices)))
    before = ()
    for step in chain.steps:
        assert step.before == before
        size = entries((*step.after, step.gene), chain.sizes)
        assert len(step.values) == len(step.source) == size
        assert step.source.max() < entries(before, chain.sizes)
        before = step.after
    assert before == ()


def test_orders_of_elimination_keep_what_is_alive_small():
    """Chains of stages never need the genes of three stages at once."""
    deep = CNNSpace(image_size=2048, stages=CNNSpace().stages * 4)
    mixed = HybridSpace(image_size=256, stages=HybridSpace().stages * 3)
    for space, most in ((deep, 100), (mixed, 300)):
        chain = chain_of(space)
        assert len(chain.sizes) > 70
        assert max(len(step.values) for step in chain.steps) <= most


def test_choices_that_no_layer_reads_are_counted_beside_their_conditions():
    @dataclass(frozen=True, kw_only=True)
    class Threads(SearchSpace):
        def build(self, net, images):
            x = net.conv2d(images, 8, kernel=1)
            for i in range(12):
                depth = net.choice(f"depth{i}", (0, 1, 2))
                with net.when(depth > 0), net.scope(f"layer{i}"):
                    net.choice("threads", (1, 2, 4), scope="platform")
                    x = net.conv2d(x, 8, kernel=net.choice("kernel", (1, 3)))
            return classifier(net, x, self.num_classes)

    space = Threads(image_size=8)
    chain = chain_of(space)
    assert max(len(step.values) for step in chain.steps) <= 3 * 3 * 2
    counts = chain.count_all(1000).counts
    assert int(counts.sum()) == space.cardinality == (1 + 2 * 3 * 2) ** 12
    assert counts[0] == 1  # all layers skipped


def test_integers_too_large_for_floats_are_rounded():
    space = TINY[3]
    values = np.zeros(space.layers.variants)
    values[:] = space.layers.columns["macs"]
    assert SumChain(space, space.layers, values).divisor > 0
    assert SumChain(space, space.layers, values * 2.0**50).divisor == 0
    assert SumChain(space, space.layers, values + 0.5).divisor == 0
