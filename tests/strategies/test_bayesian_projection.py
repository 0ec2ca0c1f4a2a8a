from dataclasses import replace

import numpy as np
import pytest

from predictors.gaussian_process_fit import Hyperparameters, Posterior
from predictors.kernels import squared_distances
from strategies.bayesian_models import Belief
from strategies.bayesian_projection import Projection, distinct_rows

KNOWN = Hyperparameters(amplitudes=np.array([0.6, 0.3]), lengths=np.array([0.8, 1.7]), noise=0.02)
OTHER = replace(KNOWN, noise=0.05)


def groups(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.normal(size=(n, 2))


def posterior(seen, values, known=KNOWN):
    return Posterior.of(squared_distances(seen, seen), values, known, steps=0)


LIST = groups(1500, 0)
SEEN = groups(60, 1)
VALUES = np.sin(SEEN[0]).sum(axis=1) + SEEN[1][:, 0]


def part(rows):
    return tuple(group[rows] for group in SEEN)


def agrees(projection, rows, values=VALUES, known=KNOWN):
    """Whether the projection says what the posterior itself does."""
    seen = part(rows)
    believed = posterior(seen, values[rows], known)
    expected = believed.predict(squared_distances(LIST, seen))
    for found, wanted in zip(projection.predict(believed, seen), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4 * np.ptp(VALUES))


def test_a_list_is_predicted_as_the_posterior_does_however_rows_come_and_go():
    projection = Projection(LIST)
    rows = np.arange(60)
    for n in (20, 21, 22, 40, 40, 60):  # rows are added
        agrees(projection, rows[:n])
    agrees(projection, rows[:60], values=VALUES[::-1])  # measured anew
    agrees(projection, rows[:30])  # rows are taken back
    agrees(projection, np.concatenate([rows[:25], rows[40:50]]))  # and others take their place
    agrees(projection, rows[10:50])
    agrees(projection, rows[10:50], known=OTHER)
    agrees(projection, rows[10:55], known=OTHER)


def test_only_what_is_new_is_compared_with_the_list(monkeypatch):
    projection = Projection(LIST)
    compared = []
    covariance = Projection._covariance

    def counted(self, known, new, at):
        compared.append(len(new[0]))
        return covariance(self, known, new, at)

    monkeypatch.setattr(Projection, "_covariance", counted)
    for n, new in ((30, 30), (31, 1), (31, 0), (35, 4), (20, 0)):
        compared.clear()
        agrees(projection, np.arange(n))
        assert set(compared) == ({new} if new else set())
    agrees(projection, np.arange(20), known=OTHER)
    assert set(compared) == {20}


def test_what_is_certain_stays_so_in_a_list_with_repeated_rows():
    twice = tuple(np.concatenate([group, group[:7]]) for group in LIST)
    seen = part(np.arange(12))
    mean, std = Projection(twice).predict(posterior(seen, np.full(12, 0.4)), seen)
    np.testing.assert_allclose(mean, 0.4)
    np.testing.assert_array_equal(std, 0)
    first, inverse = distinct_rows(twice)
    assert len(first) == 1500
    np.testing.assert_array_equal(inverse[-7:], inverse[:7])


@pytest.mark.parametrize("n", [1, 5])
def test_a_belief_predicts_a_list_as_it_predicts_rows(n):
    belief = Belief((0, 1))
    belief.fit(part(np.arange(n)), VALUES[:n])
    listed, alone = belief.predict_list(LIST), belief.predict(LIST)
    np.testing.assert_allclose(listed, alone, atol=1e-4)
    other = groups(10, 5)
    np.testing.assert_allclose(belief.predict_list(other), belief.predict(other), atol=1e-4)


def test_hyperparameters_are_learned_with_each_row_at_first_and_seldom_later(monkeypatch):
    monkeypatch.setattr("strategies.bayesian_models._FEW", 20)
    belief = Belief((0, 1))
    learned = []
    for n in range(10, 41):
        before = belief.known
        belief.fit(part(np.arange(n)), VALUES[:n])
        if belief.known is not before:
            learned.append(n)
            assert belief.learned_from == n
    assert learned[:11] == list(range(10, 21))
    steps = np.diff(learned[10:])
    assert steps.min() >= 2
    assert (steps <= 0.1 * np.array(learned[10:-1]) + 1).all()
    belief.fit(part(np.arange(12)), VALUES[:12])
    assert belief.learned_from == 12
