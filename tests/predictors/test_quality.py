import itertools

import numpy as np
import pytest
from scipy import stats

from predictors import (
    Prediction,
    Predictor,
    cross_validated,
    quality,
    rank_quality,
    top_k_regret,
)
from records import BadInputError


def tau_b(x, y):
    """Kendall's tau-b from its definition."""
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j]))
             for i, j in itertools.combinations(range(len(x)), 2)]  # fmt: skip
    a, b = np.array(signs).T
    return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def test_ranks_with_ties():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (2, 60))
    y = y + x
    found = rank_quality(x, y)
    assert found.kendall_tau == pytest.approx(tau_b(x, y))
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.n == 60
    assert np.isnan([found.mape, found.share_within_5_percent, found.coverage_90]).all()


def test_figures_by_hand():
    prediction = Prediction(np.array([10.0, 21.0, 30.0, 44.0]), np.array([1.0, 0.1, 1.0, 3.0]))
    found = quality(prediction, [10.0, 20.0, 30.0, 40.0])
    assert found.kendall_tau == found.spearman == pytest.approx(1)
    assert found.mape == pytest.approx((0 + 0.05 + 0 + 0.1) / 4)
    assert found.share_within_5_percent == 0.5
    assert found.coverage_90 == 0.75


def test_nominal_coverage_of_normal_errors():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, 20_000)
    prediction = Prediction(np.zeros(20_000), std)
    assert quality(prediction, std * rng.standard_normal(20_000)).coverage_90 == pytest.approx(
        0.9, abs=0.01
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_have_no_rank(n):
    found = quality(Prediction(np.ones(n), np.ones(n)), np.ones(n))
    assert np.isnan([found.kendall_tau, found.spearman]).all()
    assert np.isnan(found.mape) == (n == 0)
    assert found.n == n


def test_all_tied_has_no_rank():
    assert np.isnan(rank_quality(np.ones(5), np.arange(5)).kendall_tau)
    assert np.isnan(rank_quality(np.arange(5), np.ones(5)).spearman)


def test_nan_is_said():
    values = np.array([1.0, np.nan, 3.0, 4.0])
    found = quality(Prediction(np.arange(4.0), np.ones(4)), values)
    assert found.n == 4
    assert np.isnan([found.kendall_tau, found.spearman, found.mape, found.coverage_90]).all()
    assert np.isnan(quality(Prediction(np.arange(4.0), values), np.arange(4)).coverage_90)


def test_zero_value_has_no_relative_error():
    found = quality(Prediction(np.arange(4.0), np.ones(4)), np.arange(4))
    assert np.isnan([found.mape, found.share_within_5_percent]).all()
    assert found.coverage_90 == 1


def test_lengths_must_agree():
    with pytest.raises(BadInputError):
        rank_quality([1, 2, 3], [1, 2])
    with pytest.raises(BadInputError):
        quality(Prediction(np.ones(3), np.ones(3)), np.ones((3, 1)))
    with pytest.raises(BadInputError):
        Prediction(np.ones(3), np.ones(2))


class Memory(Predictor):
    """Knows the rows that it was fitted on, and the mean for all others."""

    def fit(self, genes, values):
        self.known = {tuple(row): value for row, value in zip(genes, values, strict=True)}
        self.mean = float(np.mean(values))
        return self

    def predict(self, genes):
        mean = np.array([self.known.get(tuple(row), self.mean) for row in genes])
        return Prediction(mean, np.ones(len(mean)))

    def save(self, path):
        raise NotImplementedError

    @classmethod
    def load(cls, path, space=None):
        raise NotImplementedError


def test_cross_validation_never_shows_the_row_itself():
    rng = np.random.default_rng(0)
    genes = np.arange(40).reshape(20, 2).repeat(2, axis=0)  # every row twice
    values = rng.random(40) + 5
    prediction = cross_validated(Memory, genes, values, 4, rng)
    assert not np.isin(prediction.mean, values).any()
    assert len(np.unique(prediction.mean)) == 4
    assert len(prediction) == 40


def test_cross_validation_refuses():
    rng = np.random.default_rng(0)
    genes, values = np.arange(10)[:, None], np.arange(10.0)
    for folds in (1, 11):
        with pytest.raises(BadInputError, match="folds"):
            cross_validated(Memory, genes, values, folds, rng)
    with pytest.raises(BadInputError, match="length n"):
        cross_validated(Memory, genes, values[:5], 2, rng)


def test_regret_is_what_the_chosen_few_miss():
    scores, values = [0.9, 0.5, 0.7, 0.7], [80.0, 95.0, 90.0, 91.0]
    assert [top_k_regret(scores, values, k) for k in (1, 2, 3, 4, 9)] == [15, 5, 4, 0, 0]
    assert np.isnan(top_k_regret(scores, [80.0, np.nan, 90.0, 91.0], 1))
    for bad in (([], [], 1), ([1, 2], [1], 1), ([1], [1], 0)):
        with pytest.raises(BadInputError):
            top_k_regret(*bad)
