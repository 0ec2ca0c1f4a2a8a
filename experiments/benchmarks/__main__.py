"""Runs every benchmark one after the other: `python -m experiments.benchmarks [FOLDER]`.

Those that take long run with `--long` alone; those that train keep what they have done and go on
where they were interrupted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "throughput",
    "strategy_speed",
    "extraction",
    "export_speed",
    "latency",
    "latency_local",
    "cost_speed",
    "memory_model",
    "energy_model",
    "sparsity",
    "supernet_speed",
    "quickstart",
    "ledger_speed",
    "scaling",
    "scaling_model",
    "faults",
)
LONG = (
    "kernel_table",
    "latency_transfer",
    "accuracy_predictors",
    "zero_cost",
    "tabular_search",
    "large_space",
    "default_strategy",
    "quantisation",
    "limits_held",
    "supernet_quality",
    "hand_made",
    "deployment_speed",
)


def main() -> None:
    """Each in a process of its own, with its JSON in the folder if one is given."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks")
    parser.add_argument("folder", type=Path, nargs="?", help="where to write JSON files")
    parser.add_argument(
        "--long", action="store_true", help=f"those that take long: {', '.join(LONG)}"
    )
    arguments = parser.parse_args()
    folder: Path | None = arguments.folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name in LONG if arguments.long else BENCHMARKS:
        command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
        if folder is not None:
            command += ["--json", str(folder / f"{name}.json")]
        subprocess.run(command, check=True)
    if not arguments.long:
        print(f"left out, for they take long: {', '.join(LONG)} (run them with --long)")


if __name__ == "__main__":
    main()
