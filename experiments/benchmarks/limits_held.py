"""Whether limits hold: searches with random latency limits, an export each, all timed again.

    python -m experiments.benchmarks.limits_held --searches 20 --json limits.json

Each search has a limit drawn between the fastest and the slowest network of its space (uniform in
the logarithm), a batch size, a space and a pick drawn with it, and its own calibration. What is
exported is timed again at the end, all files in one shuffled round-robin: what counts is how many
keep their limit then. Networks that would have been exported without measuring are shown beside.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deployment import Bundle
from experiments.benchmarks.harness import benchmark_main, show
from experiments.compare_command import time_all
from experiments.config import SearchConfig
from experiments.console import say
from experiments.datasets import load_dataset
from experiments.export_command import ExportOptions, LimitError, export
from experiments.quickstart_costs import LOCAL
from experiments.search import run_search
from experiments.spaces import make_space
from hardware_profiles import local_target
from latency_models import calibrate
from records import generator
from strategies.feasibility import InfeasibleConstraintError
from supernet import Supernet, save_supernet, train

PICKS = ("knee", "most-accurate", "fastest")
BATCHES = (1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One search that is to be done."""

    number: int
    space: str
    batch_size: int
    limit_ms: float
    pick: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many searches of which spaces, and how long each takes."""
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--spaces", nargs="+", default=["hybrid", "cnn"])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--evaluations", type=int, default=30)
    parser.add_argument("--calibration-networks", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0, help="of selecting kernels")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the searches, exports, times everything again, and prints the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranges = {space: prepared(space, folder, arguments) for space in arguments.spaces}
        rows = []
        for case in cases(ranges, arguments.searches, arguments.seed):
            rows.append(one(case, folder, arguments))
            say(f"{len(rows)} of {arguments.searches} searches done")
        exported = [row for row in rows if row["folder"]]
        bundles = [Bundle.open(row["folder"]) for row in exported]
        for row, timing in zip(exported, time_all(bundles) if bundles else [], strict=True):
            row["again_ms"] = timing.latency_ms
            row["holds"] = timing.latency_ms <= row["limit_ms"]
    for row in rows:
        del row["folder"]
    return summary(rows)


def prepared(
    space: str, folder: Path, arguments: argparse.Namespace
) -> Mapping[int, tuple[float, float]]:
    """Trains a space's supernet; for each batch size the fastest and slowest latency in ms."""
    data = load_dataset("digits")
    made = make_space(space, data)
    supernet = Supernet(made, seed=arguments.seed)
    train(supernet, data, epochs=arguments.epochs, seed=arguments.seed)
    save_supernet(supernet, folder / f"{space}.safetensors")
    found = {}
    for batch in BATCHES:
        target = local_target(threads=1, batch_size=batch)
        costs = calibrate(made, target, networks=arguments.calibration_networks, budget_s=30.0)
        extremes = costs.extremes("latency_ms")
        assert extremes is not None
        found[batch] = (float(extremes[0][0]), float(extremes[1][0]))
    return found


def cases(
    ranges: Mapping[str, Mapping[int, tuple[float, float]]], count: int, seed: int
) -> list[Case]:
    """Random limits; the lowest tenth of a range (in the logarithm) is left out."""
    rng = generator(seed, "limits held")
    found = []
    for number in range(count):
        space = list(ranges)[number % len(ranges)]
        batch = int(rng.choice(BATCHES))
        low, high = np.log(ranges[space][batch])
        limit = float(np.exp(rng.uniform(low + 0.1 * (high - low), high)))
        pick = str(rng.choice(PICKS))
        found.append(Case(number=number, space=space, batch_size=batch, limit_ms=limit, pick=pick))
    return found


def one(case: Case, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Searches and exports."""
    out = folder / f"run-{case.number}"
    config = SearchConfig(
        space=case.space,
        out=out,
        targets=(f"{LOCAL}:batch={case.batch_size},max_latency_ms={case.limit_ms:.6g}",),
        supernet=folder / f"{case.space}.safetensors",
        evaluations=arguments.evaluations,
        calibration_networks=arguments.calibration_networks,
        seed=arguments.seed + case.number,
    )
    row: dict[str, Any] = {
        "space": case.space, "batch_size": case.batch_size, "limit_ms": case.limit_ms,
        "pick": case.pick, "folder": "", "measured_ms": None, "again_ms": None, "holds": None,
    }  # fmt: skip
    try:
        run_search(config)
        bundle = export(ExportOptions(run=out, pick=case.pick, seconds=arguments.seconds))
    except (InfeasibleConstraintError, LimitError) as error:
        return {**row, "refused": str(error)}
    return {
        **row,
        "folder": str(bundle.folder),
        "measured_ms": bundle.latency_ms,
        "predicted_ms": bundle.record["predicted"]["latency_ms"],
        "gain": bundle.record["selection"]["gain"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The share that holds, with a table of all."""
    exported = [row for row in rows if row["measured_ms"] is not None]
    held = sum(bool(row["holds"]) for row in exported)
    show(
        "Limits on the latency of exported networks, all timed again together",
        ["space", "batch", "pick", "limit ms", "predicted", "measured", "again", "holds"],
        [
            [
                row["space"],
                row["batch_size"],
                row["pick"],
                f"{row['limit_ms']:.4g}",
                f"{row['predicted_ms']:.4g}" if row["measured_ms"] else "",
                f"{row['measured_ms']:.4g}" if row["measured_ms"] else "refused",
                f"{row['again_ms']:.4g}" if row["again_ms"] else "",
                row["holds"],
            ]
            for row in rows
        ],
    )
    share = held / len(exported) if exported else None
    say(
        f"{held} of {len(exported)} exported networks keep their limit when timed again; "
        f"{len(rows) - len(exported)} searches ended with an error that says so"
    )
    return {"rows": rows, "exported": len(exported), "held": held, "share": share}


if __name__ == "__main__":
    benchmark_main("limits_held", run, add_arguments)
