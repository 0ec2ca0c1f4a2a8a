import numpy as np
import pytest

from records import BadInputError, UnknownNameError
from strategies import search
from strategies.by_name import DEFAULT_STRATEGY, ENDING, STRATEGIES, strategy_by_name
from tests.strategies.contract import LIMIT_MS
from tests.strategies.test_slimming import problem_of

SLOW = ("bayesian", "predictor-guided", "optuna-tpe", "slimming")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in STRATEGIES]
)
def test_a_search_with_each_gives_a_front_within_the_limits(name):
    if name.startswith("pymoo"):
        pytest.importorskip("pymoo")
    problem = problem_of(latency_ms=LIMIT_MS)
    front = search(problem, evaluations=40, strategy=strategy_by_name(name, problem, 1))
    assert len(front.result.observations) == 40
    assert len(front) > 0
    assert (problem.violations(np.array([p.genes for p in front], np.int16)) <= 0).all()
    assert front.result.strategy == type(strategy_by_name(name, problem, 1)).__name__


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="local-search"):
        strategy_by_name("local-serach", problem_of())
    assert DEFAULT_STRATEGY in STRATEGIES


@pytest.mark.parametrize("name", ENDING)
def test_a_least_gain_ends_strategies_that_expect_one(name):
    strategy = strategy_by_name(name, problem_of(), 0, least_gain=0.25)
    assert strategy.least_gain == 0.25
    assert strategy_by_name(name, problem_of(), 0).least_gain == 0


def test_a_least_gain_for_a_strategy_without_one_is_refused():
    with pytest.raises(BadInputError, match=r"random knows no expected gain.*bayesian"):
        strategy_by_name("random", problem_of(), 0, least_gain=0.1)
