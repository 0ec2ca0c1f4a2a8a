from itertools import permutations

import numpy as np
import pytest

from deployment.runtimes.microcontroller import (
    ALIGNMENT,
    Fit,
    Lifetime,
    alive_bytes,
    fit_of,
    planned_bytes,
)
from hardware_profiles import device
from records import BadInputError
from tests.deployment.doubles import PROFILE


def random_tensors(seed, n=6):
    rng = np.random.default_rng(seed)
    first = rng.integers(-1, 5, n)
    return [
        Lifetime(size_bytes=16 * int(s), first=int(f), last=int(f + d))
        for s, f, d in zip(rng.integers(1, 20, n), first, rng.integers(0, 4, n), strict=True)
    ]


def lowest_of_all_orders(tensors):
    """Places tensors in every order, each as low as it goes; the least that is found."""

    def placed_in(order):
        done = []
        for t in order:
            together = [d for d in done if d[2].first <= t.last and t.first <= d[2].last]
            start = 0
            while any(s < start + t.size_bytes and start < e for s, e, _ in together):
                start += ALIGNMENT
            done.append((start, start + t.size_bytes, t))
        return max(e for _, e, _ in done)

    return min(placed_in(order) for order in permutations(tensors))


@pytest.mark.parametrize("seed", range(12))
def test_a_plan_lies_between_what_is_alive_at_once_and_the_sum(seed):
    tensors = random_tensors(seed)
    found = planned_bytes(tensors)
    best = lowest_of_all_orders(tensors[:5])
    assert alive_bytes(tensors) <= found <= sum(t.size_bytes for t in tensors)
    assert alive_bytes(tensors[:5]) <= best <= planned_bytes(tensors[:5]) <= 1.5 * best


def test_a_chain_needs_its_two_largest_neighbours():
    sizes = [64, 256, 128, 512, 32]
    chain = [Lifetime(size_bytes=s, first=i - 1, last=i) for i, s in enumerate(sizes)]
    assert planned_bytes(chain) == alive_bytes(chain) == 640


def test_sizes_are_aligned():
    assert planned_bytes([Lifetime(size_bytes=1, first=-1, last=0)]) == ALIGNMENT
    assert planned_bytes([]) == 0
    assert alive_bytes([]) == 0


def test_what_is_too_much_is_named():
    board = device("stm32f746")
    small = [Lifetime(size_bytes=100_000, first=-1, last=0)]
    assert fit_of(board, 500_000, small).fits
    large = [*small, Lifetime(size_bytes=300_000, first=0, last=1)]
    found = fit_of(board, 2_000_000, large)
    assert not found.fits
    assert found.excess == (
        "flash: 1953 KB needed, 1024 KB there", "memory: 391 KB needed, 320 KB there",
    )  # fmt: skip
    assert found.device == "stm32f746"


def test_what_is_unknown_is_no_limit():
    assert Fit(
        device="x", flash_bytes=10**9, flash_limit_bytes=None, ram_bytes=10, ram_limit_bytes=10
    ).fits


def test_a_device_that_is_no_microcontroller_is_refused():
    with pytest.raises(BadInputError, match="neither its flash_bytes nor its ram_bytes"):
        fit_of(PROFILE, 1, [])
