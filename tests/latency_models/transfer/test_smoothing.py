"""Smoothing against planted truths and against ridge regressions with a row left out."""

import numpy as np

from latency_models.transfer import smoothing


def test_noise_goes_and_the_truth_stays():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(800, 20))
    truth = 5 + basis @ rng.uniform(0, 1, 20)
    noisy = truth + rng.normal(0, 2.0, 800)
    noisy[:20] += 100.0  # a clock that stood still for a while
    smoothed = smoothing.smooth(basis, np.stack([noisy, truth], axis=1))
    assert np.sqrt(np.mean((smoothed[20:, 0] - truth[20:]) ** 2)) < 0.5
    np.testing.assert_allclose(smoothed[:, 1], truth, atol=0.1)


def test_leave_one_out_is_what_a_fit_without_the_row_says(monkeypatch):
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(12, 4))
    basis -= basis.mean(axis=0)
    values = rng.normal(size=(12, 1))
    monkeypatch.setattr(smoothing, "_RIDGES", np.array([0.7]))
    _, left_out = smoothing._best_fit(*smoothing._rotated(basis), values)
    for row in range(12):
        others = np.arange(12) != row
        design = np.concatenate([np.ones((11, 1)), basis[others]], axis=1)
        penalty = np.diag([0.0] + [0.7] * 4)
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ values[others, 0])
        expected = weights[0] + basis[row] @ weights[1:]
        np.testing.assert_allclose(left_out[row, 0], expected, rtol=1e-9)
