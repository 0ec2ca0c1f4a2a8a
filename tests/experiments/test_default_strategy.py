import json

import numpy as np
import pytest

from experiments.benchmarks import default_strategy
from experiments.benchmarks.default_strategy import (
    Figures,
    gather,
    leave_one_out,
    reached_in_time,
)
from experiments.benchmarks.search_scores import POINTS, Searched, keep_search
from records import BadInputError

METHODS = ("PredictorGuided", "Bayesian", "NSGA2")


def figures(shares, seconds=(0.1, 0.1, 0.1)):
    """Figures with the same share at every point, a `families x methods` table."""
    table = np.repeat(np.array(shares, np.float64)[:, :, None], len(POINTS), axis=2)
    return Figures(
        methods=METHODS,
        families=tuple("abcd"[: len(table)]),
        points=POINTS,
        shares=table,
        searches=(1,) * len(table),
        seconds=np.array(seconds),
    )


def test_what_a_strategy_lacks_is_against_the_best_of_its_space():
    found = figures([[0.9, 0.95, 0.8], [0.5, 0.4, 0.5]])
    assert found.shortfalls == pytest.approx(np.array([[5, 0, 15], [0, 10, 0]]))
    assert found.ranks == pytest.approx(np.array([[2, 1, 3], [1.5, 3, 1.5]]))


def test_a_space_has_no_say_in_what_is_picked_for_it():
    """On a and b Bayesian is ahead, on c it is far behind: for c it is picked all the same."""
    found = figures([[0.9, 0.92, 0.8], [0.9, 0.92, 0.8], [0.9, 0.5, 0.8]])
    assert list(leave_one_out(found)) == [
        ("a", "PredictorGuided", "Bayesian"),
        ("b", "PredictorGuided", "Bayesian"),
        ("c", "Bayesian", "PredictorGuided"),
    ]


def test_one_space_alone_is_left_out_of_nothing():
    assert list(leave_one_out(figures([[0.9, 0.8, 0.7]]))) == []


def test_in_the_same_time_a_quick_strategy_makes_more_evaluations():
    shares = np.log(np.array(POINTS)) / np.log(200)
    found = figures([[0, 0, 0]], seconds=(0.4, 0.9, 0.1))  # the default is the second
    object.__setattr__(found, "shares", np.tile(shares, (1, 3, 1)))
    # 50 evaluations of 0.1 s and suggestions of 0.9 s: 50 s for all.
    expected = np.log([100, 50, 200]) / np.log(200)
    assert reached_in_time(found, 0.1, 50) == pytest.approx(expected)
    # With evaluations of an hour they make the same number.
    assert reached_in_time(found, 3600.0, 50) == pytest.approx(expected[[1, 1, 1]], abs=1e-3)


def test_too_slow_strategies_have_no_figure():
    found = figures([[0.9, 0.9, 0.9]], seconds=(0.1, 0.1, 1.0))
    assert np.isnan(reached_in_time(found, 0.001, 50)).tolist() == [False, False, True]


class Line:
    """A case whose front is one point: a search's share follows from its best error."""

    def __init__(self, name):
        self.name, self.family = name, name.split()[0]

    def front(self, seed):
        return np.array([[0.0, 1.0], [10.0, 0.5]])

    def front_key(self, seed):
        return self.name

    def limit(self):
        return np.inf


def searched(method, case, seed, budget=200, seconds=0.1):
    quality = {"PredictorGuided": 1.0, "Bayesian": 0.5, "NSGA2": 2.0}[method]
    error = tuple(quality * 8 / np.sqrt(np.arange(1, budget + 1)))
    return Searched(
        method=method,
        case=case,
        seed=seed,
        budget=budget,
        seconds=seconds,
        measured=error,
        error=error,
        latency_ms=(0.9,) * budget,
    )


def test_runs_that_not_all_strategies_have_do_not_count():
    cases = [Line("a x"), Line("a y"), Line("b x")]
    runs = [searched(m, "a x", s) for m in METHODS for s in (0, 1)]
    runs += [searched(m, "a y", 0) for m in METHODS[:2]]  # one is missing
    runs += [searched(m, "b x", 0, budget=100) for m in METHODS]  # not to the end
    found = gather(cases, runs, METHODS)
    assert (found.families, found.searches) == (("a",), (2,))
    assert found.shares.shape == (1, 3, 4)
    assert (np.diff(found.shares, axis=2) > 0).all()
    assert found.ranks.argsort().tolist() == [[1, 0, 2]]
    shorter = gather(cases, runs, METHODS, budget=100)
    assert (shorter.families, shorter.points) == (("a", "b"), (25, 50, 100))
    with pytest.raises(BadInputError, match="large_space"):
        gather(cases, runs[:1], METHODS)


def test_the_command_goes_on_with_kept_searches_and_shows_the_choice(
    tmp_path, monkeypatch, capsys
):
    cases = [Line("nb201 lat"), Line("ofa phone"), Line("digits board")]
    monkeypatch.setattr(default_strategy, "table_cases", lambda folder: cases[:1])
    monkeypatch.setattr(default_strategy, "large_cases", lambda *_: cases[1:])
    for case, file in ((cases[0], "tables.jsonl"), (cases[1], "scores.jsonl")):
        for method in METHODS:
            keep_search(tmp_path / file, searched(method, case.name, 0))
    arguments = [
        "default_strategy", "--folder", str(tmp_path), "--json", str(tmp_path / "f.json"),
        "--seeds", "1", "--methods", *METHODS,
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", arguments)
    default_strategy.benchmark_main(
        "default_strategy", default_strategy.run, default_strategy.add_arguments
    )
    written = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert [(r["left_out"], r["picked"], r["shortfall"]) for r in written["left_out"]] == [
        ("nb201", "Bayesian", 0.0),
        ("ofa", "Bayesian", 0.0),
    ]
    assert len(written["shares"]) == 6
    assert [r["evaluation_seconds"] for r in written["trade"]] == [0.001, 0.01, 0.1, 1.0, 10.0]
    printed = capsys.readouterr().out
    assert "chosen on the other spaces" in printed
    assert "share in the time of 50 evaluations" in printed
