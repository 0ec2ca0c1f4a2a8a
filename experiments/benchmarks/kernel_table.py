"""Latency of unseen networks from kernels measured one by one, beside whole networks.

For each of the spaces by name at 32 x 32 pixels a table of kernels is measured for 30 s and on to
60 s, with ten whole networks, and judged on 60 others:

- the raw sum of kernels; the sum with two parameters (base and scale) fitted to the ten; the
  model, which scales kinds of kernels too and has an interval;
- the fit to the ten networks alone (`MeasuredCostModel`), which is what ten networks give without
  kernels;
- kernels chosen at random instead of actively, the same number of them;
- one table for all spaces, measured in the same time;
- the unseen networks timed again: nothing can be better than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deployment import LocalRunner
from experiments.benchmarks.harness import benchmark_main, show
from experiments.spaces import SPACES, ImageSizes, make_space
from hardware_profiles import Target, local_target
from latency_models import (
    LatencyQuality,
    MeasuredCostModel,
    calibration_networks,
    latency_quality,
    random_weights_model,
    time_models,
)
from latency_models.kernel_costs import KernelTableCostModel, MeasuredKernels, measure_kernels
from search_spaces import Genes, SearchSpace

TEST = 60
NETWORKS = 10
BUDGETS_S = (30.0, 60.0)
EQUAL_FILES = (24, 48, 96)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Networks to judge by, none of which was calibrated on.

    Attributes:
        genes: `n x d`.
        latencies_ms: Measured, length `n`.
        again_ms: Measured once more, later.
    """

    genes: Genes
    latencies_ms: np.ndarray[Any, np.dtype[np.float64]]
    again_ms: np.ndarray[Any, np.dtype[np.float64]]


def unseen_networks(space: SearchSpace, target: Target, seed: int = 1) -> Unseen:
    """Times networks of a space; uses another seed than `measure_kernels` does."""
    genes = calibration_networks(space, TEST, seed)
    models = [random_weights_model(space, row, target.batch_size) for row in genes]
    runner = LocalRunner()
    first = time_models(runner, models, target, seed, budget_s=10)
    again = time_models(runner, models, target, seed + 1, budget_s=10)
    return Unseen(
        genes=genes,
        latencies_ms=np.array([t.latency_ms for t in first]),
        again_ms=np.array([t.latency_ms for t in again]),
    )


def judge(
    space: SearchSpace, target: Target, table: MeasuredKernels, unseen: Unseen
) -> dict[str, LatencyQuality]:
    """Quality of the raw sum, of the sum with two parameters, and of the model."""
    kernels = MeasuredKernels(table.identity, table.rows("kernel"))
    raw = KernelTableCostModel(space, target, kernels)
    model = KernelTableCostModel(space, target, table)
    found = {
        "raw sum": raw.latency_ms(unseen.genes),
        "two parameters": _line(raw, model, unseen.genes),
        "kernel table": model.latency_ms(unseen.genes),
    }
    return {k: latency_quality(v, unseen.latencies_ms) for k, v in found.items()}


def coverage(
    space: SearchSpace, target: Target, table: MeasuredKernels, unseen: Unseen
) -> dict[str, float]:
    """Share of measured kernels, and of unseen networks inside their 90 % interval."""
    costs = KernelTableCostModel(space, target, table).costs(unseen.genes)
    inside = (unseen.latencies_ms >= costs.latency_low_ms) & (
        unseen.latencies_ms <= costs.latency_high_ms
    )
    return {"measured": float(costs.measured.mean()), "inside": float(inside.mean())}


def measured_for(
    spaces: Sequence[SearchSpace],
    target: Target,
    *,
    budget_s: float,
    table: MeasuredKernels | None = None,
    most_files: int | None = None,
    choice: Literal["active", "random"] = "active",
) -> MeasuredKernels:
    """A table measured on this machine, with `NETWORKS` whole networks of each space."""
    return measure_kernels(
        spaces,
        target,
        LocalRunner(),
        budget_s=budget_s,
        table=table,
        networks=NETWORKS * len(spaces),
        most_files=most_files,
        choice=choice,
    )


