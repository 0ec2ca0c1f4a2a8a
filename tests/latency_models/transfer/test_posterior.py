"""The weighted Gaussian processes against ones computed the long way, one after the other."""

import dataclasses

import numpy as np
import pytest

from latency_models.transfer import posterior
from latency_models.transfer.prior import NEAR, DevicePrior, base


@pytest.fixture
def prior():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 1.5, 30)
    parts = [rng.normal(0, 0.3, (30, p)) for p in (3, 2, 2, 1, 1, 5)]
    devices, physics = rng.uniform(0.5, 1.5, (2, 30, 2))
    return DevicePrior(
        mean=mean / mean.mean(),
        physics=physics / physics.mean(axis=0),
        devices=devices / devices.mean(axis=0),
        variance=0.08,
        parts=tuple(parts),
    )


def one_by_one(prior, rows, measured):
    """The mean and variance of the mixture, with a new covariance for each of its members."""
    strengths, noise = posterior.strength_draws()
    logs, means, variances = [], [], []
    centres = np.concatenate([prior.mean[:, None], prior.physics, prior.devices], axis=1)
    for column, centre in enumerate(centres.T):
        unit = measured.mean() / centre[rows].mean()
        near = 1 if column < 3 else NEAR
        for strength, sigma in zip(strengths, noise, strict=True):
            parts = zip(strength, prior.parts, strict=True)
            factors = [base(centre), *(near * s * part for s, part in parts)]
            kernel = unit**2 * sum(f @ f.T for f in factors)
            usual = sigma**2 * prior.variance * unit**2 + posterior._step(measured) ** 2 / 12
            y = measured - unit * centre[rows]
            for disturbed in [None, *range(len(rows))]:
                variance = np.full(len(rows), usual)
                chance = posterior._DISTURBED
                if disturbed is None:
                    chance = 1 - posterior._DISTURBED * len(rows)
                else:
                    variance[disturbed] *= posterior._DISTURBANCE**2
                covariance = kernel[np.ix_(rows, rows)] + np.diag(variance)
                inverse = np.linalg.inv(covariance)
                logs.append(
                    np.log(chance) - 0.5 * y @ inverse @ y - 0.5 * np.linalg.slogdet(covariance)[1]
                )
                means.append(unit * centre + kernel[:, rows] @ inverse @ y)
                explained = ((kernel[:, rows] @ inverse) * kernel[:, rows]).sum(axis=1)
                variances.append(np.diag(kernel) - explained + usual)
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    variance = weights @ np.array(variances) + weights @ (np.array(means) - mean) ** 2
    return mean, np.sqrt(variance)


@pytest.mark.parametrize("measured", [[3.2, 4.1, 2.5, 8.7, 3.3], [3, 4, 2, 9, 3]], ids=str)
def test_prediction_is_the_mixture_of_all_its_members(prior, measured, monkeypatch):
    monkeypatch.setattr(posterior, "_LEAST_WEIGHT", 0.0)
    draws = posterior.strength_draws(draws=16)
    monkeypatch.setattr(posterior, "strength_draws", lambda: draws)
    rows, measured = np.array([3, 11, 7, 20, 29]), np.array(measured, float)
    mean, deviation = one_by_one(prior, rows, measured)
    found = posterior.predict(prior, rows, measured)
    np.testing.assert_allclose(found.mean_ms, mean, rtol=1e-6)
    np.testing.assert_allclose(found.deviation_ms, deviation, rtol=1e-5)


def test_a_device_like_a_known_one_is_recognised_from_three_networks(prior):
    other = dataclasses.replace(prior, devices=prior.devices[:, :0])
    rows, truth = np.array([3, 11, 7]), 40 * prior.devices[:, 1]
    near = posterior.predict(prior, rows, truth[rows])
    far = posterior.predict(other, rows, truth[rows])
    assert np.corrcoef(near.mean_ms, truth)[0, 1] > 0.9
    assert np.corrcoef(near.mean_ms, truth)[0, 1] > np.corrcoef(far.mean_ms, truth)[0, 1]


def test_draws_of_the_strengths_have_the_stated_medians():
    strengths, noise = posterior.strength_draws()
    medians = list(posterior.STRENGTHS.values())
    np.testing.assert_allclose(np.median(strengths, axis=0), medians, rtol=0.1)
    np.testing.assert_allclose(np.median(noise), posterior.NOISE, rtol=0.1)
    spreads = np.log(strengths).std(axis=0) / np.log(posterior.STRENGTH_FACTOR)
    np.testing.assert_allclose(spreads, 1, rtol=0.1)


def test_whole_milliseconds_are_taken_as_rounded():
    assert posterior._step(np.array([3.0, 5.0])) == 1.0
    assert posterior._step(np.array([3.0, 5.1])) == 0.0
