"""Runs every benchmark one after the other: `python -m experiments.benchmarks [FOLDER]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("throughput", "extraction", "latency", "quickstart")


def main() -> None:
    """Each in a process of its own, with its JSON in the folder if one is given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name in BENCHMARKS:
        command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
        if folder is not None:
            command += ["--json", str(folder / f"{name}.json")]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
