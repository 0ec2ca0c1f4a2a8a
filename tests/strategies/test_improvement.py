import numpy as np

from strategies import expected_gain, hypervolume

REFERENCE = (0.5, 8.0)


def logarithmic(points):
    return np.column_stack([points[:, 0], np.log(points[:, 1])])


def volume(points):
    return hypervolume(logarithmic(points), [REFERENCE[0], np.log(REFERENCE[1])])


def test_certain_errors_gain_exactly_the_added_volume():
    rng = np.random.default_rng(0)
    for k in (0, 1, 6):
        front = np.column_stack([rng.uniform(0.1, 0.6, k), rng.uniform(1, 9, k)])
        error, latency = rng.uniform(0.05, 0.6, 40), rng.uniform(0.5, 10, 40)
        gain = expected_gain(front, error, np.zeros(40), latency, REFERENCE)
        expected = [
            volume(np.concatenate([front, [[e, x]]])) - volume(front)
            for e, x in zip(error, latency, strict=True)
        ]
        np.testing.assert_allclose(gain, expected, atol=1e-7)


def test_uncertain_errors_gain_the_mean_over_draws():
    rng = np.random.default_rng(1)
    front = np.array([[0.4, 1.0], [0.3, 2.0], [0.2, 5.0]])
    mean, std, latency = np.array([0.28, 0.35]), np.array([0.05, 0.02]), np.array([1.5, 3.0])
    gain = expected_gain(front, mean, std, latency, REFERENCE)
    for i in range(2):
        draws = rng.normal(mean[i], std[i], 4000)
        gains = [volume(np.concatenate([front, [[e, latency[i]]]])) - volume(front) for e in draws]
        assert abs(gain[i] - np.mean(gains)) < 4 * np.std(gains) / np.sqrt(len(gains))
