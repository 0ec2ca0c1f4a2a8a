"""How fast strategies propose and learn: candidates a second, and the memory of a million.

Whole generations (ask, tell) of each strategy on the quickstart's hybrid space (digits at 8x8),
with two and three cheap objectives: log MACs, latency, log parameters. "Included" counts the
making of the objectives, "excluded" the strategy alone. Evolutionary strategies and the peers have
a population of 1,000; a peer's rate is that of its own loop on the same objectives, and "through"
is an adapter's. Rates are medians over generations of one process; numpy and moocore use one
thread.

The memory is what a process grew by after a strategy was told a million distinct candidates, and
the length of its state.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from experiments.benchmarks.harness import benchmark_main, show
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from hardware_profiles import local_target
from latency_models import RooflineCostModel
from records import BadInputError
from search_spaces import Genes, SearchSpace
from strategies import (
    NSGA2,
    NSGA3,
    LocalSearch,
    Problem,
    RandomSearch,
    RegularizedEvolution,
    Strategy,
)
from strategies.protocols import Floats

POPULATION = 1000
GENERATIONS = 40
PEER_GENERATIONS = 10
FEW = 200
MILLION = 1_000_000

Objectives = Callable[[Genes], Floats]

STRATEGIES: Mapping[str, Callable[[SearchSpace], Strategy]] = {
    "random search": RandomSearch,
    "NSGA-II": lambda space: NSGA2(space, population_size=POPULATION),
    "NSGA-III": lambda space: NSGA3(space, population_size=POPULATION),
    "regularized evolution": lambda s: RegularizedEvolution(s, population_size=POPULATION),
    "local search": LocalSearch,
}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints all figures."""
    space = make_space("hybrid", load_dataset("digits"))
    costs = RooflineCostModel(space, local_target())
    figures: dict[str, Any] = {}
    with threadpool_limits(1):
        for count in (2, 3):
            objectives = cheap_objectives(space, costs, count)
            figures[f"{count} objectives"] = rates(space, costs, objectives, count)
    if not arguments.no_memory:
        figures["memory"] = memories(arguments.candidates)
    return figures


def cheap_objectives(space: SearchSpace, costs: RooflineCostModel, count: int) -> Objectives:
    """(-log MACs, latency) or (-log MACs, latency, log parameters)."""

    def objectives(genes: Genes) -> Floats:
        table = space.layer_table(genes)
        columns = [-np.log(table.macs), costs.latency_ms(genes), np.log(table.parameters)]
        return np.column_stack(columns[:count])

    return objectives


def rates(
    space: SearchSpace, costs: RooflineCostModel, objectives: Objectives, count: int
) -> dict[str, dict[str, float]]:
    """Candidates a second of every strategy and peer."""
    found: dict[str, dict[str, float]] = {}
    for name, make in STRATEGIES.items():
        found[name] = generations(make(space), objectives, POPULATION, GENERATIONS)
    for name, rate in peers(space, objectives, count).items():
        found[name] = {"included": rate}
    if count == 2:
        found |= adapters(space, costs, objectives)
    show(
        f"candidates a second, {count} objectives, population {POPULATION}, {len(space.choices)} "
        "genes, one thread",
        ["strategy", "costs excluded", "costs included", "fastest, excluded"],
        [
            [name, *(f"{rate[k]:,.0f}" if k in rate else "" for k in COLUMNS)]
            for name, rate in found.items()
        ],
    )
    return found


COLUMNS = ("excluded", "included", "fastest excluded")


