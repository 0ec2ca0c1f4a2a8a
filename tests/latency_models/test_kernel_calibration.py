import numpy as np
import pytest

from latency_models.kernel_costs.calibration import KIND, MOST, calibrated


def networks(n, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 1.0, (n, 4))


def test_without_networks_the_sum_stays_as_it_is():
    got = calibrated(np.empty((0, 4)), np.empty(0), 0.01)
    assert got.base_ms == 0.01
    np.testing.assert_array_equal(got.scales, np.ones(4))
    assert len(got.ratios) == 0


def test_base_and_scale_are_recovered():
    sums = networks(12)
    got = calibrated(sums, 0.05 + 1.3 * sums.sum(axis=1), 0.04)
    assert got.base_ms == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(got.scales, 1.3, rtol=0.02)
    np.testing.assert_allclose(got.ratios, 1, atol=0.02)


def test_a_kind_that_is_off_is_scaled_by_itself():
    sums = networks(30)
    true = np.array([1.0, 1.1, 1.0, 1.0])
    got = calibrated(sums, 0.02 + sums @ true, 0.02)
    assert np.argmax(got.scales) == 1
    np.testing.assert_allclose(got.scales, true, atol=0.03)


def test_one_network_corrects_the_scale():
    sums = networks(1)
    got = calibrated(sums, 0.02 + 2 * sums.sum(axis=1), 0.02)
    assert got.base_ms + sums[0] @ got.scales == pytest.approx(0.02 + 2 * sums.sum(), rel=0.02)
    assert len(got.ratios) == 0


def test_no_scale_is_negative_and_kinds_stay_near_each_other():
    sums = networks(12)
    got = calibrated(sums, 0.02 + sums @ np.array([0.0, 3.0, 1.0, 1.0]), 0.02)
    assert got.base_ms >= 0
    assert (got.scales > 0).all()
    assert np.ptp(got.scales) <= 2 * MOST * KIND + 1e-9


def test_ratios_are_of_networks_that_were_left_out():
    sums = networks(10)
    latency = 0.02 + sums.sum(axis=1)
    latency[3] *= 1.5
    got = calibrated(sums, latency, 0.02)
    others = np.arange(10) != 3
    without = calibrated(sums[others], latency[others], 0.02)
    assert got.ratios[-1] == pytest.approx(
        latency[3] / (without.base_ms + sums[3] @ without.scales)
    )
    assert len(got.ratios) == 10


def test_files_without_a_base_still_let_networks_have_one():
    sums = networks(12)
    got = calibrated(sums, 0.1 + sums.sum(axis=1), 1e-30)
    assert got.base_ms > 0.02
