#!/usr/bin/env python3
"""Picks, for every run, the network of this folder that fits the time there is.

    python selector.py                 says what the networks are
    python selector.py --check         each computes here what it should
    python selector.py --measure       what it takes to open and to switch, as JSON

In a program of yours:

    from selector import Selector

    networks = Selector("folder")
    logits = networks.run(images, budget_ms=8.0)

It needs Python 3.8 or newer, onnxruntime and numpy, and nothing else.

The networks were timed when the folder was made; `family.json` has the latencies. Chosen is the
most accurate network whose latency is within the budget, or the fastest where none is. Recorded
latencies are those of an idle machine: `run` compares each run with the record and multiplies all
of them by the slowdown that it sees, a moving average.

A network that is too slow for the budget is left at once. To a slower and more accurate one the
selector goes only when its latency is below the budget by a margin, for some runs in a row: a
budget that trembles around a latency does not make it switch back and forth (hysteresis).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import onnxruntime as ort

FORMAT = "hwnas-family-1"
MARGIN = 0.1
"""A slower network is taken when its latency is so far below the budget, as a share of that."""
PATIENCE = 3
"""For so many runs in a row."""
MEMORY = 0.2
"""Weight of the last run in the slowdown."""


class FamilyError(Exception):
    """The folder is damaged, or a network does not compute what it should."""


def read_record(folder: str) -> dict[str, Any]:
    """What `family.json` holds."""
    path = os.path.join(folder, "family.json")
    try:
        with open(path, encoding="utf-8") as file:
            record: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise FamilyError(f"{folder} holds no networks to choose from: {error}") from error
    if record.get("format") != FORMAT:
        raise FamilyError(f"{path} is of format {record.get('format')!r}, this reads {FORMAT}")
    return record


class Selector:
    """The networks of a folder and which of them runs.

    Args:
        folder: With `family.json` and the files that it names.
        threads: Threads inside an operator; None for as many as the latencies were taken with.
        keep_open: Whether a network that was used stays open; without, one is open at a time.
        open_all: Whether all are opened now; else each when it is chosen first.
        margin: See `MARGIN`.
        patience: See `PATIENCE`.
    """

    def __init__(
        self,
        folder: str,
        *,
        threads: int | None = None,
        keep_open: bool = True,
        open_all: bool = False,
        margin: float = MARGIN,
        patience: int = PATIENCE,
    ) -> None:
        self.folder = folder
        self.record = read_record(folder)
        self.threads = int(self.record["target"]["threads"]) if threads is None else threads
        self.keep_open, self.margin, self.patience = keep_open, margin, patience
        members = self.record["members"]
        self.members = sorted(members, key=lambda member: member["latency_ms"])
        self.slowdown = 1.0
        self.current: str | None = None
        self.switches = 0
        self._waited = 0
        self._sessions: dict[str, Any] = {}
        if open_all:
            for member in self.members:
                self.session(member["name"])

    @property
    def names(self) -> list[str]:
        """The networks, the fastest first."""
        return [member["name"] for member in self.members]

    def latency_ms(self, name: str) -> float:
        """What a run of a network takes now: as recorded, times the slowdown."""
        return float(self._member(name)["latency_ms"]) * self.slowdown

    def _member(self, name: str) -> dict[str, Any]:
        for member in self.members:
            if member["name"] == name:
                found: dict[str, Any] = member
                return found
        raise FamilyError(f"there is no network {name!r}; there are {', '.join(self.names)}")

    def best_within(self, budget_ms: float) -> str:
        """The most accurate network within a budget; the fastest where none is."""
        fitting = [name for name in self.names if self.latency_ms(name) <= budget_ms]
        if not fitting:
            return self.names[0]
        # equal accuracy: the faster one
        return max(fitting, key=lambda n: (self._rank(n), -self.latency_ms(n)))

    def _rank(self, name: str) -> float:
        accuracy = self._member(name).get("accuracy")
        return self.latency_ms(name) if accuracy is None else float(accuracy)

    def choose(self, budget_ms: float) -> str:
        """The network for the next run, which becomes the current one."""
        if not budget_ms > 0:
            raise FamilyError(f"a budget is a time above 0 ms, got {budget_ms}")
        wanted = self.best_within(budget_ms)
        if self.current is None or self.latency_ms(self.current) > budget_ms:
            self._switch(wanted)
        elif wanted != self.current:
            sure = self.best_within(budget_ms * (1 - self.margin))
            is_better = self._rank(sure) > self._rank(self.current)
            self._waited = self._waited + 1 if is_better else 0
            if self._waited >= self.patience:
                self._switch(sure)
        else:
            self._waited = 0
        assert self.current is not None
        return self.current

    def _switch(self, name: str) -> None:
        self._waited = 0
        if name == self.current:
            return
        self.switches += self.current is not None
        if not self.keep_open:
            self._sessions.clear()
        self.current = name

    def session(self, name: str) -> Any:
        """The open network of a name."""
        if name not in self._sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3
            path = os.path.join(self.folder, self._member(name)["file"])
            self._sessions[name] = ort.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[name]

    def close(self) -> None:
        """Closes all networks."""
        self._sessions.clear()

    def run(self, images: Any, budget_ms: float, *, adapt: bool = True) -> Any:
        """The logits of a batch, from the network that fits the budget.

        Args:
            images: A float32 array of the networks' input shape.
            budget_ms: How long the run may take.
            adapt: Whether the time that it took changes the slowdown.
        """
        name = self.choose(budget_ms)
        is_warm = name in self._sessions
        session = self.session(name)
        start = time.perf_counter()
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        if adapt and is_warm:  # a first run also fills memory
            self.observe(name, 1e3 * (time.perf_counter() - start))
        return logits

    def observe(self, name: str, took_ms: float) -> None:
        """Takes what a run took into the slowdown, at least 1."""
        ratio = took_ms / float(self._member(name)["latency_ms"])
        self.slowdown = max(1.0, (1 - MEMORY) * self.slowdown + MEMORY * ratio)


def check(folder: str) -> list[str]:
    """What is wrong with the files and with what the networks compute; empty if nothing."""
    wrong = []
    record = read_record(folder)
    for name, expected in record["files"].items():
        try:
            with open(os.path.join(folder, name), "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            wrong.append(f"{name} cannot be read: {error}")
            continue
        if not found.startswith(expected):  # recorded are the first digits
            wrong.append(f"{name} was altered: its hash begins with {found[:16]}, not {expected}")
    if wrong:
        return wrong
    networks = Selector(folder)
    for member in networks.members:
        sample = member["sample"]
        session = networks.session(member["name"])
        random = np.random.RandomState(sample["seed"])  # its values are the same for all versions
        images = random.standard_normal(session.get_inputs()[0].shape).astype(np.float32)
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        stated = np.asarray(sample["logits"], np.float32)
        scale = max(float(np.abs(stated).max()), 1e-30)
        difference = float(np.abs(logits - stated).max()) / scale
        if not difference <= sample["tolerance"]:
            wrong.append(
                f"{member['name']} differs by {difference:.2g} of the largest logit, allowed are "
                f"{sample['tolerance']:g}"
            )
    return wrong


def measure(folder: str, repeats: int = 5) -> dict[str, Any]:
    """What opening and switching take on this machine.

    Returns:
        For every network `open_ms`, `first_run_ms` and `run_ms` (medians), and the resident memory
        of the process: before any is open, with each alone (one after the other, so what one left
        behind counts for the next), and with all; None where it cannot be read.
    """
    networks = Selector(folder)
    before = resident_bytes()
    found: dict[str, dict[str, Any]] = {}
    for name in networks.names:
        times: dict[str, list[float]] = {"open_ms": [], "first_run_ms": [], "run_ms": []}
        for _ in range(repeats):
            networks.close()
            for what in times:
                start = time.perf_counter()
                session = networks.session(name)
                if what != "open_ms":
                    entry = session.get_inputs()[0]
                    session.run(None, {entry.name: np.zeros(entry.shape, np.float32)})
                times[what].append(1e3 * (time.perf_counter() - start))
        found[name] = {what: statistics.median(values) for what, values in times.items()}
        found[name]["resident_bytes"] = resident_bytes()
    networks = Selector(folder, open_all=True)
    for name in networks.names:
        entry = networks.session(name).get_inputs()[0]
        networks.session(name).run(None, {entry.name: np.zeros(entry.shape, np.float32)})
    return {
        "members": found,
        "resident_bytes_before": before,
        "resident_bytes_all_open": resident_bytes(),
        "switch_ms_open": _switch_ms(networks),
        "repeats": repeats,
        "onnxruntime": ort.__version__,
    }


def _switch_ms(networks: Selector, repeats: int = 20) -> float:
    """Median time by which a run right after a switch is longer, all networks open."""
    extra = []
    feeds = {}
    for name in networks.names:
        entry = networks.session(name).get_inputs()[0]
        feeds[name] = {entry.name: np.zeros(entry.shape, np.float32)}
    for _ in range(repeats):
        for name, feed in feeds.items():
            took = []
            for _ in range(2):  # the first after another network, the second after itself
                start = time.perf_counter()
                networks.session(name).run(None, feed)
                took.append(1e3 * (time.perf_counter() - start))
            extra.append(took[0] - took[1])
    return statistics.median(extra)


def resident_bytes() -> int | None:
    """The memory that this process holds, where Linux tells it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Networks that share weights.")
    parser.add_argument("folder", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--check", action="store_true", help="compute and compare")
    parser.add_argument("--measure", action="store_true", help="time opening and switching")
    options = parser.parse_args(arguments)
    try:
        if options.measure:
            print(json.dumps(measure(options.folder)))
        elif options.check:
            wrong = check(options.folder)
            print("\n".join(wrong) or "all networks compute what they should")
            return int(bool(wrong))
        else:
            for member in Selector(options.folder).members:
                accuracy = member.get("accuracy")
                told = "" if accuracy is None else f", accuracy {accuracy:.4f}"
                print(f"{member['name']}: {member['latency_ms']:.3f} ms{told}")
    except FamilyError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
