from dataclasses import dataclass, replace

import numpy as np
import pytest

from experiments.benchmarks import search_scores
from experiments.benchmarks.search_scores import (
    Searched,
    all_shares,
    best_known_front,
    keep_search,
    mean_and_interval,
    peer_rows,
    ranks,
    read_searches,
    run_missing,
    search_once,
    shares,
)
from experiments.benchmarks.synthetic_accuracy import SyntheticAccuracy
from search_spaces import HybridSpace, HybridStage
from strategies import Problem, hypervolume

SPACE = HybridSpace(
    image_size=8,
    channels=1,
    stages=(HybridStage(depths=(0, 1, 2), widths=(16, 32), expansions=(1, 2), heads=(1, 2)),),
)
ROWS = SPACE.enumerate()


class Macs:
    """MACs in thousands stand for latency."""

    target_name = "board"
    metrics = ("latency_ms",)

    def predict(self, genes):
        return {"latency_ms": SPACE.layer_table(genes).macs / 1e3}

    def bound(self, metric, genes, probability=0.95):
        return self.predict(genes)[metric]

    def extremes(self, metric):
        values = self.predict(ROWS)[metric]
        low, high = values.argmin(), values.argmax()
        return (float(values[low]), ROWS[low]), (float(values[high]), ROWS[high])


@dataclass(frozen=True)
class TinyCase:
    """All of a small space, with a synthetic accuracy."""

    name: str = "tiny board"
    family: str = "tiny"
    most: float = np.inf
    noise: float = 0.002

    def accuracy(self, seed):
        return SyntheticAccuracy(SPACE, seed=seed, noise=self.noise)

    def problem(self, seed):
        limits = {"latency_ms": self.most} if self.most < np.inf else {}
        return Problem(SPACE, self.accuracy(seed), [Macs()], limits=limits)

    def errors(self, genes, measured, seed):
        return 100 * (1 - self.accuracy(seed).values(genes))

    def front(self, seed):
        points = [self.errors(ROWS, np.zeros(0), seed), Macs().predict(ROWS)["latency_ms"]]
        return np.column_stack(points)

    def front_key(self, seed):
        return f"tiny {seed}"

    def limit(self):
        return self.most


def searched(error, latency, measured=None, **changes):
    found = Searched(
        method="NSGA2",
        case="tiny board",
        seed=0,
        budget=100,
        seconds=0.1,
        measured=tuple(error if measured is None else measured),
        error=tuple(error),
        latency_ms=tuple(latency),
    )
    return replace(found, **changes)


FRONT = np.array([[10.0, 1.0], [5.0, 2.0], [0.0, 3.0]])
REFERENCE = [11.0, 3.2]  # ideal plus 1.1 times the distance to the nadir


def test_the_whole_front_is_a_share_of_1_and_a_part_its_part():
    assert shares(searched(FRONT[:, 0], FRONT[:, 1]), FRONT) == pytest.approx((1, 1, 1))
    part = FRONT[:2]
    expected = hypervolume(part, REFERENCE) / hypervolume(FRONT, REFERENCE)
    assert shares(searched(part[:, 0], part[:, 1]), FRONT) == pytest.approx((expected,) * 3)


def test_only_what_was_evaluated_by_then_counts():
    error = np.full(100, 10.0)
    error[[40, 80]] = 5.0, 0.0
    latency = np.full(100, 1.0)
    latency[[40, 80]] = 2.0, 3.0
    volumes = [hypervolume(FRONT[:k], REFERENCE) for k in (1, 2, 3)]
    expected = [v / volumes[-1] for v in volumes]
    assert shares(searched(error, latency), FRONT) == pytest.approx(expected)


def test_a_lucky_measurement_is_taken_for_what_it_is_worth():
    """The network that looks best hides one that is better: without noise it would be taken."""
    honest = searched([5.0, 8.0], [2.0, 2.0])
    lucky = searched([5.0, 8.0], [2.0, 2.0], measured=[5.0, 4.0])
    only_worse = searched([8.0], [2.0])
    assert shares(lucky, FRONT) == shares(only_worse, FRONT) < shares(honest, FRONT)


def test_failed_evaluations_count_as_made_and_bring_nothing():
    failed = searched([np.nan, 5.0], [1.0, 2.0])
    assert shares(failed, FRONT) == shares(searched([5.0], [2.0]), FRONT)


def test_points_beyond_the_budget_are_left_out_and_a_search_that_ended_keeps_what_it_had():
    assert len(shares(searched([5.0], [2.0], budget=50), FRONT)) == 2
    assert len(shares(searched([5.0], [2.0], budget=24), FRONT)) == 0
    assert len(set(shares(searched([5.0], [2.0]), FRONT))) == 1


def test_the_best_front_known_has_what_searches_found_and_keeps_the_limit():
    class Known(TinyCase):
        def front(self, seed):
            return FRONT

    better = searched([4.0, 1.0], [2.0, 2.9])
    front = best_known_front(Known(), 0, [better])
    assert sorted(front.tolist()) == [[0.0, 3.0], [1.0, 2.9], [4.0, 2.0], [10.0, 1.0]]
    within = best_known_front(Known(most=2.5), 0, [better])
    assert sorted(within.tolist()) == [[4.0, 2.0], [10.0, 1.0]]


