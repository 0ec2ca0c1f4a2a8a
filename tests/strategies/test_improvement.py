import numpy as np
import pytest

from records import BadInputError
from strategies import expected_gain, hypervolume
from strategies.improvement import staircase_gain

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


def test_uncertain_costs_gain_the_mean_over_draws_of_both():
    rng = np.random.default_rng(2)
    front = np.array([[0.4, 1.0], [0.3, 2.0], [0.2, 5.0]])
    mean, std = np.array([0.28, 0.35, 0.1]), np.array([0.05, 0.02, 0.03])
    cost, cost_std = np.array([1.5, 3.0, 7.9]), np.array([0.4, 1.0, 0.5])
    gain = staircase_gain(front, mean, std, cost, REFERENCE, cost_std)
    whole = hypervolume(front, REFERENCE)
    for i in range(3):
        draws = rng.normal([mean[i], cost[i]], [std[i], cost_std[i]], (4000, 2))
        gains = [hypervolume(np.concatenate([front, [d]]), REFERENCE) - whole for d in draws]
        assert abs(gain[i] - np.mean(gains)) < 4 * np.std(gains) / np.sqrt(len(gains))


def test_costs_that_are_almost_certain_gain_what_known_ones_do():
    rng = np.random.default_rng(3)
    front = np.column_stack([rng.uniform(0.1, 0.6, 6), rng.uniform(1, 9, 6)])
    mean, std, cost = rng.uniform(0.05, 0.6, 30), np.full(30, 0.1), rng.uniform(0.5, 10, 30)
    known = staircase_gain(front, mean, std, cost, REFERENCE)
    almost = staircase_gain(front, mean, std, cost, REFERENCE, np.full(30, 1e-7))
    np.testing.assert_allclose(almost, known, atol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spread", [None, 0.2], ids=["known", "learned"])
def test_what_is_not_finite_gains_nothing_and_changes_no_other_gain(spread):
    rng = np.random.default_rng(4)
    front = np.column_stack([rng.uniform(0.1, 0.6, 6), rng.uniform(1, 9, 6)])
    mean, std, cost = rng.uniform(0.05, 0.4, 9), np.full(9, 0.1), rng.uniform(0.5, 5, 9)
    costs = None if spread is None else np.full(9, spread)
    expected = staircase_gain(front, mean, std, cost, REFERENCE, costs)
    assert (expected > 0).all()
    mean[0], mean[1], std[2], cost[3], cost[4], cost[5] = (
        np.inf,
        np.nan,
        np.nan,
        np.inf,
        np.nan,
        99,
    )
    holes = [[np.nan, 1.0], [0.01, np.inf], [np.inf, 1.0], [0.2, np.nan], [np.inf, np.nan]]
    found = staircase_gain(np.vstack([front, holes]), mean, std, cost, REFERENCE, costs)
    np.testing.assert_array_equal(found[:6], 0)
    np.testing.assert_allclose(found[6:], expected[6:])


@pytest.mark.filterwarnings("error")
def test_latencies_of_zero_and_infinity_are_borne():
    front = np.array([[0.4, 1.0], [0.3, np.inf], [0.5, 0.0]])
    latency = np.array([np.inf, 2.0, 0.0])
    gain = expected_gain(front, np.full(3, 0.2), np.full(3, 0.1), latency, REFERENCE)
    assert gain[0] == 0
    assert 0 < gain[1] < gain[2] < np.inf


@pytest.mark.parametrize("reference", [(0.5, np.inf), (np.nan, 8.0)])
def test_a_reference_that_is_not_finite_is_refused(reference):
    with pytest.raises(BadInputError, match="must be finite"):
        staircase_gain(np.zeros((0, 2)), np.ones(1), np.ones(1), np.ones(1), reference)
