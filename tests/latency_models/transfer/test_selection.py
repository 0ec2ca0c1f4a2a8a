"""The choice of rows, against the greedy choice with a matrix inverse at every step."""

import numpy as np

from latency_models.transfer import posterior, selection
from latency_models.transfer.prior import PARTS, DevicePrior


def test_every_row_takes_most_variance_away_from_all_others():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 1.5, 25)
    parts = tuple(rng.normal(0, 0.3, (25, p)) for p in (3, 2, 2, 1, 1, 5))
    mean = mean / mean.mean()
    none = np.zeros((len(mean), 0))
    prior = DevicePrior(mean=mean, physics=none, devices=none, variance=0.08, parts=parts)
    chosen = selection.choose_rows(prior, 6, np.random.default_rng(0))

    strengths = [selection.OTHERS * posterior.STRENGTHS[name] for name in PARTS]
    strengths[PARTS.index("devices")] = selection.DEVICES * posterior.STRENGTHS["devices"]
    factors = zip([1.0, *strengths], prior.factors, strict=True)
    kernel = sum((s * f) @ (s * f).T for s, f in factors)
    noise = selection.NOISE**2 * prior.variance

    def left(rows):
        covariance = kernel[np.ix_(rows, rows)] + noise * np.eye(len(rows))
        return np.trace(kernel - kernel[:, rows] @ np.linalg.inv(covariance) @ kernel[rows])

    for k in range(6):
        before = chosen[:k].tolist()
        best = min(left([*before, row]) for row in range(25) if row not in before)
        np.testing.assert_allclose(left(chosen[: k + 1].tolist()), best, rtol=1e-9)


def test_a_shorter_choice_is_the_first_part_of_a_longer_one():
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.5, 1.5, 40)
    parts = tuple(rng.normal(0, 0.3, (40, p)) for p in (3, 2, 2, 1, 1, 5))
    mean = mean / mean.mean()
    none = np.zeros((len(mean), 0))
    prior = DevicePrior(mean=mean, physics=none, devices=none, variance=0.08, parts=parts)
    long = selection.choose_rows(prior, 8, np.random.default_rng(3))
    short = selection.choose_rows(prior, 4, np.random.default_rng(3))
    assert long[:4].tolist() == short.tolist()
    assert len(set(long.tolist())) == 8
