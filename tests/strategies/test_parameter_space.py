import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from strategies.parameter_space import count_of_parts, part_of, value_in_part

DISTRIBUTIONS = [
    CategoricalDistribution(["a", None, 2]),
    IntDistribution(-3, 12, step=3),
    IntDistribution(1, 500),
    IntDistribution(1, 500, log=True),
    FloatDistribution(-1.0, 2.0),
    FloatDistribution(1e-6, 1.0, log=True),
    FloatDistribution(0.0, 1.0, step=0.25),
    FloatDistribution(-10.0, 10.0, step=0.01),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_a_part_has_values_of_its_own(distribution):
    rng = np.random.default_rng(0)
    count = count_of_parts(distribution, 16)
    assert count <= 16
    for part in range(count):
        for _ in range(20):
            value = value_in_part(distribution, part, 16, rng)
            inner = distribution.to_internal_repr(value)
            assert distribution._contains(inner)
            found = part_of(distribution, value, 16)
            if count < 16 or getattr(distribution, "step", None) is None:
                assert found == part
            elif not distribution.log:  # rounded to a step, it may be just across
                assert abs(found - part) <= 1
            assert 0 <= found < count


@pytest.mark.parametrize("distribution", DISTRIBUTIONS[4:6], ids=str)
def test_values_are_spread_evenly(distribution):
    rng = np.random.default_rng(0)
    drawn = [value_in_part(distribution, int(p), 16, rng) for p in rng.integers(16, size=4000)]
    low, high = distribution.low, distribution.high
    x = (np.log(drawn) - np.log(low)) / np.log(high / low) if distribution.log else (
        np.array(drawn) - low
    ) / (high - low)  # fmt: skip
    np.testing.assert_allclose(np.quantile(x, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_values_out_of_range_have_no_part():
    assert part_of(IntDistribution(0, 5), 6, 16) is None
    assert part_of(CategoricalDistribution(["a"]), "b", 16) is None
    assert part_of(FloatDistribution(0, 1), 1.5, 16) is None
    assert part_of(FloatDistribution(0, 1), 1.0, 16) == 15
