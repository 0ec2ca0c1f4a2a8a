"""What is kept when things break: every fault is really injected into real searches.

Each row of the table is a fault: how often it was injected, how many observations were committed
when it was injected last, how many of the committed ones were lost (not in the ledger at their
place, as they were, when the search had been continued to its end) and repeated (in the ledger
twice, or evaluated again after they were committed), whether it ended equal to one that nothing
happened to, and the first words that the user sees. Equal means: searches in process have the same
ledger but for the seconds that evaluations took, trainings the same weights bit by bit.

- `kill -9` of the driver at random moments, in process, with processes, with Ray; of a worker in
  the middle of an evaluation; of a node of a Ray cluster of three nodes on this machine, while it
  searches, and while it trains by Ray Train.
- The disk under the ledger full: a tmpfs of 2 MB where the user may mount one, else a limit on the
  size of files. The ledger locked by another connection, for a moment and for longer than it is
  waited for (which is shortened to half a second). The wall clock jumping by days and years
  (`datetime.now` of the ledger and `time.time` are replaced in the driver's process).
- Accuracies that are not a number, in 40 % of networks and in all of them.
- A training's last checkpoint with a changed byte, cut off, empty, or another file.

`--fault NAME` runs some groups alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.benchmarks.fault_rows import HEAD, FaultRow
from experiments.benchmarks.faults_of_checkpoints import corrupt_checkpoints
from experiments.benchmarks.faults_of_clusters import cluster_faults
from experiments.benchmarks.faults_of_processes import (
    killed_drivers,
    killed_local_workers,
    nan_storms,
)
from experiments.benchmarks.faults_of_surroundings import clock_jumps, full_disks, locked_ledgers
from experiments.benchmarks.harness import benchmark_main, show
from experiments.console import show_table
from records import BadInputError

GROUPS: Mapping[str, Callable[[Path, int], list[FaultRow]]] = {
    "drivers": killed_drivers,
    "workers": killed_local_workers,
    "disk": lambda folder, kills: full_disks(folder),
    "lock": lambda folder, kills: locked_ledgers(folder),
    "clock": lambda folder, kills: clock_jumps(folder),
    "nan": lambda folder, kills: nan_storms(folder),
    "checkpoint": lambda folder, kills: corrupt_checkpoints(folder),
    "ray": cluster_faults,
}
"""What can be run alone; each is given a folder and how often drivers are killed."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Injects everything and prints the table."""
    rows: list[FaultRow] = []
    for name in arguments.fault or GROUPS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
            try:
                rows += GROUPS[name](Path(folder), arguments.kills)
            except BadInputError as error:  # Ray is not installed
                rows.append(FaultRow(fault=name, times=0, seen=f"not run: {error}"))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    table = [cells(row) for row in rows]
    show("faults, and what was kept", HEAD[:-1], [line[:-1] for line in table])
    seen = [[line[0], line[-1]] for line in table]
    show_table("what the user sees", (HEAD[0], HEAD[-1]), seen, wrapped=HEAD[-1])
    print(summary(rows))
    return {"faults": [asdict(row) for row in rows], **totals(rows)}


def cells(row: FaultRow) -> list[str]:
    """A row of the table; what was not counted stays empty."""
    found = asdict(row)
    return ["" if found[name] is None else str(found[name]) for name in HEAD]


def totals(rows: Sequence[FaultRow]) -> dict[str, Any]:
    """All faults together."""
    return {
        "injected": sum(row.times for row in rows),
        "lost": sum(row.lost or 0 for row in rows),
        "repeated": sum(row.repeated or 0 for row in rows),
        "unequal": [row.fault for row in rows if row.equal == "NO"],
        "not run": [row.fault for row in rows if row.times == 0],
    }


def summary(rows: Sequence[FaultRow]) -> str:
    """One line on all faults."""
    found = totals(rows)
    equal = "yes" if not found["unequal"] else f"NO: {', '.join(found['unequal'])}"
    return (
        f"{found['injected']} faults; committed observations lost: {found['lost']}, repeated: "
        f"{found['repeated']}; continued runs equal to uninterrupted ones: {equal}"
        + (f"; not run: {', '.join(found['not run'])}" if found["not run"] else "")
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fault", nargs="+", choices=GROUPS, help="these groups alone")
    parser.add_argument(
        "--kills", type=int, default=20, help="how often the driver in process is killed"
    )


if __name__ == "__main__":
    benchmark_main("faults", run, add_arguments)
