"""A hardware profile: what is known of a device, every number with its source.

A number is a `Quantity`: the value, where it comes from and whether that text was read, the value
was recalled, or it was measured here. What is unknown is None or absent; nothing is guessed
silently. Conventions that hold for every number:

- one multiply-accumulate counts as two operations; `peak_gflops` is 10^9 operations a second of
  the whole device (dense, no structured sparsity), also for integers;
- a memory level's size is what *one* core (on a GPU: one multiprocessor) can reach of it, its
  bandwidth is that of all cores together, in 10^9 bytes a second;
- memory levels run from the nearest to the farthest; the last one is the main memory.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from records import BadInputError, unknown_name

Provenance: TypeAlias = Literal["read", "recalled", "measured"]

KINDS = (
    "server-cpu",
    "desktop-cpu",
    "laptop-soc",
    "phone-cpu",
    "board-cpu",
    "embedded-gpu",
    "desktop-gpu",
    "datacentre-gpu",
    "datacentre-npu",
    "edge-npu",
    "asic",
    "fpga",
    "microcontroller",
)
"""The kinds of devices, in the order in which they are listed."""

CPU_KINDS = (
    "server-cpu",
    "desktop-cpu",
    "laptop-soc",
    "phone-cpu",
    "board-cpu",
    "microcontroller",
)
"""The kinds whose `cores` run one thread of a network each."""

PRECISIONS = ("fp32", "fp16", "bf16", "int16", "int8")
"""The precisions of operands that a peak is given for."""

_SLUG = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A positive number with its source; the unit is in the name of the field that holds it.

    Attributes:
        value: The number, positive and finite.
        source: Title and place, and for a derived number how it was derived.
        source_read: Whether the text was opened when the number was written down; for a derived
            number whether the texts of all its inputs were.
        measured: Whether hwnas measured it on the device itself.

    >>> Quantity(value=25.6, source="data sheet, table 1", source_read=False).provenance
    'recalled'
    """

    value: float
    source: str
    source_read: bool = False
    measured: bool = False

    def __post_init__(self) -> None:
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not (number and math.isfinite(self.value) and self.value > 0):
            raise BadInputError(f"a quantity must be a positive finite number, got {self.value!r}")
        if not self.source.strip():
            raise BadInputError(f"the quantity {self.value:g} has no source: say where it is from")
        if self.measured and self.source_read:
            raise BadInputError(
                f"the quantity {self.value:g} is said to be both measured and read: choose one"
            )

    @property
    def provenance(self) -> Provenance:
        """How far the number can be trusted: measured here, read in its source, or recalled."""
        if self.measured:
            return "measured"
        return "read" if self.source_read else "recalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """One level of the memory hierarchy.

    Attributes:
        name: A slug such as "l2" or "dram".
        size_bytes: What one core can reach of it; None if unknown.
        bandwidth_gbps: Of all cores together, in 10^9 bytes a second; None if unknown.
        bandwidth_gbps_per_thread: Of one core alone; None if unknown.
    """

    name: str
    size_bytes: Quantity | None = None
    bandwidth_gbps: Quantity | None = None
    bandwidth_gbps_per_thread: Quantity | None = None

    def __post_init__(self) -> None:
        _check_slug("memory level", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of one device; see the module for the conventions.

    Attributes:
        name: A slug, unique among the devices.
        kind: One of `KINDS`.
        vendor: Who makes it.
        year: The year it came out, or was measured.
        description: One sentence: which part of which product the numbers describe.
        cores: Units that work on their own: CPU cores, GPU multiprocessors, accelerator cores.
        clock_ghz: The clock that the peaks hold for: the one all cores keep up.
        max_clock_ghz: The highest clock of any core, which it keeps up for a short time or alone.
        technology_nm: The name of the process in nanometres, such as 7.
        array_rows: Rows of one array of multipliers (accelerators).
        array_columns: Columns of one array of multipliers (accelerators).
        peak_gflops: Precision to peak of the whole device.
        peak_gflops_per_thread: Precision to peak of one (the fastest) core.
        memory: Levels from the nearest to the main memory.
        idle_power_w: Drawn when nothing runs.
        peak_power_w: Drawn at most (a thermal design power where nothing better is known).
        pj_per_op: Precision to energy of one operation, half a multiply-accumulate.
        pj_per_byte: Name of a memory level to energy of one byte moved.
        kernel_launch_us: Time to start one kernel that does nothing.
        flash_bytes: Read-only memory for code and weights (microcontrollers).
        ram_bytes: All on-chip RAM (microcontrollers).
        instruction_sets: Slugs as Linux prints them, e.g. "avx512_vnni", "asimddp".
        runtimes: Name of a runtime to its version, "" where any will do. Empty: not known.
        machine: Fingerprint of the machine a measured profile belongs to; "" for a data sheet.
        notes: Whatever a reader must know and the numbers do not say.
    """

    name: str
    kind: str
    vendor: str
    year: int
    description: str
    cores: Quantity | None = None
    clock_ghz: Quantity | None = None
    max_clock_ghz: Quantity | None = None
    technology_nm: Quantity | None = None
    array_rows: Quantity | None = None
    array_columns: Quantity | None = None
    peak_gflops: Mapping[str, Quantity] = field(default_factory=dict)
    peak_gflops_per_thread: Mapping[str, Quantity] = field(default_factory=dict)
    memory: tuple[MemoryLevel, ...] = ()
    idle_power_w: Quantity | None = None
    peak_power_w: Quantity | None = None
    pj_per_op: Mapping[str, Quantity] = field(default_factory=dict)
    pj_per_byte: Mapping[str, Quantity] = field(default_factory=dict)
    kernel_launch_us: Quantity | None = None
    flash_bytes: Quantity | None = None
    ram_bytes: Quantity | None = None
    instruction_sets: tuple[str, ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        _check_slug("device", self.name)
        if self.kind not in KINDS:
            raise unknown_name("kind of device", self.kind, KINDS)
        if isinstance(self.year, bool) or not isinstance(self.year, int) or self.year < 1970:
            raise BadInputError(f"year must be a year such as 2019, got {self.year!r}")
        for precisions in (self.peak_gflops, self.peak_gflops_per_thread, self.pj_per_op):
            for precision in precisions:
                if precision not in PRECISIONS:
                    raise unknown_name("precision", precision, PRECISIONS)
        levels = [level.name for level in self.memory]
        if len(set(levels)) != len(levels):
            raise BadInputError(f"memory level names must differ, got {', '.join(levels)}")
        for level in self.pj_per_byte:
            if level not in levels:
                raise unknown_name("memory level", level, levels)
        for slug in self.instruction_sets:
            _check_slug("instruction set", slug)
        for slug in self.runtimes:
            _check_slug("runtime", slug)
        for key in ("cores", "array_rows", "array_columns"):
            number = getattr(self, key)
            if number is not None and number.value != int(number.value):
                raise BadInputError(f"{key} must be a whole number, got {number.value:g}")
        _check_order("clock_ghz", self.clock_ghz, "max_clock_ghz", self.max_clock_ghz)
        _check_order("idle_power_w", self.idle_power_w, "peak_power_w", self.peak_power_w)

    def __hash__(self) -> int:
        """Hashes the name alone: the mappings inside cannot be hashed."""
        return hash((self.name, self.machine))

    def quantities(self) -> Iterator[tuple[str, str, Quantity]]:
        """Yields every known number as (place in the profile, unit, quantity)."""
        for key, unit in _SCALAR_UNITS.items():
            quantity = getattr(self, key)
            if quantity is not None:
                yield key, unit, quantity
        for level in self.memory:
            for key, unit in _LEVEL_UNITS.items():
                quantity = getattr(level, key)
                if quantity is not None:
                    yield f"memory.{level.name}.{key}", unit, quantity
        for key, unit in _MAPPING_UNITS.items():
            for entry, quantity in getattr(self, key).items():
                is_integer = unit == "GFLOP/s" and entry.startswith("int")
                yield f"{key}.{entry}", "GOP/s" if is_integer else unit, quantity

    @property
    def share_read(self) -> float:
        """The share of the numbers that were read in their source or measured; 0 without any."""
        trusted = [quantity.provenance != "recalled" for _, _, quantity in self.quantities()]
        return sum(trusted) / len(trusted) if trusted else 0.0

    @property
    def main_memory(self) -> MemoryLevel | None:
        """The last memory level, None if no level is known."""
        return self.memory[-1] if self.memory else None


_SCALAR_UNITS = {
    "cores": "",
    "clock_ghz": "GHz",
    "max_clock_ghz": "GHz",
    "technology_nm": "nm",
    "array_rows": "",
    "array_columns": "",
    "idle_power_w": "W",
    "peak_power_w": "W",
    "kernel_launch_us": "us",
    "flash_bytes": "byte",
    "ram_bytes": "byte",
}
_LEVEL_UNITS = {
    "size_bytes": "byte",
    "bandwidth_gbps": "GB/s",
    "bandwidth_gbps_per_thread": "GB/s",
}
_MAPPING_UNITS = {
    "peak_gflops": "GFLOP/s",
    "peak_gflops_per_thread": "GFLOP/s",
    "pj_per_op": "pJ",
    "pj_per_byte": "pJ/byte",
}


def _check_slug(kind: str, name: str) -> None:
    if not isinstance(name, str) or not _SLUG.fullmatch(name):
        raise BadInputError(
            f"{kind} name {name!r} is not a slug: lower-case letters and digits, parts joined by "
            "one of - _ ."
        )


def _check_order(low: str, lower: Quantity | None, high: str, higher: Quantity | None) -> None:
    if lower is not None and higher is not None and lower.value > higher.value:
        raise BadInputError(
            f"{low} must be at most {high}, got {lower.value:g} and {higher.value:g}"
        )
