import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment.intervals import wilson_interval
from records import BadInputError


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (1, 29, 0.0061, 0.1718),  # Newcombe, Statistics in Medicine 17, 1998, table I
        (81, 263, 0.2553, 0.3662),  # ibid.
    ],
)
def test_it_gives_published_values(right, n, low, high):
    got = wilson_interval(right / n, n)

    assert got == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_it_contains_the_share_and_stays_within_zero_and_one(counts):
    right, n = counts
    low, high = wilson_interval(right / n, n)

    assert 0 <= low <= right / n <= high <= 1
    assert high > low


@given(st.integers(1, 5000), st.floats(0, 1))
def test_it_is_symmetric_and_narrows_with_more_cases(n, share):
    low, high = wilson_interval(share, n)
    other_low, other_high = wilson_interval(1 - share, n)

    assert other_low == pytest.approx(1 - high, abs=1e-9)
    assert other_high == pytest.approx(1 - low, abs=1e-9)
    narrow_low, narrow_high = wilson_interval(share, 10 * n)
    assert narrow_high - narrow_low < high - low


@pytest.mark.parametrize(("share", "n"), [(-0.1, 5), (1.1, 5), (math.nan, 5), (0.5, 0)])
def test_it_refuses_what_is_no_share(share, n):
    with pytest.raises(BadInputError, match="share"):
        wilson_interval(share, n)
