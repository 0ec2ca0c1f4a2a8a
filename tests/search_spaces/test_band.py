import math

import numpy as np
import pytest
from scipy.stats import chisquare

from records import BadInputError, UnknownNameError
from search_spaces import (
    CNNSpace,
    HybridSpace,
    InfeasibleLimitError,
    band,
    count_in_band,
    distribution,
    layer_values,
    least,
    sample_in_band,
)
from tests.search_spaces.conditional import DeadSpace, EitherSpace, made_up
from tests.search_spaces.doubles import TINY

every = pytest.mark.parametrize(
    "space", [*TINY, EitherSpace(image_size=8), DeadSpace(image_size=8)], ids=lambda s: s.name
)


def macs_of(space, rows):
    return space.layer_table(rows).macs


def assert_uniform(sample, rows):
    """A chi-square test that fails by chance once in a thousand seeds; seeds are fixed."""
    found, index = np.unique(np.concatenate([rows, sample]), axis=0, return_inverse=True)
    assert len(found) == len(rows)
    assert len(rows) == 1 or chisquare(np.bincount(index[len(rows) :])).pvalue > 1e-3


@every
@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 0.1), (0.45, 0.5), (0.9, 1.0)])
def test_samples_are_uniform_over_the_band(space, ends):
    rows = space.enumerate()
    macs = macs_of(space, rows)
    low, high = np.quantile(macs, ends, method="nearest")
    inside = rows[(macs >= low) & (macs <= high)]
    sample = sample_in_band(space, 60 * len(inside), np.random.default_rng(1), low, high)
    assert_uniform(sample, inside)


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_samples_are_uniform_where_sums_are_rounded(space, monkeypatch):
    """On few levels most draws are rejected; those that are kept are uniform still."""
    values, costs = made_up(space, 3)
    low, high = np.quantile(costs, (0.3, 0.5))
    inside = space.enumerate()[(costs >= low) & (costs <= high)]
    for levels in (8, 2000):
        monkeypatch.setattr(band, "_LEVELS", (levels, levels))
        sample = sample_in_band(
            space, 60 * len(inside), np.random.default_rng(levels), low, high, values=values
        )
        assert_uniform(sample, inside)


