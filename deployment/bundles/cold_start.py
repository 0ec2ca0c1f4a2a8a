"""How long a network takes from nothing: opening its file and the first run, in new processes.

A process that has opened a file before has libraries loaded, threads started and memory taken, so
each measurement is made by a process of its own, which the bundle's `benchmark.py` is. Loading
Python, numpy and onnxruntime is not counted; an application has its own way to load these.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

SECONDS = 120.0
"""How long a process may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """Medians over new processes.

    Attributes:
        processes: How many.
        open_ms: Reading the file, optimising its graph, preparing its weights.
        first_run_ms: The first run after that.
        process_peak_bytes: The most memory that the whole process held (VmHWM), Python, numpy and
            onnxruntime included; None where the system does not tell.
        added_bytes: How much of it came with opening and running the file.
    """

    processes: int
    open_ms: float
    first_run_ms: float
    process_peak_bytes: int | None
    added_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Everything by name, with its source."""
        of = (
            "a new process" if self.processes == 1 else f"median of {self.processes} new processes"
        )
        return {**asdict(self), "source": f"measured: {of} on the machine that made this bundle"}


def measure_cold_start(bundle: str | Path, processes: int = 3) -> ColdStart | None:
    """Starts a bundle's network in new processes, one after another.

    Args:
        bundle: Its folder, with `bundle.json`, `model.onnx`, `verify.py` and `benchmark.py`.
        processes: How many.

    Returns:
        The medians; None for no process, or where one of them fails.
    """
    found = [one for one in (_started(Path(bundle)) for _ in range(processes)) if one]
    if len(found) < max(1, processes):
        return None
    peaks, added = (
        [one[name] for one in found if one[name] is not None]
        for name in ("process_peak_bytes", "added_bytes")
    )
    return ColdStart(
        processes=processes,
        open_ms=median(one["open_ms"] for one in found),
        first_run_ms=median(one["first_run_ms"] for one in found),
        process_peak_bytes=int(median(peaks)) if peaks else None,
        added_bytes=int(median(added)) if added else None,
    )


def _started(bundle: Path) -> dict[str, Any] | None:
    """What one process says; None where it fails."""
    script = bundle.absolute() / "benchmark.py"
    command = [sys.executable, str(script), "--cold", "--folder", str(script.parent)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
        value = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return value if isinstance(value, dict) else None
