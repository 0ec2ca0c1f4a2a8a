"""Architectures a second: how fast cost models answer.

On the quickstart's hybrid space (32 x 32 images): the codes of the kernels alone, the sum kernel
by kernel, the joint look-ups that give the same sum, and the calibrated model, whose kinds of
kernels cost more the first time. On one thread and on two, in chunks of 2,000. The calibrated
model is fitted to made-up latencies, on which speed does not depend.

Then `LatencyTransfer`, which predicts a whole table at once: two tables of 16,000 architectures,
ten of them measured, one table after the other or both at the same time. What it knows of other
devices, and the ten latencies, are made up by rooflines of three shipped profiles and of this
machine. Building it (features, smoothing) and predicting are timed apart; the memory is the most
that arrays of one table took at once while it was built and asked.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from experiments.benchmarks.harness import benchmark_main, best_seconds, show
from experiments.spaces import SPACES, ImageSizes, make_space
from hardware_profiles import Target, device, local_target
from latency_models import MeasuredCostModel, RooflineCostModel, calibration_networks
from latency_models.transfer import LatencyTransfer, TransferredLatencies, space_features
from search_spaces import Genes, SearchSpace

CHUNK = 2000
CHUNKS = 16
TABLES = 2
ROWS = 16_000
MEASURED = 10
SOURCES = ("gtx-1080-ti", "raspberry-pi-4", "galaxy-s9")
"""The devices whose rooflines stand for other devices' tables."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which space, how often."""
    parser.add_argument("--space", choices=SPACES, default="hybrid")
    parser.add_argument("--rounds", type=int, default=7)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures and prints the rates."""
    space = make_space(arguments.space, ImageSizes())
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
    transferred = _transfer_figures(space, target, arguments.rounds)
    return {"rates": rates, "joint_lookups": measured.lookups, "transfer": transferred}


def _transfer_figures(space: SearchSpace, target: Target, rounds: int) -> dict[str, float]:
    """Rates of building and asking a `LatencyTransfer`, and the memory that both take."""
    rng = np.random.default_rng(1)
    tables = [_Table(space, target, space.sample(ROWS, rng)) for _ in range(TABLES)]
    with threadpool_limits(1), ThreadPoolExecutor(TABLES) as pool:
        built = [table.build() for table in tables]

        def predict(transfer: LatencyTransfer, table: _Table) -> TransferredLatencies:
            return transfer.predict(table.rows, table.measured_ms)

        seconds = best_seconds(
            {
                "build, 1": lambda: [table.build() for table in tables],
                "build, 2": lambda: list(pool.map(_Table.build, tables)),
                "predict, 1": lambda: list(map(predict, built, tables)),
                "predict, 2": lambda: list(pool.map(predict, built, tables)),
            },
            rounds=max(rounds // 2, 1),
        )
        tracemalloc.start()
        predict(tables[0].build(), tables[0])
        megabytes = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    figures = {name: ROWS * TABLES / s for name, s in seconds.items()}
    show(
        f"LatencyTransfer: {ROWS:,} architectures, {len(SOURCES)} other devices, {MEASURED} "
        f"measured; {megabytes:.0f} MB",
        ["what", "a second, 1 thread", "2 threads"],
        [
            [name, f"{figures[f'{name}, 1']:,.0f}", f"{figures[f'{name}, 2']:,.0f}"]
            for name in ("build", "predict")
        ],
    )
    return {**figures, "megabytes": megabytes}


class _Table:
    """Architectures, their latencies by rooflines of other devices, and some of this machine."""

    def __init__(self, space: SearchSpace, target: Target, genes: Genes) -> None:
        targets = [Target(profile=device(name)) for name in SOURCES]
        self._space, self._genes = space, genes
        self._sources_ms = np.stack(
            [RooflineCostModel(space, other).latency_ms(genes) for other in targets], axis=1
        )
        self.rows = np.arange(MEASURED)
        self.measured_ms = RooflineCostModel(space, target).latency_ms(genes[:MEASURED])

    def build(self) -> LatencyTransfer:
        """Features of all architectures, the other devices smoothed, the prior."""
        return LatencyTransfer(
            space_features(self._space, self._genes), self._genes, self._sources_ms
        )


if __name__ == "__main__":
    benchmark_main("cost_speed", run, add_arguments)
