import numpy as np
import pytest
from scipy.stats import norm

from latency_models.intervals import conformal_quantile, ratios_for, spread


@pytest.mark.parametrize(
    ("probability", "rank"), [(0.05, 3), (0.5, 30), (0.9, 54), (0.95, 57), (0.98, 59)]
)
def test_quantile_is_the_conformal_one(probability, rank):
    ratios = np.sort(np.random.default_rng(0).uniform(0.9, 1.1, 59))  # 60 gaps
    assert conformal_quantile(ratios, probability) == ratios[rank - 1]


@pytest.mark.parametrize("n", [8, 10, 14, 18])
def test_bounds_of_few_networks_cover_what_they_say(n):
    rng = np.random.default_rng(n)
    covered, greatest = [], []
    for _ in range(1500):
        ratios = np.sort(np.exp(rng.normal(0.01, 0.03, n)))
        bound = conformal_quantile(ratios, 0.95)
        assert bound == pytest.approx(1 / conformal_quantile(1 / ratios[::-1], 0.05))
        covered.append(norm.cdf((np.log(bound) - 0.01) / 0.03))
        greatest.append(norm.cdf((np.log(ratios[-1]) - 0.01) / 0.03))
    assert np.mean(greatest) == pytest.approx(n / (n + 1), abs=0.01)  # too little
    assert 0.945 <= np.mean(covered) <= 0.97


def test_one_ratio_is_its_own_bound():
    assert conformal_quantile(np.array([1.1]), 0.95) == 1.1


def test_no_ratios_have_no_quantile():
    assert np.isnan(conformal_quantile(np.empty(0), 0.9))
    assert len(ratios_for(0, [np.empty(0), np.empty(0)])) == 0


def test_one_space_keeps_its_ratios():
    logs = np.random.default_rng(0).normal(0, 0.02, 40)
    np.testing.assert_allclose(ratios_for(0, [logs]), np.exp(np.sort(logs)), rtol=1e-12)


def test_spread_is_pulled_towards_that_of_all():
    everything = np.full(100, 0.02)
    assert spread(np.full(10, 0.01), everything) == pytest.approx(0.015)
    assert spread(np.empty(0), everything) == pytest.approx(0.02)
    assert spread(np.full(100_000, 0.01), everything) == pytest.approx(0.01, rel=1e-2)


def coverage(ratios, rng, sigma, n=4000):
    next_ones = np.exp(rng.normal(0, sigma, n))
    low, high = conformal_quantile(ratios, 0.05), conformal_quantile(ratios, 0.95)
    return ((low <= next_ones) & (next_ones <= high)).mean()


def test_intervals_cover_in_spaces_of_different_noise():
    """One space three times as noisy: common ratios cover too much of one, too little of one."""
    rng = np.random.default_rng(3)
    scaled, common = [], []
    for _ in range(60):
        logs = [rng.normal(0, 0.01, 40), rng.normal(0, 0.03, 40)]
        every = np.sort(np.exp(np.concatenate(logs)))
        scaled.append([coverage(ratios_for(i, logs), rng, s) for i, s in enumerate((0.01, 0.03))])
        common.append([coverage(every, rng, s) for s in (0.01, 0.03)])
    calm, noisy = np.mean(scaled, axis=0)
    assert 0.88 <= calm <= 0.97
    assert 0.85 <= noisy <= 0.95
    calm_common, noisy_common = np.mean(common, axis=0)
    assert calm_common > 0.98
    assert noisy_common < 0.84
