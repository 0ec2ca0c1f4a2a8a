"""Architectures a second: how fast cost models answer.

On the quickstart's hybrid space (32 x 32 images): the codes of the kernels alone, the sum kernel
by kernel, the joint look-ups that give the same sum, and the calibrated model, whose kinds of
kernels cost more the first time. On one thread and on two, in chunks of 2,000. The calibrated
model is fitted to made-up latencies, on which speed does not depend.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from experiments.benchmarks.harness import benchmark_main, best_seconds, show
from experiments.benchmarks.latency_local import Images
from experiments.spaces import SPACES, make_space
from hardware_profiles import local_target
from latency_models import MeasuredCostModel, RooflineCostModel, calibration_networks
from search_spaces import Genes

CHUNK = 2000
CHUNKS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which space, how often."""
    parser.add_argument("--space", choices=SPACES, default="hybrid")
    parser.add_argument("--rounds", type=int, default=7)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints the rates."""
    space = make_space(arguments.space, Images(32))
    target = local_target()
    roofline = RooflineCostModel(space, target)
    genes = calibration_networks(space, 80, 0)
    rng = np.random.default_rng(0)
    made_up = roofline.latency_ms(genes) * rng.uniform(1.9, 2.1, len(genes))
    measured = MeasuredCostModel(space, target, genes, made_up)
    chunks = [space.sample(CHUNK, rng) for _ in range(CHUNKS)]
    work: dict[str, Callable[[Genes], object]] = {
        "codes of the kernels": roofline.lowering.tabulation.codes,
        "roofline, kernel by kernel": roofline.kernel_sum_ms,
        "roofline, joint look-ups": roofline.latency_ms,
        "calibrated, kernel by kernel": measured.kernel_sum_ms,
        "calibrated, joint look-ups": measured.latency_ms,
        "calibrated, bound of the interval": lambda g: measured.bound("latency_ms", g, 0.9),
    }
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        functions: dict[str, Callable[[], object]] = {}
        for name, one in work.items():
            functions[f"{name}, 1"] = lambda one=one: [one(g) for g in chunks]  # type: ignore[misc]
            functions[f"{name}, 2"] = lambda one=one: list(pool.map(one, chunks))  # type: ignore[misc]
        seconds = best_seconds(functions, rounds=arguments.rounds)
    rates = {name: CHUNK * CHUNKS / s for name, s in seconds.items()}
    show(
        f"{arguments.space}: {len(space.choices)} genes, "
        f"{len(roofline.lowering.kernels)} kernels, {measured.lookups} joint look-ups",
        ["what", "a second, 1 thread", "2 threads"],
        [[name, f"{rates[f'{name}, 1']:,.0f}", f"{rates[f'{name}, 2']:,.0f}"] for name in work],
    )
    return {"rates": rates, "joint_lookups": measured.lookups}


if __name__ == "__main__":
    benchmark_main("cost_speed", run, add_arguments)
