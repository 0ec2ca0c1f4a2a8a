#!/usr/bin/env python3
"""Times the network of this folder on the machine that runs it, beside what was recorded.

    python benchmark.py                  quantiles of 500 runs, cold starts, memory
    python benchmark.py --runs 2000 --threads 2

It needs Python 3.8 or newer, onnxruntime and numpy, and nothing else. Cold starts are measured in
processes of their own: opening the file, and the first run after it. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)  # python -I leaves it out
sys.dont_write_bytecode = True  # the folder stays as it is

import verify as bundle  # type: ignore[import-not-found, unused-ignore]  # noqa: E402

WARMING_RUNS = 10
QUANTILES = (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99))


def example(session: Any) -> dict[str, Any]:
    """Random images as the file takes them."""
    import numpy

    entry = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    random = numpy.random.RandomState(0)
    if entry.type == "tensor(uint8)":
        images = random.randint(0, 256, shape).astype(numpy.uint8)
    else:
        images = random.standard_normal(shape).astype(numpy.float32)
    return {entry.name: images}


def quantile(values: list[float], q: float) -> float:
    """A quantile of some values, by linear interpolation."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def warm(session: Any, runs: int) -> dict[str, float]:
    """Milliseconds of runs one after another: the least and quantiles."""
    feed = example(session)
    for _ in range(WARMING_RUNS):
        session.run(None, feed)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        taken.append(1000 * (time.perf_counter() - start))
    return dict({name: quantile(taken, q) for name, q in QUANTILES}, least_ms=min(taken))


def process_bytes(what: str) -> int | None:
    """What Linux says of this process: VmRSS, held now, or VmHWM, the most; None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(what + ":"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None


def cold(folder: str) -> dict[str, Any]:
    """The cold start of this very process: call it once in a new one."""
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401

    record = bundle.read_record(folder)
    before = process_bytes("VmRSS")
    start = time.perf_counter()
    session = bundle.open_session(folder, record, lambda text: None)
    opened = time.perf_counter()
    feed = example(session)
    ready = time.perf_counter()
    session.run(None, feed)
    ran = time.perf_counter()
    peak = process_bytes("VmHWM")
    return {
        "open_ms": 1000 * (opened - start),
        "first_run_ms": 1000 * (ran - ready),
        "process_peak_bytes": peak,
        "added_bytes": None if peak is None or before is None else max(peak - before, 0),
    }


def cold_starts(folder: str, count: int) -> dict[str, Any]:
    """Medians over new processes; empty where none is asked for."""
    found = []
    for _ in range(count):
        command = [sys.executable, os.path.abspath(__file__), "--cold", "--folder", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout.decode("utf-8")))
    if not found:
        return {}
    medians: dict[str, Any] = {"processes": count}
    for name in found[0]:
        values = [row[name] for row in found if row[name] is not None]
        medians[name] = quantile(values, 0.5) if values else None
    return medians


def show(record: dict[str, Any], here: dict[str, Any], cold_here: dict[str, Any]) -> None:
    """Prints what was measured here beside what was recorded."""
    measured = record["measured"]
    recorded_cold = record.get("cold_start") or {}
    rows = [("least", measured.get("latency_ms"), here["least_ms"], "ms")]
    rows += [(name[:3], measured.get(name), here[name], "ms") for name, _ in QUANTILES]
    for title, name in (("open", "open_ms"), ("first run", "first_run_ms")):
        rows.append((title, recorded_cold.get(name), cold_here.get(name), "ms"))
    for title, name in (("peak of the process", "process_peak_bytes"), ("added", "added_bytes")):
        mebibytes = [
            None if facts.get(name) is None else facts[name] / 2**20
            for facts in (recorded_cold, cold_here)
        ]
        rows.append((title, mebibytes[0], mebibytes[1], "MiB"))
    print("recorded on: {}".format(record["target"]["name"]) + ", " + measured["source"])
    print(f"here: {platform.platform()}, {platform.processor() or platform.machine()}")
    print("{:<22}{:>12}{:>12}{:>9}".format("", "recorded", "here", "ratio"))
    for title, old, new, unit in rows:
        cells = ["-" if value is None else f"{value:.4g} {unit}" for value in (old, new)]
        ratio = "" if not old or new is None else f"{new / old:.2f}"
        print(f"{title:<22}{cells[0]:>12}{cells[1]:>12}{ratio:>9}")


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="Times the network of this folder.")
    parser.add_argument("--runs", type=int, default=500, help="runs that are timed")
    parser.add_argument("--threads", type=int, default=None, help="instead of those recorded")
    parser.add_argument("--cold-starts", type=int, default=5, help="processes to start; 0 none")
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    parser.add_argument("--folder", default=HERE, help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.cold_starts < 0 or (options.threads or 1) < 1:
        parser.error("--runs and --threads must be at least 1, --cold-starts at least 0")
    try:
        if options.cold:
            print(json.dumps(cold(options.folder)))
            return 0
        record = bundle.read_record(options.folder)
        if options.threads is not None:
            record["session"]["threads"] = options.threads
        found = warm(bundle.open_session(options.folder, record, print), options.runs)
        starts = cold_starts(options.folder, options.cold_starts)
    except ImportError as error:
        print(f"cannot run: {error}; pip install onnxruntime numpy", file=sys.stderr)
        return 2
    except bundle.RefusedError as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"warm": found, "cold_start": starts}))
    else:
        show(record, found, starts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
