"""Counters of energy: RAPL's on a processor, NVML's on a graphics card, where they can be read.

RAPL (Intel and AMD processors, Linux) shows under `/sys/class/powercap/intel-rapl:N` the
microjoules that a package has used, a counter that starts again at 0 behind
`max_energy_range_uj`. On most systems only the superuser may read it, and virtual machines have
none. NVML (`pynvml`, if it is installed) counts millijoules since the driver was loaded.

A counter sees the whole package or card, whatever runs there.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from records import BadInputError, HwnasError

POWERCAP = Path("/sys/class/powercap")


class CounterError(HwnasError, RuntimeError):
    """A counter that was readable can be read no longer."""


class EnergyCounter(Protocol):
    """Counts energy from some moment on."""

    @property
    def name(self) -> str:
        """What it counts, for reports."""
        ...

    @property
    def range_mj(self) -> float | None:
        """Behind which value it starts again at 0; None if it never does."""
        ...

    def read_mj(self) -> float:
        """The count now, in mJ."""
        ...


@dataclass(frozen=True, slots=True)
class RaplCounter:
    """A RAPL zone: a folder with `energy_uj` and `max_energy_range_uj`."""

    folder: Path

    @property
    def name(self) -> str:
        return f"RAPL {_text(self.folder / 'name') or self.folder.name}"

    @property
    def range_mj(self) -> float | None:
        text = _text(self.folder / "max_energy_range_uj")
        return int(text) / 1e3 if text.isdigit() else None

    def read_mj(self) -> float:
        text = _text(self.folder / "energy_uj")
        if not text.isdigit():
            raise CounterError(f"{self.folder / 'energy_uj'} cannot be read")
        return int(text) / 1e3


@dataclass(frozen=True, slots=True)
class NvmlCounter:
    """The counter of one graphics card."""

    nvml: Any
    handle: Any
    index: int

    @property
    def name(self) -> str:
        return f"NVML device {self.index}"

    @property
    def range_mj(self) -> float | None:
        return None

    def read_mj(self) -> float:
        return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))


def rapl_counters(folder: Path = POWERCAP) -> list[RaplCounter]:
    """The readable counters of whole packages; parts of packages are inside those."""
    zones = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
    packages = [zone for zone in zones if zone.name.count(":") == 1]
    return [RaplCounter(zone) for zone in packages if _text(zone / "energy_uj").isdigit()]


def nvml_counters() -> list[NvmlCounter]:
    """The cards whose energy can be read; none without `pynvml`, a driver or such a counter."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        counters = [NvmlCounter(nvml, handle, i) for i, handle in enumerate(handles)]
        for counter in counters:
            counter.read_mj()
    except Exception:  # not installed, no driver, no such counter: each has an error of its own
        return []
    return counters


def joules_between(before_mj: float, after_mj: float, range_mj: float | None) -> float:
    """The millijoules between two readings less than one round of the counter apart.

    Raises:
        CounterError: It went back without a known range.

    >>> joules_between(900.0, 100.0, 1000.0)
    200.0
    """
    if after_mj >= before_mj:
        return after_mj - before_mj
    if range_mj is None or before_mj > range_mj:
        raise CounterError(f"the counter went from {before_mj:g} back to {after_mj:g} mJ")
    return after_mj + range_mj - before_mj


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReading:
    """Energy of one run, measured over many.

    Attributes:
        energy_mj: Of one run, what the package or card used meanwhile in all.
        runs: Over how many runs.
        seconds: How long these took.
        source: What it was measured with.
    """

    energy_mj: float
    runs: int
    seconds: float
    source: str

    @property
    def power_w(self) -> float:
        """The mean power meanwhile."""
        return self.energy_mj * self.runs / self.seconds / 1e3


def measure_energy(
    run: Callable[[], object],
    counters: Sequence[EnergyCounter],
    *,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> EnergyReading:
    """Runs something again and again and divides the energy by the runs.

    Counters are read after every run, so that none can go round twice between two readings unless
    one run takes minutes.

    Args:
        run: What to measure; it is run once before.
        counters: At least one; their energies are added.
        seconds: For how long, at least.
        clock: Tells seconds.

    Raises:
        BadInputError: No counter.
        CounterError: A counter went back without a known range, or cannot be read any more.
    """
    if not counters:
        raise BadInputError("no energy counter can be read on this machine: energy is modelled")
    run()
    total, runs, began = 0.0, 0, clock()
    last = [counter.read_mj() for counter in counters]
    while runs == 0 or clock() - began < seconds:
        run()
        runs += 1
        now = [counter.read_mj() for counter in counters]
        for counter, before, after in zip(counters, last, now, strict=True):
            total += joules_between(before, after, counter.range_mj)
        last = now
    names = ", ".join(counter.name for counter in counters)
    return EnergyReading(
        energy_mj=total / runs, runs=runs, seconds=clock() - began, source=f"measured: {names}"
    )


def _text(path: Path) -> str:
    """The file's text, "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