@pytest.mark.parametrize("space", TINY, ids=lambda s: s.name)
def test_a_band_around_one_architecture_gives_it(space):
    values, costs = made_up(space, 2)
    place = int(np.argsort(costs)[len(costs) // 3])
    centre = costs[place]
    same = space.enumerate()[np.abs(costs - centre) <= 1e-9]
    low, high = centre - 1e-9, centre + 1e-9
    sample = sample_in_band(space, 20, np.random.default_rng(0), low, high, values=values)
    assert {r.tobytes() for r in sample} <= {r.tobytes() for r in same}
    assert len(sample) == 20


@every
def test_counts_equal_enumeration(space):
    macs = macs_of(space, space.enumerate())
    rng = np.random.default_rng(0)
    for _ in range(10):
        low, high = np.sort(rng.choice(macs, 2)) + rng.integers(-1, 2, 2) * [1, 1]
        if low > high:
            continue
        count = count_in_band(space, low, high)
        assert count.is_exact
        assert count.least == ((macs >= low) & (macs <= high)).sum()
    assert count_in_band(space, -math.inf, math.inf).least == space.cardinality


@every
def test_counts_of_fractions_bound_enumeration_closely(space):
    values, costs = made_up(space, 4)
    rng = np.random.default_rng(1)
    unsure = total = 0
    for _ in range(10):
        low, high = np.sort(rng.uniform(costs.min() - 0.1, costs.max() + 0.1, 2))
        count = count_in_band(space, low, high, values=values)
        expected = ((costs >= low) & (costs <= high)).sum()
        assert count.least <= expected <= count.most
        assert count.is_exact == (count.least == count.most)
        unsure, total = unsure + count.most - count.least, total + expected
    assert unsure <= 0.1 * total


@every
@pytest.mark.parametrize("metric", ["macs", "parameters", "elements"])
def test_distributions_equal_a_histogram_of_all(space, metric):
    costs = space.layer_table(space.enumerate()).total(metric)
    counted = distribution(space, 7, values=metric)
    expected, edges = np.histogram(costs, counted.edges)
    np.testing.assert_array_equal(counted.counts, expected)
    assert (edges[0], edges[-1], counted.error) == (costs.min(), costs.max(), 0)
    edges = np.quantile(costs, [0.1, 0.5, 0.8])
    counted = distribution(space, edges.tolist(), values=metric)
    np.testing.assert_array_equal(counted.counts, np.histogram(costs, edges)[0])


def test_rounded_distributions_are_wrong_by_their_error_at_most():
    space = CNNSpace(image_size=16, stages=CNNSpace().stages[:2])
    values, costs = made_up(space, 1)
    counted = distribution(space, 50, values=values)
    assert counted.counts.sum() == space.cardinality == len(costs)
    assert 0 < counted.error < 0.01 * (costs.max() - costs.min())
    assert counted.edges[0] == pytest.approx(costs.min())
    below = np.concatenate([[0], counted.counts.cumsum()])
    for edge, found in zip(counted.edges[1:-1], below[1:-1], strict=True):
        assert (costs < edge - counted.error).sum() <= found
        assert found <= (costs <= edge + counted.error).sum()


@pytest.mark.parametrize("space", [CNNSpace(), HybridSpace()], ids=lambda s: s.name)
def test_large_spaces_are_sampled_in_narrow_bands_at_both_ends(space):
    table, values = layer_values(space, "macs")
    low, high = least(space, table, values)[0], -least(space, table, -values)[0]
    for share in (0.02, 0.3, 0.8):
        start = low + share * (high - low)
        end = start + 0.001 * (high - low)
        sample = sample_in_band(space, 1000, np.random.default_rng(0), start, end)
        assert sample.shape == (1000, len(space.choices))
        np.testing.assert_array_equal(sample, space.gene_space.check(sample))
        macs = macs_of(space, sample)
        assert (macs >= start).all()
        assert (macs <= end).all()


def test_samples_of_a_large_space_are_as_random_ones_that_fall_into_the_band():
    """Another way to draw: uniform architectures of the whole space, rejected outside."""
    space = HybridSpace()
    rng = np.random.default_rng(5)
    drawn = space.sample(400_000, rng, "architectures")
    macs = macs_of(space, drawn)
    low, high = np.quantile(macs, (0.4, 0.42))
    expected = drawn[(macs >= low) & (macs <= high)]
    sample = sample_in_band(space, len(expected), rng, low, high)
    for j, choice in enumerate(space.choices):
        first, second = (
            np.bincount(g[space.active(g)[:, j], j], minlength=len(choice.values)) / len(g)
            for g in (expected, sample)
        )
        np.testing.assert_allclose(first, second, atol=5 * math.sqrt(0.5 / len(expected)))
    share = count_in_band(space, low, high).least / space.cardinality
    assert abs(share - 0.02) < 5 * math.sqrt(0.02 / len(drawn))


def test_the_same_seed_gives_the_same_sample():
    space = TINY[0]
    first, second, other = (
        sample_in_band(space, 50, np.random.default_rng(seed), 0, 1e9) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert sample_in_band(space, 0, np.random.default_rng(0), 0, 1e9).shape == (0, first.shape[1])


def test_empty_bands_name_what_is_nearest():
    space = TINY[1]
    macs = np.unique(macs_of(space, space.enumerate()))
    rng = np.random.default_rng(0)
    gap = int(np.diff(macs).argmax())
    message = f"from .*: the nearest are {macs[gap]:g} and {macs[gap + 1]:g}; widen"
    with pytest.raises(InfeasibleLimitError, match=message.replace("+", r"\+")) as error:
        sample_in_band(space, 1, rng, macs[gap] + 1, macs[gap] + 2)
    assert error.value.nearest == macs[gap]
    for low, high, nearest in ((0, macs[0] - 1, macs[0]), (macs[-1] + 1, 1e12, macs[-1])):
        with pytest.raises(InfeasibleLimitError, match=f"nearest are {nearest:g}; ") as error:
            sample_in_band(space, 1, rng, low, high)
        assert error.value.nearest == nearest
    assert count_in_band(space, macs[gap] + 1, macs[gap] + 2).most == 0


def test_bands_in_which_no_draw_falls_are_given_up(monkeypatch):
    space = TINY[1]
    values, costs = made_up(space, 3)
    monkeypatch.setattr(band, "_LEVELS", (8, 8))
    monkeypatch.setattr(band, "_MOST_DRAWN", 20_000)
    costs = np.sort(costs)
    gap = int(np.diff(costs).argmax())
    low, high = costs[gap] + 1e-6, costs[gap + 1] - 2e-6
    with pytest.raises(InfeasibleLimitError, match=r"0 of \d+ architectures drawn near") as error:
        sample_in_band(space, 5, np.random.default_rng(0), low, high, values=values)
    assert error.value.nearest == pytest.approx(costs[gap], abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (math.nan, 1), (0, math.nan)])
def test_bands_that_are_none_are_refused(low, high):
    for refuse in (
        lambda: count_in_band(TINY[0], low, high),
        lambda: sample_in_band(TINY[0], 1, np.random.default_rng(0), low, high),
    ):
        with pytest.raises(BadInputError, match="from a number up to another, got"):
            refuse()


def test_metrics_that_do_not_fit_are_refused():
    space = TINY[0]
    with pytest.raises(UnknownNameError, match="unknown metric of the layers 'latency'"):
        count_in_band(space, 0, 1, values="latency")
    with pytest.raises(BadInputError, match="'macs' is a metric of the layers; it takes no other"):
        count_in_band(space, 0, 1, values="macs", table=space.layers)
    with pytest.raises(BadInputError, match=r"variants, got an array of shape \(3,\)"):
        count_in_band(space, 0, 1, values=np.zeros(3))
    for bins in (0, [1.0], [2.0, 1.0], [0.0, math.nan]):
        with pytest.raises(BadInputError, match="1 or more, or edges in ascending order, got"):
            distribution(space, bins)


def test_a_table_of_another_room_is_read():
    """Any tabulation over the space's genes will do: here only the layers that are there."""
    space = TINY[0]
    table = space.layers
    values = table.columns["active"].astype(np.float64)
    layers = space.layer_table(space.enumerate()).total("active")
    counted = count_in_band(space, 12, 20, values=values, table=table)
    assert counted.least == ((layers >= 12) & (layers <= 20)).sum() > 0
