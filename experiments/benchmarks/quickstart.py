"""The main job, timed as a whole: seconds, best test accuracy, latency error, agreement."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.harness import benchmark_main, show
from experiments.config import QuickstartConfig
from experiments.quickstart import quickstart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which spaces and seeds to run."""
    parser.add_argument("--spaces", nargs="+", default=["hybrid"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the quickstart for each space and seed and prints a table."""
    figures: dict[str, Any] = {}
    for space in arguments.spaces:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                config = QuickstartConfig(space=space, seed=seed, out=Path(folder) / "run")
                figures[f"{space}, seed {seed}"] = summary(quickstart(config))
    rows = [
        [
            name,
            f"{f['seconds']:.0f}",
            f"{100 * f['best_test_accuracy']:.1f} %",
            "{:.1f}-{:.1f} %".format(*(100 * x for x in f["interval_95"])),
            f"{100 * f['baseline_test_accuracy']:.1f} %",
            f"{100 * f['median_latency_error']:.1f} %",
            f"{f['latency_range']:.1f}x",
            f"{f['relative_difference']:.1e}",
            f"{f['predictor_kendall_tau']:.2f} / {f['macs_kendall_tau']:.2f}",
        ]
        for name, f in figures.items()
    ]
    show(
        "Quickstart on digits",
        [
            "",
            "seconds",
            "best test",
            "95 % interval",
            "baseline",
            "latency error",
            "latency range",
            "vs torch",
            "tau / MACs",
        ],
        rows,
    )
    return figures


def summary(front: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run, from its `front.json`."""
    searched = [p for p in front["points"] if p["kind"] == "searched"]
    baseline = [p for p in front["points"] if p["kind"] == "baseline"]
    best = max(searched, key=lambda p: p["validation_accuracy"])
    reach = front["targets"][0]["reachable"][0]
    predictor = front["search"]["predictor"] or {}
    return {
        "seconds": front["seconds"]["total"],
        "best_test_accuracy": best["test_accuracy"],
        "interval_95": best["test_interval_95"],
        "baseline_test_accuracy": baseline[0]["test_accuracy"],
        "median_latency_error": front["refit"]["median_error"],
        "refitted": front["refit"]["refitted"],
        "final_median_latency_error": float(
            np.median([abs(p["latency_error"]) for p in searched])
        ),
        "latency_range": reach["highest"] / reach["lowest"],
        "relative_difference": max(p["relative_difference"] for p in front["points"]),
        "predictor_kendall_tau": predictor.get("kendall_tau") or float("nan"),
        "macs_kendall_tau": predictor.get("macs_kendall_tau") or float("nan"),
        "networks_exported": len(searched),
    }


if __name__ == "__main__":
    benchmark_main("quickstart", run, add_arguments)
