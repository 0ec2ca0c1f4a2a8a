"""Predicted against measured latency of networks that the cost model has not seen.

For each of the quickstart's spaces and both targets, cost models are fitted to 20, 40 and 80 timed
networks and judged on 60 others, beside "MACs alone" (a line through the same networks, fitted on
relative error) and the roofline (ranks only: it is a lower bound).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from deployment import LocalRunner
from experiments.benchmarks.harness import benchmark_main, show
from experiments.datasets import load_dataset
from experiments.spaces import SPACES, make_space
from hardware_profiles import Target, local_target
from latency_models import (
    MeasuredCostModel,
    RooflineCostModel,
    calibration_networks,
    latency_quality,
    random_weights_model,
    time_models,
)
from search_spaces import SearchSpace

TRAINING = (20, 40, 80)
TEST = 60


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures every space and target, prints a table."""
    data = load_dataset("digits")
    figures: dict[str, Any] = {}
    rows = []
    for name in SPACES:
        space = make_space(name, data)
        for batch_size in (1, 16):
            target = local_target(batch_size=batch_size)
            result = figures[f"{name}, batch {batch_size}"] = compare(space, target)
            for label, quality in result.items():
                rows.append(
                    [
                        name,
                        batch_size,
                        label,
                        _percent(quality["median_error"]),
                        _percent(quality["mape"]),
                        f"{quality['spearman']:.3f}",
                    ]
                )
    show(
        f"Latency of {TEST} unseen networks",
        ["space", "batch", "model", "median error", "MAPE", "Spearman"],
        rows,
    )
    return figures


def compare(space: SearchSpace, target: Target, seed: int = 0) -> dict[str, dict[str, float]]:
    """Quality on unseen networks of each model on one target."""
    genes = calibration_networks(space, max(TRAINING) + TEST, seed)
    models = [random_weights_model(space, row, target.batch_size) for row in genes]
    timings = time_models(LocalRunner(), models, target, seed, budget_s=30)
    latency = np.array([t.latency_ms for t in timings])
    test = slice(max(TRAINING), None)
    result: dict[str, dict[str, float]] = {}
    macs = space.layer_table(genes).macs.astype(np.float64)
    for n in TRAINING:
        model = MeasuredCostModel(space, target, genes[:n], latency[:n])
        result[f"fitted to {n}"] = _quality(model.latency_ms(genes[test]), latency[test])
    line = _line(macs[: max(TRAINING)], latency[: max(TRAINING)])
    result[f"MACs alone, {max(TRAINING)}"] = _quality(line(macs[test]), latency[test])
    roofline = RooflineCostModel(space, target).latency_ms(genes[test])
    result["roofline"] = {**_quality(roofline, latency[test]), "mape": float("nan")}
    result["roofline"]["median_error"] = float("nan")
    repeat = time_models(LocalRunner(), models[max(TRAINING) :], target, seed + 1, budget_s=10)
    again = np.array([t.latency_ms for t in repeat])
    result["the same networks timed again"] = _quality(again, latency[test])
    return {k: {m: _plain(v) for m, v in q.items()} for k, q in result.items()}


def _quality(predicted: Any, measured: Any) -> dict[str, float]:
    quality = latency_quality(predicted, measured)
    return {
        "median_error": quality.median_error,
        "mape": quality.mape,
        "spearman": quality.spearman,
    }


def _line(macs: Any, latency: Any) -> Any:
    """latency = a + b * MACs with the least squared relative errors."""
    design = np.column_stack([np.ones(len(macs)), macs]) / latency[:, None]
    a, b = np.linalg.lstsq(design, np.ones(len(macs)), rcond=None)[0]
    return lambda x: a + b * x


def _plain(value: float) -> float:
    return round(value, 5) if value == value else -1.0


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f} %"


if __name__ == "__main__":
    benchmark_main("latency", run)