def test_the_same_function_with_and_without_limit_knows_one_front():
    class Nothing(TinyCase):
        def front(self, seed):
            return np.zeros((0, 2))

    free, limited = Nothing(), Nothing(name="tiny board limited", most=100.0)
    one = searched([8.0, 3.0], [2.0, 90.0])
    other = searched([5.0], [90.0], case="tiny board limited")
    found = all_shares([free, limited], [one, other, searched([1], [1], case="unknown")])
    assert set(found) == {one.key, other.key}
    front = np.array([[8.0, 2.0], [3.0, 90.0]])
    assert found[other.key] == pytest.approx(shares(other, front))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("PredictorGuided", marks=pytest.mark.slow),
        "RandomSearch",
        "pymoo NSGA-II",
    ],
)
def test_a_search_evaluates_its_budget_within_the_limit_and_says_what_is_true(method):
    case = TinyCase(most=float(np.quantile(Macs().predict(ROWS)["latency_ms"], 0.7)))
    found = search_once(case, method, seed=1, budget=20)
    assert len(found.error) == len(found.measured) == len(found.latency_ms) == 20
    assert max(found.latency_ms) <= case.most
    points = case.front(1)
    for point in zip(found.error, found.latency_ms, strict=True):
        assert abs(points - point).max(axis=1).min() < 1e-4
    noise = np.array(found.measured) - np.array(found.error)
    assert 0.05 < noise.std() < 0.5
    again = search_once(case, method, seed=1, budget=20)
    assert (again.measured, again.latency_ms) == (found.measured, found.latency_ms)


def test_a_peer_is_not_charged_for_known_networks_and_for_those_beyond_the_limit():
    case = TinyCase(most=float(np.median(Macs().predict(ROWS)["latency_ms"])))
    problem = case.problem(0)
    is_within = problem.violations(ROWS) <= 0
    within, beyond = ROWS[is_within], ROWS[~is_within]
    told = []

    def peer(problem, evaluate, seed):
        told.append(evaluate(beyond[0]))
        for row in (within[0], within[1], within[0], beyond[1], within[2], within[3], within[4]):
            told.append(evaluate(row))

    rows, errors = peer_rows(problem, peer, 4, 0)
    assert (rows == within[:4]).all()
    assert errors == pytest.approx(100 * (1 - case.accuracy(0).measured(within[:4])))
    assert told[0][0] == 100.0  # nothing is known yet
    assert told[0][2] == pytest.approx(problem.violations(beyond[:1])[0])
    assert told[3] == told[1]
    assert told[4][0] == max(errors[:2])
    assert len(told) == 7  # the fifth new network was one too many


def test_a_peer_that_proposes_nothing_new_is_stopped():
    calls = []

    def peer(problem, evaluate, seed):
        while True:
            calls.append(evaluate(ROWS[0]))

    rows, _ = peer_rows(TinyCase().problem(0), peer, 3, 0, most_calls=30)
    assert len(rows) == 1
    assert len(calls) == 30


def test_searches_are_kept_and_read_again_the_last_one_counts(tmp_path):
    path = tmp_path / "new" / "scores.jsonl"
    first = searched([8.0, np.nan], [2.0, 3.0])
    other = replace(first, seed=1)
    later = replace(first, error=(7.0, 1.0))
    for one in (first, other, later):
        keep_search(path, one)
    found = read_searches(path)
    assert found[first.key].error == (7.0, 1.0)
    assert found[first.key].measured[0] == 8.0
    assert np.isnan(found[other.key].error[1])
    assert list(found) == [first.key, other.key]
    assert read_searches(None) == {} == read_searches(tmp_path / "none")


def test_what_is_kept_is_not_run_again_but_with_a_larger_budget(tmp_path, monkeypatch):
    path = tmp_path / "scores.jsonl"
    ran = []

    def fake(case, method, seed, budget):
        ran.append((method, seed, budget))
        return searched([5.0] * budget, [2.0] * budget, method=method, seed=seed, budget=budget)

    monkeypatch.setattr(search_scores, "search_once", fake)
    case = TinyCase()
    run_missing([(case, "NSGA2", 0, 3), (case, "NSGA2", 1, 3)], path)
    found = run_missing(
        [(case, "NSGA2", 0, 3), (case, "NSGA2", 1, 5), (case, "Bayesian", 0, 3)], path
    )
    assert ran == [("NSGA2", 0, 3), ("NSGA2", 1, 3), ("NSGA2", 1, 5), ("Bayesian", 0, 3)]
    assert [len(one.error) for one in found] == [3, 5, 3]


def test_means_have_intervals_by_students_t():
    mean, half = mean_and_interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 4.302653 / np.sqrt(3)))
    assert mean_and_interval([1.0]) == (1.0, None)


def test_ranks_are_of_runs_that_all_have_and_ties_share():
    found = {
        ("A", "x", 0): (0.9, 0.9), ("B", "x", 0): (0.8, 0.9), ("C", "x", 0): (0.7, 0.1),
        ("A", "x", 1): (0.1, 0.2), ("B", "x", 1): (0.3, 0.3), ("C", "x", 1): (0.2, 0.1),
        ("A", "y", 0): (0.1, 0.2), ("B", "y", 0): (0.3,),
    }  # fmt: skip
    assert ranks(found, ["A", "B", "C"], 25) == pytest.approx({"A": 2.0, "B": 1.5, "C": 2.5})
    assert ranks(found, ["A", "B", "C"], 50) == pytest.approx({"A": 1.75, "B": 1.25, "C": 3.0})
    assert ranks(found, ["A", "D"], 25) == {}
