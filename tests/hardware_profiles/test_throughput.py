"""Measured rates: positive, plausible, one thread never above all."""

import pytest

from hardware_profiles.throughput import Rates, cache_gbps, copy_gbps, gemm_gflops


def assert_plausible(rates: Rates, highest: float) -> None:
    assert 0.01 < rates.one_thread <= rates.all_threads < highest


@pytest.mark.parametrize("threads", [1, 2])
def test_gemm(threads: int) -> None:
    assert_plausible(gemm_gflops(threads=threads, seconds=0.05), 1e5)


@pytest.mark.parametrize("sharers", [1, 2])
def test_cache(sharers: int) -> None:
    rates = cache_gbps(32 << 10, threads=2, seconds=0.05, sharers=sharers)
    assert_plausible(rates, 1e5)


def test_copy() -> None:
    assert_plausible(copy_gbps(last_cache_bytes=0, threads=2, seconds=0.05), 1e4)


def test_a_cache_smaller_than_a_page_is_still_measured() -> None:
    assert_plausible(cache_gbps(64, threads=1, seconds=0.01), 1e5)
