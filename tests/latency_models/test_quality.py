import math

import numpy as np
import pytest

from latency_models import latency_quality
from records import BadInputError


def test_numbers_by_hand():
    measured = [1.0, 2.0, 4.0, 8.0]
    predicted = [1.1, 1.92, 8.0, 4.0]  # errors of 10 %, 4 %, 100 %, 50 %; the last two swapped
    found = latency_quality(predicted, measured)
    assert found.networks == 4
    assert found.mape == pytest.approx((0.1 + 0.04 + 1 + 0.5) / 4)
    assert found.median_error == pytest.approx((0.1 + 0.5) / 2)
    assert found.within_5_percent == 0.25
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.kendall_tau == pytest.approx((5 - 1) / 6)


def test_perfect_and_reversed_ranks():
    measured = np.arange(1.0, 8.0)
    same = latency_quality(measured, measured)
    assert (same.mape, same.within_5_percent) == (0, 1)
    assert same.spearman == pytest.approx(1)
    assert same.kendall_tau == pytest.approx(1)
    back = latency_quality(measured[::-1], measured)
    assert back.spearman == pytest.approx(-1)
    assert back.kendall_tau == pytest.approx(-1)


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0]), ([1.0] * 4, [1.0, 2, 3, 4])],
)
def test_ranks_of_few_or_equal_values_are_unknown(predicted, measured):
    found = latency_quality(predicted, measured)
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall_tau)
    assert math.isfinite(found.mape)


@pytest.mark.parametrize(
    ("predicted", "measured"), [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]])]
)
def test_arrays_that_do_not_pair_are_refused(predicted, measured):
    with pytest.raises(BadInputError, match="one prediction per measurement"):
        latency_quality(predicted, measured)
