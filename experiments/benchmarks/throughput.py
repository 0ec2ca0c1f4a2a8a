"""Candidates a second: what a search can look at before it measures anything.

Two figures, on the quickstart's hybrid space (digits at 8x8): the chain sample, canonical form,
layer table, kernel table, roofline latency; and a whole generation of NSGA-II with a population of
1,000 on two cheap objectives, costs included and excluded, beside pymoo's where it is installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from deployment.kernel_tables.kernels import COLUMNS as KERNEL_COLUMNS
from experiments.benchmarks.harness import benchmark_main, best_seconds, show
from experiments.datasets import load_dataset
from experiments.spaces import make_space
from hardware_profiles import local_target
from latency_models import RooflineCostModel
from search_spaces import SearchSpace
from search_spaces.layer_table import COLUMNS as LAYER_COLUMNS
from strategies import NSGA2

CHUNK = 2000
CHUNKS = 8
POPULATION = 1000
GENERATIONS = 40


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints both figures."""
    space = make_space("hybrid", load_dataset("digits"))
    costs = RooflineCostModel(space, local_target())
    with threadpool_limits(1):
        return {"chain": chain(space, costs), "generation": generation(space, costs)}


def chain(space: SearchSpace, costs: RooflineCostModel) -> dict[str, float]:
    """Candidates a second of the chain, on one and on two threads.

    "Encoded" keeps the tables as indices of variants, which is how costs read them; "all columns"
    also writes out every column of both tables as arrays.
    """
    rngs = [np.random.default_rng(i) for i in range(CHUNKS)]

    def encoded(i: int) -> None:
        genes = space.canonical(space.sample(CHUNK, rngs[i]))
        space.layer_table(genes)
        costs.latency_ms(genes)  # makes the kernel table and sums its rooflines

    def all_columns(i: int) -> None:
        genes = space.canonical(space.sample(CHUNK, rngs[i]))
        layers = space.layer_table(genes)
        kernels = costs.lowering.table(genes)
        for name in LAYER_COLUMNS:
            layers.column(name)
        for name in KERNEL_COLUMNS:
            kernels.column(name)
        costs.latency_ms(genes)

    functions: dict[str, Callable[[], object]] = {}
    with ThreadPoolExecutor(2) as pool:
        for name, work in (("encoded", encoded), ("all columns", all_columns)):
            functions[f"{name}, 1 thread"] = lambda work=work: [work(i) for i in range(CHUNKS)]  # type: ignore[misc]
            functions[f"{name}, 2 threads"] = lambda work=work: list(pool.map(work, range(CHUNKS)))  # type: ignore[misc]
        seconds = best_seconds(functions, rounds=7)
    rates = {name: CHUNK * CHUNKS / s for name, s in seconds.items()}
    show(
        f"sample + canonical + layer table + kernel table + roofline, {len(space.choices)} genes, "
        f"{len(space.nodes)} layers, {len(costs.lowering.kernels)} kernels",
        ["tables", "candidates a second"],
        [[name, f"{rate:,.0f}"] for name, rate in rates.items()],
    )
    return rates


def generation(space: SearchSpace, costs: RooflineCostModel) -> dict[str, float]:
    """Candidates a second of NSGA-II generations, population 1,000, MACs and latency."""

    def objectives(genes: Any) -> Any:
        macs = space.layer_table(genes).macs.astype(np.float64)
        return np.column_stack([-np.log(macs), costs.latency_ms(genes)])

    strategy = NSGA2(space, population_size=POPULATION, seed=0)
    own: list[float] = []
    whole: list[float] = []
    for _ in range(GENERATIONS):
        start = time.perf_counter()
        genes = strategy.ask(POPULATION)
        asked = time.perf_counter()
        values = objectives(genes)
        costed = time.perf_counter()
        strategy.tell(genes, values)
        end = time.perf_counter()
        own.append((asked - start) + (end - costed))
        whole.append(end - start)
    rates = {
        "hwnas, costs excluded (median)": POPULATION / float(np.median(own)),
        "hwnas, costs included (median)": POPULATION / float(np.median(whole)),
    }
    peer = _pymoo(space, objectives)
    if peer is not None:
        rates["pymoo NSGA-II, costs included (median)"] = peer
    rows = [[name, f"{rate:,.0f}"] for name, rate in rates.items()]
    if peer is None:
        rows.append(["pymoo NSGA-II", "not installed"])
    show("NSGA-II generation, population 1,000, one thread", ["", "candidates a second"], rows)
    return rates


def _pymoo(space: SearchSpace, objectives: Callable[[Any], Any]) -> float | None:
    """pymoo's NSGA-II on integer genes with the same objectives, if it is installed."""
    try:
        from pymoo.algorithms.moo import nsga2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
    except ImportError:
        return None

    class Genes(Problem):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            top = space.gene_space.sizes - 1
            super().__init__(n_var=len(top), n_obj=2, xl=0, xu=top, vtype=int)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            out["F"] = objectives(space.canonical(np.asarray(x, np.int16)))

    peer = nsga2.NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=UX(),
        mutation=PM(vtype=float, repair=RoundingRepair()),
    )
    peer.setup(Genes(), termination=("n_gen", 12), seed=0, verbose=False)
    seconds: list[float] = []
    while peer.has_next():
        start = time.perf_counter()
        peer.next()
        seconds.append(time.perf_counter() - start)
    return float(POPULATION / np.median(seconds[1:]))


if __name__ == "__main__":
    benchmark_main("throughput", run)
