import numpy as np
import pytest

from records import BadInputError
from supernet.training import Constant, Cosine, ExponentialWithFloor

PROGRESS = np.linspace(0, 1, 41)


def shares(schedule):
    return np.array([schedule.share(p) for p in PROGRESS])


def test_the_cosine_goes_from_1_to_0():
    np.testing.assert_allclose(shares(Cosine()), (1 + np.cos(np.pi * PROGRESS)) / 2, atol=1e-12)


def test_constant_is_constant():
    assert set(shares(Constant())) == {1.0}


def test_exponential_decay_is_held_at_its_floor():
    """BigNAS: lr = max(lr_0 d^t, 5 % of lr_0)."""
    steps, decay = 40, 0.01 ** (1 / 40)
    expected = [max(decay**t, 0.05) for t in range(steps + 1)]
    np.testing.assert_allclose(shares(ExponentialWithFloor()), expected, rtol=1e-9)
    assert expected[30] == 0.05 < expected[25]
    np.testing.assert_allclose(shares(ExponentialWithFloor(final=0.5, floor=0.1)), 0.5**PROGRESS)


@pytest.mark.parametrize("options", [{"final": 0}, {"final": 1.1}, {"floor": 0}, {"floor": 2}])
def test_shares_outside_of_0_to_1_are_refused(options):
    (name,) = options
    with pytest.raises(BadInputError, match=f"{name} must be above 0 and at most 1"):
        ExponentialWithFloor(**options)
