import numpy as np
import pytest
from scipy.linalg import LinAlgError
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from predictors.gaussian_process_fit import (
    Hyperparameters,
    Pairs,
    Posterior,
    most_likely,
    negative_log_density,
    safe_cholesky,
)
from predictors.kernels import squared_distances

KNOWN = Hyperparameters(amplitudes=np.array([0.6, 0.3]), lengths=np.array([0.8, 1.7]), noise=0.07)


def groups(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 2))


def drawn(n, seed=0):
    """Values of a process with the hyperparameters `KNOWN`, and their distances."""
    seen = groups(n, seed)
    distances = squared_distances(seen, seen)
    covariance = KNOWN.kernel(distances) + KNOWN.noise * np.eye(n)
    values = np.random.default_rng(seed + 1).multivariate_normal(np.zeros(n), covariance)
    return seen, distances, values


def test_hyperparameters_survive_their_logarithms():
    again = Hyperparameters.of(KNOWN.logarithms())
    np.testing.assert_allclose(again.logarithms(), KNOWN.logarithms())
    assert again.noise == pytest.approx(0.07)


def test_density_is_that_of_a_normal_distribution_and_its_gradient_the_difference_quotient():
    _, distances, values = drawn(12)
    pairs = Pairs.of(distances)
    centre = Hyperparameters.typical(2).logarithms()

    def density(logarithms):
        return negative_log_density(logarithms, pairs, values, centre)[0]

    at = KNOWN.logarithms()
    gradient = negative_log_density(at, pairs, values, centre)[1]
    for k in range(len(at)):
        step = 1e-5 * np.eye(len(at))[k]
        quotient = (density(at + step) - density(at - step)) / 2e-5
        assert gradient[k] == pytest.approx(quotient, abs=1e-4)
    # at the centre the prior adds nothing
    typical = Hyperparameters.typical(2)
    covariance = typical.kernel(distances) + typical.noise * np.eye(12)
    inverse = np.linalg.inv(covariance)
    mean = (inverse.sum(axis=0) @ values) / inverse.sum()
    normal = multivariate_normal(np.full(12, mean), covariance)
    expected = -normal.logpdf(values) - 6 * np.log(2 * np.pi)
    assert density(centre) == pytest.approx(expected, abs=1e-4)


def test_likelihood_recovers_the_noise():
    found = []
    for seed in range(4):
        _, distances, values = drawn(120, seed)
        found.append(most_likely(distances, (values - values.mean()) / values.std()).noise)
    assert np.mean(found) == pytest.approx(0.07, rel=0.5)


def test_posterior_is_that_of_scikit_learn():
    seen, _, _ = drawn(15)
    x, unseen = seen[0], groups(20, seed=9)[0]
    y = np.sin(x).sum(axis=1)
    y -= y.mean()
    y /= y.std()
    one = Hyperparameters(amplitudes=np.ones(1), lengths=np.array([1.3]), noise=0.01)
    posterior = Posterior.of(squared_distances([x], [x]), y, one, steps=0)
    mean, std = posterior.predict(squared_distances([unseen], [x]))
    level = posterior.centre
    other = GaussianProcessRegressor(Matern(1.3, nu=2.5), alpha=0.01 + 1e-8, optimizer=None)
    expected, spread = other.fit(x, y - level).predict(unseen, return_std=True)
    np.testing.assert_allclose(mean, expected + level, atol=1e-6)
    np.testing.assert_allclose(std, spread, atol=1e-5)
    single, _ = posterior.predict(squared_distances([unseen.astype(np.float32)], [x]))
    np.testing.assert_allclose(single, mean, atol=1e-3)


def test_left_out_scores_are_those_of_really_leaving_out():
    _, distances, values = drawn(9)
    values = (values - values.mean()) / values.std()
    whole = Posterior.of(distances, values, KNOWN, steps=0)
    level = whole.centre
    for i, score in enumerate(whole.left_out_scores()):
        rest = np.delete(np.arange(9), i)
        covariance = KNOWN.kernel(distances) + KNOWN.noise * np.eye(9)
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, i])
        mean = level + weights @ (values[rest] - level)
        std = np.sqrt(covariance[i, i] - weights @ covariance[rest, i])
        assert score == pytest.approx(abs(values[i] - mean) / std, rel=1e-5)


def test_equal_values_are_predicted_for_certain():
    _, distances, _ = drawn(6)
    posterior = Posterior.of(distances, np.full(6, 0.3))
    mean, std = posterior.predict(distances)
    np.testing.assert_allclose(mean, 0.3)
    np.testing.assert_array_equal(std, 0)
    assert posterior.noise_std == 0


def test_repeated_rows_have_a_cholesky_factor():
    covariance = np.ones((40, 40))
    lower = safe_cholesky(covariance)
    np.testing.assert_allclose(lower @ lower.T, covariance, atol=1e-6)
    slightly = covariance - 1e-6 * np.eye(40)  # no covariance, by rounding errors
    np.testing.assert_allclose(safe_cholesky(slightly)[0], [1, *np.zeros(39)], atol=1e-3)
    with pytest.raises(LinAlgError, match="no Cholesky"):
        safe_cholesky(np.full((3, 3), np.nan))
