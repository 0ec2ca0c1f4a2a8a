"""Profiles as rows of text for a table; printing them is the command line's business."""

from collections.abc import Iterable
from dataclasses import dataclass

from hardware_profiles.profile import KINDS, Profile, Provenance, Quantity

UNKNOWN = "?"
"""Stands for a number that the profile does not have."""

_HALF_WIDTH = ("fp16", "bf16", "int16")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device in a list of devices; every cell is text, `UNKNOWN` where nothing is known.

    Attributes:
        kind: One of `KINDS`.
        name: The device's name.
        year: The year it came out.
        fp32: Peak in 10^9 operations a second.
        fp16: The same in 16 bits; where that is not fp16, the precision is named.
        int8: The same in bytes.
        memory: Bandwidth of the main memory in 10^9 bytes a second.
        watt: Power idle and at most.
        read: Share of the numbers that were read in their source or measured.
    """

    kind: str
    name: str
    year: str
    fp32: str
    fp16: str
    int8: str
    memory: str
    watt: str
    read: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """One number of one device."""

    number: str
    value: str
    unit: str
    provenance: Provenance
    source: str


DEVICE_ROW_UNITS = "peaks in GFLOP/s or GOP/s, main memory in GB/s, idle - most power in W"
"""What the numbers of a `DeviceRow` mean, for a title."""


def device_rows(profiles: Iterable[Profile]) -> list[DeviceRow]:
    """Returns a row for each device, grouped by kind in the order of `KINDS`, then by name."""
    grouped = sorted(profiles, key=lambda profile: (KINDS.index(profile.kind), profile.name))
    return [
        DeviceRow(
            kind=profile.kind,
            name=profile.name,
            year=str(profile.year),
            fp32=_value(profile.peak_gflops.get("fp32")),
            fp16=_half_width_peak(profile),
            int8=_value(profile.peak_gflops.get("int8")),
            memory=_memory_bandwidth(profile),
            watt=_power(profile),
            read=f"{100 * profile.share_read:.0f} %",
        )
        for profile in grouped
    ]


def number_rows(profile: Profile) -> list[NumberRow]:
    """Returns a row for each known number of the device: value, unit, provenance, source."""
    return [
        NumberRow(
            number=number,
            value=_value(quantity),
            unit=unit,
            provenance=quantity.provenance,
            source=quantity.source,
        )
        for number, unit, quantity in profile.quantities()
    ]


def profile_lines(profile: Profile) -> list[str]:
    """Returns what a table of numbers leaves out: origin, runtimes, instructions, notes."""
    count = len(list(profile.quantities()))
    lines = [
        f"{profile.kind} of {profile.vendor}, {profile.year}; "
        f"{100 * profile.share_read:.0f} % of {count} numbers read in their source or measured"
    ]
    if profile.runtimes:
        named = (f"{name} {version}".strip() for name, version in profile.runtimes.items())
        lines.append(f"runtimes: {', '.join(named)}")
    if profile.instruction_sets:
        lines.append(f"instruction sets: {', '.join(profile.instruction_sets)}")
    if profile.notes:
        lines.append(profile.notes.strip())
    return lines


def _half_width_peak(profile: Profile) -> str:
    """The peak in the first 16-bit precision that the profile has one for."""
    for precision in _HALF_WIDTH:
        if precision in profile.peak_gflops:
            value = _value(profile.peak_gflops[precision])
            return value if precision == "fp16" else f"{value} {precision}"
    return UNKNOWN


def _memory_bandwidth(profile: Profile) -> str:
    level = profile.main_memory
    return _value(None if level is None else level.bandwidth_gbps)


def _power(profile: Profile) -> str:
    if profile.idle_power_w is None and profile.peak_power_w is None:
        return UNKNOWN
    return f"{_value(profile.idle_power_w)} - {_value(profile.peak_power_w)}"


def _value(quantity: Quantity | None) -> str:
    """Writes a number with four digits, whole numbers in full."""
    if quantity is None:
        return UNKNOWN
    whole = quantity.value == int(quantity.value)
    if whole or abs(quantity.value) >= 1000:
        return f"{round(quantity.value):,}"
    return f"{quantity.value:,.4g}"
