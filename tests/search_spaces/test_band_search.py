import math

import numpy as np
import pytest

from records import BadInputError
from search_spaces import HybridSpace, InfeasibleLimitError, search_in_band
from tests.search_spaces.doubles import TINY

SPACE = HybridSpace(image_size=32)


def peak_of(genes):
    return SPACE.layer_table(genes).peak_activation_bytes().astype(np.float64)


def rare(genes):
    """A metric that is no sum, and small for few architectures: all active values must be low."""
    return np.sqrt((genes.astype(np.float64) ** 2).sum(axis=1)) + SPACE.active(genes).sum(axis=1)


@pytest.mark.parametrize("metric", [peak_of, rare])
@pytest.mark.parametrize("quantile", [0.0005, 0.5, 0.9995])
def test_what_is_found_is_distinct_and_in_the_band(metric, quantile):
    rows = np.unique(SPACE.sample(20_000, np.random.default_rng(1)), axis=0)
    values = np.sort(metric(rows))
    place = int(quantile * (len(values) - 200))
    low, high = values[place], values[place + 199]
    found = search_in_band(SPACE, metric, 150, np.random.default_rng(0), low, high)
    assert len(np.unique(found.genes, axis=0)) == len(found.genes) == len(found.values)
    assert 100 <= len(found.genes) <= 150
    np.testing.assert_array_equal(found.values, metric(found.genes))
    np.testing.assert_array_equal(found.genes, SPACE.gene_space.check(found.genes))
    assert (found.values >= low).all()
    assert (found.values <= high).all()
    assert found.evaluated <= 51_024


def test_the_search_needs_fewer_evaluations_than_random_draws():
    rng = np.random.default_rng(2)
    values = rare(SPACE.sample(50_000, rng))
    low = float(np.quantile(values, 0.9995))
    found = search_in_band(SPACE, rare, 100, rng, low, math.inf)
    assert len(found.genes) == 100
    assert found.evaluated < 0.2 * 100 / 0.0005


def test_bands_that_are_not_found_name_the_nearest():
    space = TINY[2]
    macs = np.unique(space.layer_table(space.enumerate()).macs)
    gap = int(np.diff(macs).argmax())
    calls = []

    def metric(genes):
        calls.append(len(genes))
        return space.layer_table(genes).macs.astype(np.float64)

    rng = np.random.default_rng(0)
    with pytest.raises(
        InfeasibleLimitError, match=r"was found from .* nearest found has"
    ) as error:
        search_in_band(space, metric, 5, rng, macs[gap] + 1, macs[gap] + 2, evaluations=3000)
    assert error.value.nearest == macs[gap]
    assert 3000 <= sum(calls) < 3000 + 1024


def test_fewer_are_returned_where_there_are_no_more():
    space = TINY[0]
    rng = np.random.default_rng(0)

    def metric(genes):
        macs = space.layer_table(genes).macs.astype(np.float64)
        return np.where(genes[:, 0] == 1, np.nan, macs)

    found = search_in_band(space, metric, 10_000, rng, 0, 1e12, evaluations=5000)
    rows = space.enumerate()
    assert len(found.genes) == (rows[:, 0] != 1).sum()
    assert not found.genes[:, 0].any()
    assert search_in_band(space, metric, 0, rng, 0, 1).genes.shape == (0, len(space.choices))


def test_the_same_seed_finds_the_same():
    first, second = (
        search_in_band(SPACE, peak_of, 50, np.random.default_rng(7), 0, 1e6).genes
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_band_that_is_none_is_refused():
    with pytest.raises(BadInputError, match="from a number up to another, got 2 to 1"):
        search_in_band(SPACE, peak_of, 1, np.random.default_rng(0), 2, 1)
