import numpy as np
import pytest

from predictors.kernels import FeatureGroups, matern, matern_slope, squared_distances
from records import BadInputError

GROUPS = {"choices": np.arange(3), "sizes": np.arange(3, 5), "empty": np.arange(5, 6)}


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([
        rng.integers(0, 2, (n, 3)), rng.normal(5, 100, n), rng.normal(0, 1e-3, n), np.ones(n)
    ])  # fmt: skip


def test_two_random_networks_are_at_a_mean_squared_distance_of_one_in_every_group():
    rows = table()
    groups = FeatureGroups.of(rows, GROUPS)
    assert groups.names == ("choices", "sizes")
    scaled = groups.scale(rows)
    distances = squared_distances(scaled, scaled)
    np.testing.assert_allclose(distances.mean(axis=(1, 2)), 1, rtol=1e-9)


def test_choices_keep_their_unit_and_sizes_get_one():
    rows = table()
    factor = FeatureGroups.of(rows, GROUPS).factor
    assert factor[0] == factor[1] == factor[2] > 0
    np.testing.assert_allclose(factor[3] * rows[:, 3].std(), factor[4] * rows[:, 4].std())
    assert factor[5] == 0


def test_distances_are_those_of_pairs():
    scaled = FeatureGroups.of(table(), GROUPS).scale(table(7, 1), np.float32)
    found = squared_distances(scaled, [group[:4] for group in scaled])
    assert found.dtype == np.float32
    for g, group in enumerate(scaled):
        expected = ((group[:, None] - group[None, :4]) ** 2).sum(axis=2)
        np.testing.assert_allclose(found[g], expected, atol=1e-5)


def test_features_that_never_vary_are_refused():
    with pytest.raises(BadInputError, match="nothing to learn"):
        FeatureGroups.of(np.ones((5, 6)), GROUPS)


def test_matern_is_the_published_formula_and_its_slope_the_difference_quotient():
    squared, length, step = np.linspace(0, 4, 9), 0.7, 1e-6
    s = np.sqrt(5 * squared) / length
    np.testing.assert_allclose(matern(squared, length), (1 + s + s * s / 3) * np.exp(-s))
    quotient = (
        matern(squared, length * np.exp(step)) - matern(squared, length * np.exp(-step))
    ) / (2 * step)
    np.testing.assert_allclose(matern_slope(squared, length), quotient, atol=1e-8)
