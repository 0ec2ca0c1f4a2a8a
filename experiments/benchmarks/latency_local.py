"""How well latencies of unseen networks are predicted on this machine, three spaces in one fit.

Networks of the quickstart's CNN, ViT and hybrid spaces (32 x 32 images) are timed together in one
shuffled round-robin. One cost model is fitted to about 80 of them and judged on others that were
drawn by the seed, for one and two threads, batches of 8, and int8. Beside it, on the same
measurements: "FLOPs alone" (a line), FLOPs + bytes of activations and weights (non-negative, on
relative error), and for fp32 the sum of kernels timed in files of their own, raw and with a line
fitted to ten networks.

A model is judged by its mean relative error (against 1.5 % or 1.5 times what the machine repeats
its own timings with, whichever is larger), ranks among all networks and among those within a
factor of 1.3 of each other, and the share of measurements inside its 90 % interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import binom, spearmanr

from deployment import LocalRunner
from experiments.benchmarks.harness import benchmark_main, show
from experiments.spaces import SPACES, ImageSizes, make_space
from hardware_profiles import Target, local_target
from latency_models import MeasuredCostModel, calibration_networks, latency_quality, target_model
from latency_models.kernel_costs import KernelTableCostModel, measure_kernels
from latency_models.kernel_fit import Measurements
from latency_models.measured import lowered
from records import HwnasError
from search_spaces import Genes, SearchSpace

Values = npt.NDArray[np.float64]

TARGETS: dict[str, dict[str, Any]] = {
    "t1-b1": {},
    "t2-b1": {"threads": 2},
    "t1-b8": {"batch_size": 8},
    "t1-b1-int8": {"precision": "int8"},
}
LIMIT = 0.015
REPEATS = 1.5
BIN = 1.3
FEWEST_IN_BIN = 8
BLOCK_NETWORKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Networks of several spaces with their latencies.

    Attributes:
        spaces: The spaces.
        genes: For each space its networks.
        latencies_ms: For each space their latencies.
    """

    spaces: list[SearchSpace]
    genes: list[Genes]
    latencies_ms: list[Values]

    @property
    def measured_ms(self) -> Values:
        return np.concatenate(self.latencies_ms)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the run."""
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--fit", type=int, default=80, help="networks that are fitted to")
    parser.add_argument("--test", type=int, default=120, help="unseen networks")
    parser.add_argument("--rounds", type=int, default=25, help="visits to each network")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--blocks-s", type=float, default=40.0, help="seconds for timing kernels; 0: leave out"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all targets, prints the tables."""
    spaces = [make_space(name, ImageSizes(arguments.image_size)) for name in SPACES]
    figures: dict[str, Any] = {}
    for name in arguments.targets:
        try:
            target = local_target(**TARGETS[name])
        except HwnasError as error:
            print(f"{name} is left out: {error}")
            continue
        figures[name] = one_target(spaces, target, arguments)
        _show(name, figures[name])
    inside = sum(f["interval"]["inside"] for f in figures.values())
    networks = sum(f["interval"]["networks"] for f in figures.values())
    if networks:
        low, high = (int(x) for x in binom.interval(0.95, networks, 0.9))
        figures["pooled interval"] = {
            "networks": networks,
            "coverage": inside / networks,
            "band": [low / networks, high / networks],
        }
        print(
            f"90 % intervals: {inside} of {networks} measurements inside "
            f"({inside / networks:.1%}); by chance {low / networks:.1%} to "
            f"{high / networks:.1%} in 95 of 100 runs"
        )
    return figures


