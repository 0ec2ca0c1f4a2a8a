import numpy as np
import pytest

from predictors import Prediction
from predictors.prediction import NORMAL_90, checked_values
from records import BadInputError


def test_a_prediction_is_two_vectors():
    assert len(Prediction(np.zeros(3), np.ones(3))) == 3
    with pytest.raises(BadInputError):
        Prediction(np.zeros((3, 1)), np.ones((3, 1)))


def test_the_interval_is_the_normal_one():
    from scipy.stats import norm

    assert pytest.approx(norm.ppf(0.95)) == NORMAL_90


def test_checked_values_are_a_copy():
    values = np.arange(3.0)
    assert not np.shares_memory(checked_values(values, 3), values)