def generations(
    strategy: Strategy, objectives: Objectives, size: int, count: int
) -> dict[str, float]:
    """The rates of one strategy over generations of `size` candidates."""
    own, whole = [], []
    for _ in range(count):
        start = time.perf_counter()
        genes = strategy.ask(size)
        asked = time.perf_counter()
        values = objectives(genes)
        costed = time.perf_counter()
        strategy.tell(genes, values)
        end = time.perf_counter()
        own.append(((asked - start) + (end - costed)) / max(len(genes), 1))
        whole.append((end - start) / max(len(genes), 1))
    settled = own[count // 4 :]
    return {
        "excluded": 1 / float(np.median(settled)),
        "included": 1 / float(np.median(whole[count // 4 :])),
        "fastest excluded": 1 / min(settled),
    }


def adapters(
    space: SearchSpace, costs: RooflineCostModel, objectives: Objectives
) -> dict[str, dict[str, float]]:
    """The rates of foreign optimisers through our adapters."""
    problem = Problem(space, _NoAccuracy(), [costs])
    found = {}
    from optuna.samplers import NSGAIISampler, RandomSampler

    from strategies.optuna_strategy import OptunaStrategy

    for sampler in (RandomSampler, NSGAIISampler):
        strategy = OptunaStrategy(problem, sampler)
        name = f"Optuna's {sampler.__name__} through OptunaStrategy"
        found[name] = generations(strategy, objectives, 50, FEW // 50)
    try:
        from strategies.pymoo_strategy import PymooStrategy, integer_nsga2

        evolved = PymooStrategy(problem, integer_nsga2(POPULATION))
    except BadInputError:  # not installed
        return found
    found["pymoo's NSGA-II through PymooStrategy"] = generations(
        evolved, objectives, POPULATION, PEER_GENERATIONS
    )
    return found


class _NoAccuracy:
    """Measures nothing: all objectives here are cheap."""

    metric = "accuracy"
    weights_hash = ""

    def evaluate(self, genes: Genes) -> Any:
        raise NotImplementedError

    def subnet(self, architecture: Any) -> Any:
        raise NotImplementedError


def peers(space: SearchSpace, objectives: Objectives, count: int) -> dict[str, float]:
    """The rates of pymoo's and Optuna's own loops, costs included."""
    found = {}
    algorithm = _pymoo(count)
    if algorithm is not None:
        name, made, problem = algorithm(space, objectives)
        made.setup(problem, termination=("n_gen", 10**6), seed=0, verbose=False)
        seconds = []
        for _ in range(PEER_GENERATIONS):
            start = time.perf_counter()
            made.next()
            seconds.append(time.perf_counter() - start)
        found[name] = float(POPULATION / np.median(seconds[1:]))
    found["Optuna's NSGAIISampler, population 50, own loop"] = _optuna(space, objectives, count)
    return found


def _pymoo(count: int) -> Callable[[SearchSpace, Objectives], tuple[str, Any, Any]] | None:
    try:
        from pymoo.algorithms.moo import nsga2, nsga3
        from pymoo.core.problem import Problem as TheirProblem
    except ImportError:
        return None
    from strategies.pymoo_strategy import integer_operators
    from strategies.reference_directions import directions_for

    def make(space: SearchSpace, objectives: Objectives) -> tuple[str, Any, Any]:
        class GeneProblem(TheirProblem):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                top = space.gene_space.sizes - 1
                super().__init__(n_var=len(top), n_obj=count, xl=0, xu=top, vtype=int)

            def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
                out["F"] = objectives(space.canonical(np.rint(x).astype(np.int16)))

        if count == 2:
            algorithm = nsga2.NSGA2(pop_size=POPULATION, **integer_operators())
            return "pymoo's NSGA-II, own loop", algorithm, GeneProblem()
        directions = directions_for(count, POPULATION)
        algorithm = nsga3.NSGA3(directions, pop_size=POPULATION, **integer_operators())
        return "pymoo's NSGA-III, own loop", algorithm, GeneProblem()

    return make


def _optuna(space: SearchSpace, objectives: Objectives, count: int) -> float:
    """Optuna's own ask and tell on integer parameters, one for each gene."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["minimize"] * count, sampler=optuna.samplers.NSGAIISampler(seed=0)
    )
    sizes = space.gene_space.sizes.tolist()
    start = time.perf_counter()
    for _ in range(FEW):
        trial = study.ask()
        row = [[trial.suggest_int(f"g{j}", 0, size - 1) for j, size in enumerate(sizes)]]
        values = objectives(space.canonical(np.array(row, np.int16)))[0]
        study.tell(trial, values.tolist())
    return FEW / (time.perf_counter() - start)


# ---- memory ----------------------------------------------------------------------------------


def memories(candidates: int) -> dict[str, dict[str, float]]:
    """What each strategy holds after so many candidates, each in a process of its own."""
    found = {}
    for name in STRATEGIES:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[name] = pool.submit(memory_of, name, candidates).result()
    show(
        f"after {candidates:,} candidates, two objectives",
        ["strategy", "process grew by", "state", "seconds"],
        [
            [name, f"{m['grown_mb']:.0f} MB", f"{m['state_mb']:.1f} MB", f"{m['seconds']:.0f}"]
            for name, m in found.items()
        ],
    )
    return found


def memory_of(name: str, candidates: int) -> dict[str, float]:
    """Tells one strategy of distinct random candidates; what it asks for besides is small."""
    space = make_space("hybrid", load_dataset("digits"))
    process = psutil.Process()
    rng = np.random.default_rng(0)
    strategy = STRATEGIES[name](space)
    weights = rng.random((len(space.choices), 2)) - 0.5
    for _ in range(20):  # working memory is not what is held
        genes = strategy.ask(POPULATION)
        strategy.tell(genes, genes @ weights)
    before = process.memory_info().rss
    start = time.perf_counter()
    while (left := candidates - len(strategy._known)) > 0:
        genes = space.sample(min(2 * POPULATION, 2 * left), rng, "architectures")
        strategy.tell(genes, genes @ weights)
    seconds = time.perf_counter() - start
    grown = process.memory_info().rss - before
    state = sum(len(str(value)) for value in strategy.state().values())
    return {"grown_mb": grown / 2**20, "state_mb": state / 2**20, "seconds": seconds}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-memory", action="store_true", help="measure the rates alone")
    parser.add_argument(
        "--candidates", type=int, default=MILLION, help="how many the memory is measured after"
    )


if __name__ == "__main__":
    benchmark_main("strategy_speed", run, add_arguments)