def one_target(
    spaces: list[SearchSpace], target: Target, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Times the networks of one target and judges all models on them."""
    fit, test, repeated, seconds = measured(spaces, target, arguments)
    predictions: dict[str, Values] = {}
    models = models_of(fit, target)
    predictions["this fit"] = _predicted(models, test)
    predictions["FLOPs alone"] = _linear(fit, test, [_macs])
    predictions["FLOPs + bytes"] = _linear(fit, test, [_macs, _activations, _weights])
    if arguments.blocks_s > 0 and target.precision == "fp32":
        predictions |= blocks(fit, test, target, arguments)
    truth = test.measured_ms
    costs = [model.costs(genes) for model, genes in zip(models, test.genes, strict=True)]
    low = np.concatenate([c.latency_low_ms for c in costs])
    high = np.concatenate([c.latency_high_ms for c in costs])
    inside = (low <= truth) & (truth <= high)
    repeat = latency_quality(repeated, truth).mape
    limit = max(LIMIT, REPEATS * repeat)
    sizes = np.cumsum([len(genes) for genes in test.genes])[:-1]
    errors = np.abs(predictions["this fit"] / truth - 1)
    return {
        "models": {name: judged(p, truth) for name, p in predictions.items()},
        "repeat_error": repeat,
        "limit": limit,
        "reached": bool(errors.mean() <= limit),
        "per_space": {
            s.name: float(e.mean())
            for s, e in zip(test.spaces, np.split(errors, sizes), strict=True)
        },
        "interval": {
            "networks": len(truth),
            "inside": int(inside.sum()),
            "mean_width": float(((high - low) / predictions["this fit"]).mean()),
        },
        "fitted_networks": len(fit.measured_ms),
        "fit_seconds": seconds,
        "latency_ms": [float(truth.min()), float(np.median(truth)), float(truth.max())],
    }


def measured(
    spaces: list[SearchSpace], target: Target, arguments: argparse.Namespace
) -> tuple[Timed, Timed, Values, float]:
    """Networks to fit to, others to judge by, those timed again, and seconds for the first."""
    fit_genes, test_genes = [], []
    for i, space in enumerate(spaces):
        counts = [_share(n, len(spaces), i) for n in (arguments.fit, arguments.test)]
        rows = calibration_networks(space, sum(counts), arguments.seed)
        fit_genes.append(rows[: counts[0]])
        test_genes.append(rows[counts[0] :])
    every = list(zip([*spaces, *spaces], [*fit_genes, *test_genes], strict=True))
    files = [target_model(space, row, target) for space, rows in every for row in rows]
    fitted = sum(len(rows) for rows in fit_genes)
    start = time.perf_counter()
    first = _time(files, target, arguments, arguments.seed)
    seconds = (time.perf_counter() - start) * fitted / len(files)
    again = _time(files[fitted:], target, arguments, arguments.seed + 1)
    parts = np.split(first, np.cumsum([len(rows) for _, rows in every])[:-1])
    half = len(spaces)
    return (
        Timed(spaces=spaces, genes=fit_genes, latencies_ms=list(parts[:half])),
        Timed(spaces=spaces, genes=test_genes, latencies_ms=list(parts[half:])),
        again,
        seconds,
    )


def _share(networks: int, parts: int, place: int) -> int:
    return networks // parts + (place < networks % parts)


def _time(files: list[bytes], target: Target, arguments: argparse.Namespace, seed: int) -> Values:
    timings = LocalRunner().time(
        files, threads=target.threads, rounds=arguments.rounds, min_seconds=2.5, seed=seed
    )
    return np.array([timing.latency_ms for timing in timings])


def models_of(timed: Timed, target: Target) -> list[MeasuredCostModel]:
    """A cost model for each space, all from the same fit."""
    own = [
        Measurements(lowering=lowered(space, target), genes=genes, latencies_ms=latencies)
        for space, genes, latencies in zip(
            timed.spaces, timed.genes, timed.latencies_ms, strict=True
        )
    ]
    return [
        MeasuredCostModel(
            m.space,
            target,
            m.genes,
            m.latencies_ms,
            others=[other for other in own if other is not m],
            lowering=m.lowering,
        )
        for m in own
    ]


def blocks(
    fit: Timed, test: Timed, target: Target, arguments: argparse.Namespace
) -> dict[str, Values]:
    """Sums of separately timed kernels: as they are, and with a line through ten networks."""
    table = measure_kernels(
        fit.spaces, target, budget_s=arguments.blocks_s, networks=0, seed=arguments.seed
    )
    models = [KernelTableCostModel(space, target, table) for space in fit.spaces]
    known, unseen = _predicted(models, fit), _predicted(models, test)
    some = np.random.default_rng(arguments.seed).permutation(len(known))[:BLOCK_NETWORKS]
    y = fit.measured_ms[some]
    design = np.column_stack([np.ones(len(some)), known[some]]) / y[:, None]
    a, b = np.linalg.lstsq(design, np.ones(len(some)), rcond=None)[0]
    return {"kernel sum, raw": unseen, f"kernel sum, line by {len(some)}": a + b * unseen}


def _predicted(models: Sequence[Any], timed: Timed) -> Values:
    parts = [model.latency_ms(genes) for model, genes in zip(models, timed.genes, strict=True)]
    return np.concatenate(parts)


def _linear(
    fit: Timed, test: Timed, features: Sequence[Callable[[SearchSpace, Genes], Values]]
) -> Values:
    """latency = a + b . features, non-negative, with the least squared relative errors."""

    def design(timed: Timed) -> Values:
        columns = [
            np.concatenate([f(s, g) for s, g in zip(timed.spaces, timed.genes, strict=True)])
            for f in features
        ]
        return np.column_stack([np.ones(len(columns[0])), *columns])

    known = design(fit)
    scale = known.max(axis=0)
    rows = known / scale / fit.measured_ms[:, None]
    weights, _ = nnls(rows, np.ones(len(rows)))
    return np.asarray(design(test) / scale @ weights)


def _macs(space: SearchSpace, genes: Genes) -> Values:
    return space.layer_table(genes).macs.astype(np.float64)


def _activations(space: SearchSpace, genes: Genes) -> Values:
    return space.layer_table(genes).activation_bytes().astype(np.float64)


def _weights(space: SearchSpace, genes: Genes) -> Values:
    return space.layer_table(genes).parameters.astype(np.float64)


def judged(predicted: Values, measured_ms: Values) -> dict[str, float]:
    """All figures of one model."""
    quality = latency_quality(predicted, measured_ms)
    error = np.abs(predicted / measured_ms - 1)
    return {
        "mape": quality.mape,
        "median_error": quality.median_error,
        "within_10_percent": float((error <= 0.10).mean()),
        "spearman": quality.spearman,
        "spearman_in_bins": rank_in_bins(predicted, measured_ms),
    }


def rank_in_bins(predicted: Values, measured_ms: Values) -> float:
    """Spearman among networks whose latencies are within a factor of 1.3 of each other.

    The mean over bins of at least 8 networks, weighted by their number; NaN without any.
    """
    place = np.floor(np.log(measured_ms / measured_ms.min()) / np.log(BIN)).astype(int)
    found = [
        ((place == k).sum(), spearmanr(predicted[place == k], measured_ms[place == k]).statistic)
        for k in np.unique(place)
        if (place == k).sum() >= FEWEST_IN_BIN
    ]
    if not found:
        return float("nan")
    weights, ranks = np.array(found).T
    return float((weights * ranks).sum() / weights.sum())


def _show(name: str, figures: dict[str, Any]) -> None:
    interval = figures["interval"]
    show(
        f"{name}: {interval['networks']} unseen networks, fitted to {figures['fitted_networks']} "
        f"in {figures['fit_seconds']:.0f} s; repeated timings differ by "
        f"{figures['repeat_error']:.2%}; limit {figures['limit']:.2%}: "
        + ("reached" if figures["reached"] else "not reached"),
        ["model", "MAPE", "median", "within 10 %", "Spearman", f"within {BIN}x"],
        [
            [
                label,
                f"{one['mape']:.2%}",
                f"{one['median_error']:.2%}",
                f"{one['within_10_percent']:.0%}",
                f"{one['spearman']:.4f}",
                f"{one['spearman_in_bins']:.3f}",
            ]
            for label, one in figures["models"].items()
        ],
    )
    spaces = ", ".join(f"{space} {error:.2%}" for space, error in figures["per_space"].items())
    print(
        f"this fit by space: {spaces}; 90 % interval holds {interval['inside']} of "
        f"{interval['networks']}, mean width {interval['mean_width']:.1%}"
    )


if __name__ == "__main__":
    benchmark_main("latency_local", run, add_arguments)
