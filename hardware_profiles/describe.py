"""Profiles as rows of text for a table; printing them is the command line's business."""

from collections.abc import Iterable
from dataclasses import dataclass

from hardware_profiles.profile import Profile, Provenance, Quantity

UNKNOWN = "?"
"""Stands for a number that the profile does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device in a list of devices; every cell is text, `UNKNOWN` where nothing is known."""

    name: str
    kind: str
    peak: str
    memory_bandwidth: str
    power: str
    share_read: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """One number of one device."""

    number: str
    value: str
    unit: str
    provenance: Provenance
    source: str


def device_rows(profiles: Iterable[Profile]) -> list[DeviceRow]:
    """Returns a row for each device: kind, peak, memory bandwidth, power, how much was read.

    The peak is that of fp32, or of the first precision the device has one for. The power is idle
    and at most.
    """
    return [
        DeviceRow(
            name=profile.name,
            kind=profile.kind,
            peak=_peak(profile),
            memory_bandwidth=_memory_bandwidth(profile),
            power=f"{_value(profile.idle_power_w)} - {_value(profile.peak_power_w)} W",
            share_read=f"{100 * profile.share_read:.0f} %",
        )
        for profile in profiles
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


def _peak(profile: Profile) -> str:
    if not profile.peak_gflops:
        return UNKNOWN
    precision = "fp32" if "fp32" in profile.peak_gflops else next(iter(profile.peak_gflops))
    unit = "GOP/s" if precision == "int8" else "GFLOP/s"
    return f"{_value(profile.peak_gflops[precision])} {unit} {precision}"


def _memory_bandwidth(profile: Profile) -> str:
    level = profile.main_memory
    if level is None or level.bandwidth_gbps is None:
        return UNKNOWN
    return f"{_value(level.bandwidth_gbps)} GB/s"


def _value(quantity: Quantity | None) -> str:
    """Writes a number with four digits, whole numbers in full."""
    if quantity is None:
        return UNKNOWN
    whole = quantity.value == int(quantity.value)
    return f"{int(quantity.value):,}" if whole else f"{quantity.value:,.4g}"