def ten_networks(space: SearchSpace, target: Target, unseen: Unseen) -> LatencyQuality:
    """What `MeasuredCostModel` makes of ten networks and no kernels."""
    genes = calibration_networks(space, NETWORKS, 0)
    models = [random_weights_model(space, row, target.batch_size) for row in genes]
    timings = time_models(LocalRunner(), models, target, 0, budget_s=5)
    model = MeasuredCostModel(space, target, genes, [t.latency_ms for t in timings])
    return latency_quality(model.latency_ms(unseen.genes), unseen.latencies_ms)


def _line(raw: KernelTableCostModel, model: KernelTableCostModel, genes: Genes) -> Any:
    """The raw sum with base and scale fitted to the table's networks on relative errors."""
    sums = model.table.sums("network")
    regression = raw.regression
    of_kind = sums.rows[:, 0, None] == np.arange(len(regression.first_ms))[None]
    occurs = (sums.counts @ of_kind.astype(np.float64)) > 0
    predicted = sums.counts @ regression.known(sums.rows).latency_ms
    predicted = predicted + occurs @ regression.first_ms
    design = np.column_stack([np.ones(len(predicted)), predicted]) / sums.latencies_ms[:, None]
    base, scale = np.linalg.lstsq(design, np.ones(len(predicted)), rcond=None)[0]
    return base + scale * (raw.latency_ms(genes) - raw.base_ms)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures every space, prints a table."""
    target = local_target(batch_size=arguments.batch_size)
    spaces = {name: make_space(name, ImageSizes()) for name in arguments.spaces}
    figures: dict[str, Any] = {}
    rows: list[list[object]] = []

    def note(name: str, label: str, quality: LatencyQuality, more: dict[str, float]) -> None:
        figures.setdefault(name, {})[label] = {
            "mape": round(quality.mape, 5),
            "median_error": round(quality.median_error, 5),
            "spearman": round(quality.spearman, 5),
            **{k: round(v, 4) for k, v in more.items()},
        }
        rows.append(
            [
                name,
                label,
                f"{quality.mape:.1%}",
                f"{quality.spearman:.4f}",
                "; ".join(f"{k} {v:.3g}" for k, v in more.items()),
            ]
        )

    judged = {name: unseen_networks(space, target) for name, space in spaces.items()}
    for name, space in spaces.items():
        unseen = judged[name]
        table: MeasuredKernels | None = None
        spent = 0.0
        for budget in arguments.budgets:
            table = measured_for([space], target, budget_s=budget - spent, table=table)
            spent = budget
            more = {"files": float(len(table)), **coverage(space, target, table, unseen)}
            for label, quality in judge(space, target, table, unseen).items():
                note(name, f"{label}, {budget:g} s", quality, more)
        for files in arguments.files:
            for choice in ("active", "random"):
                table = measured_for(
                    [space], target, budget_s=600, most_files=files, choice=choice
                )
                quality = judge(space, target, table, unseen)["kernel table"]
                note(name, f"{files} files, {choice}", quality, {})
        note(name, "ten networks alone", ten_networks(space, target, unseen), {})
        again = latency_quality(unseen.again_ms, unseen.latencies_ms)
        note(name, "timed again", again, {})
    if len(spaces) > 1:
        together = measured_for(list(spaces.values()), target, budget_s=arguments.budgets[-1])
        for name, space in spaces.items():
            quality = judge(space, target, together, judged[name])["kernel table"]
            more = coverage(space, target, together, judged[name])
            note(name, f"one table for all, {arguments.budgets[-1]:g} s", quality, more)
    show(
        f"Latency of {TEST} unseen networks from measured kernels, {target.name}",
        ["space", "model", "MAPE", "Spearman", ""],
        rows,
    )
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be changed."""
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS_S))
    parser.add_argument("--files", nargs="*", type=int, default=list(EQUAL_FILES))
    parser.add_argument("--batch-size", type=int, default=1)


if __name__ == "__main__":
    benchmark_main("kernel_table", run, add_arguments)
