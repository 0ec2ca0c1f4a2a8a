"""Strategies by name, for the command line: with settings for some hundred evaluations.

In code, import the class and pass the instance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from predictors import BoostedTrees
from records import BadInputError, unknown_name
from strategies.bayesian import Bayesian
from strategies.deepmad import DeepMAD
from strategies.local_search import LocalSearch
from strategies.nsga2 import NSGA2
from strategies.nsga3 import NSGA3
from strategies.predictor_guided import PredictorGuided
from strategies.problem import Problem
from strategies.random_search import RandomSearch
from strategies.regularized_evolution import RegularizedEvolution
from strategies.sensitivity import SensitivityBisection
from strategies.slimming import Slimming
from strategies.strategy import Strategy

Make: TypeAlias = Callable[[Problem, int], Strategy]

DEFAULT_STRATEGY = "bayesian"
_POPULATION = 20


def strategy_by_name(
    name: str, problem: Problem, seed: int = 0, least_gain: float = 0.0
) -> Strategy:
    """Makes a strategy for a problem.

    Args:
        name: One of `STRATEGIES`.
        problem: What to search for.
        seed: See `Strategy`.
        least_gain: Where the expected gain falls below this share of the hypervolume found, the
            strategy is finished; 0 for never. For `ENDING` alone.

    Raises:
        UnknownNameError: There is no such strategy; the names are listed.
        BadInputError: A strategy of a library that is not installed, or one that knows no
            expected gain.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    if not least_gain:
        return STRATEGIES[name](problem, seed)
    if name not in ENDING:
        raise BadInputError(
            f"{name} knows no expected gain, so that least_gain cannot end it; these do: "
            f"{', '.join(ENDING)}"
        )
    return ENDING[name](problem, seed=seed, least_gain=least_gain)


def _slimming(problem: Problem, seed: int) -> Strategy:
    return Slimming(problem, BoostedTrees(problem.space, seed=seed), seed=seed)


def _regularized_evolution(problem: Problem, seed: int) -> Strategy:
    return RegularizedEvolution(
        problem.space,
        population_size=2 * _POPULATION,
        tournament_size=_POPULATION // 2,
        screen=problem.violations,
        seed=seed,
    )


def _optuna(name: str, **options: Any) -> Make:
    def make(problem: Problem, seed: int) -> Strategy:
        import optuna

        from strategies.optuna_strategy import OptunaStrategy

        def sampler(seed: int) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return getattr(optuna.samplers, name)(seed=seed, **options)

        return OptunaStrategy(problem, sampler, seed=seed)

    return make


def _pymoo_nsga2(problem: Problem, seed: int) -> Strategy:
    from strategies.pymoo_strategy import PymooStrategy, integer_nsga2

    return PymooStrategy(problem, integer_nsga2(_POPULATION), seed=seed)


STRATEGIES: Mapping[str, Make] = {
    "bayesian": lambda problem, seed: Bayesian(problem, seed=seed),
    "predictor-guided": lambda problem, seed: PredictorGuided(problem, seed=seed),
    "nsga2": lambda problem, seed: NSGA2(
        problem.space, population_size=_POPULATION, screen=problem.violations, seed=seed
    ),
    "nsga3": lambda problem, seed: NSGA3(
        problem.space, population_size=_POPULATION, screen=problem.violations, seed=seed
    ),
    "regularized-evolution": _regularized_evolution,
    "local-search": lambda problem, seed: LocalSearch(problem.space, seed=seed),
    "slimming": _slimming,
    "deepmad": lambda problem, seed: DeepMAD(problem, seed=seed),
    "sensitivity": lambda problem, seed: SensitivityBisection(problem, seed=seed),
    "random": lambda problem, seed: RandomSearch(problem.space, seed=seed),
    "optuna-tpe": _optuna("TPESampler", multivariate=True, group=True),
    "optuna-nsga2": _optuna("NSGAIISampler", population_size=_POPULATION),
    "pymoo-nsga2": _pymoo_nsga2,
}
"""What makes each strategy, from the problem and a seed; the default first."""

ENDING: Mapping[str, Callable[..., Strategy]] = {
    "bayesian": Bayesian,
    "predictor-guided": PredictorGuided,
}
"""Strategies that know what further evaluations may bring, and end where that is too little."""
