"""The int8 peak of this machine."""

from dataclasses import replace

import numpy as np
import pytest

from hardware_profiles import integer_peak
from hardware_profiles.integer_peak import with_int8_peak
from tests.latency_models.doubles import PROFILE


class Clock:
    """Moves on by one second with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def _tiny(monkeypatch):
    monkeypatch.setattr(integer_peak, "_SIZES", (8, 16))
    monkeypatch.setattr(integer_peak, "_SECONDS", 10.0)
    monkeypatch.setattr(integer_peak, "time", Clock())
    integer_peak._peak.cache_clear()
    yield
    integer_peak._peak.cache_clear()


def without_int8():
    fp32 = {"fp32": PROFILE.peak_gflops["fp32"]}
    one = {"fp32": PROFILE.peak_gflops_per_thread["fp32"]}
    return replace(PROFILE, peak_gflops=fp32, peak_gflops_per_thread=one)


@pytest.mark.usefixtures("_tiny")
def test_the_best_rate_over_sizes_counts_two_operations_a_product():
    # every product takes one second, so the largest matrix has the best rate
    assert integer_peak._peak(1) == pytest.approx(2e-9 * 16**3)


def test_a_profile_gets_a_measured_peak_beside_its_others(monkeypatch):
    monkeypatch.setattr(integer_peak, "_peak", {1: 50.0, 2: 80.0}.__getitem__)
    monkeypatch.setattr(integer_peak, "usable_cores", lambda: 2)
    found = with_int8_peak(without_int8())
    assert found.peak_gflops["int8"].value == 80.0
    assert found.peak_gflops_per_thread["int8"].value == 50.0
    assert found.peak_gflops["int8"].measured
    assert "MatMulInteger, 2 threads" in found.peak_gflops["int8"].source
    assert found.peak_gflops["fp32"] == PROFILE.peak_gflops["fp32"]
    monkeypatch.setattr(integer_peak, "_peak", {1: 50.0, 2: 40.0}.__getitem__)
    assert with_int8_peak(without_int8()).peak_gflops["int8"].value == 50.0


def test_a_profile_that_has_one_stays_as_it_is():
    assert with_int8_peak(PROFILE) is PROFILE


def test_what_is_timed_is_a_product_of_8_bit_integers():
    session, feed = integer_peak._product(16, 1)
    (found,) = session.run(None, feed)
    weights = np.random.default_rng(0).integers(-64, 64, (16, 16), np.int8)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, feed["a"].astype(np.int32) @ weights.astype(np.int32))
