"""Energy per operation and per byte at 45 nm: a reference for devices that publish neither.

The numbers are Horowitz's: M. Horowitz, Computing's energy problem (and what we can do about it),
ISSCC 2014, figure 1.1.9, 45 nm at 0.9 V. The paper itself was not opened; most numbers were read
where it is quoted, and each says where. They are a reference, not any device's own process: a
newer one needs several times less for arithmetic and little less for DRAM. So no profile carries
them by itself; `with_reference_energy` adds them where a profile has none, and each says so.

The table gives energies of an addition, a multiplication and a 64-bit access. Here

    pJ per operation = (multiplication + addition) / 2
    pJ per byte      = access of 64 bits / 8

as one multiply-accumulate is two operations, with 32-bit accumulation for int8. Between the sizes
given, the energy of a cache access is interpolated linearly in the logarithms of size and energy;
beyond them the nearest is taken.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from hardware_profiles.profile import Profile, Quantity

_REFERENCE = "45 nm reference, not this device's process"
_HOROWITZ = "Horowitz, ISSCC 2014"
_TABLE = f"{_HOROWITZ}, as quoted in table 3 of https://pmc.ncbi.nlm.nih.gov/articles/PMC8934428/"
_ENERGY_PY = (
    f"{_HOROWITZ}, as quoted in github.com/stillwater-sc/esim energysim/database/energy.py"
)
_GENERIC_45NM = f"{_HOROWITZ}, as quoted in generic_45nm.hpp of github.com/stillwater-sc/universal"


def _per_op(multiply_pj: float, add_pj: float, source: str) -> Quantity:
    return Quantity(
        value=round((multiply_pj + add_pj) / 2, 6),
        source=f"{_REFERENCE}: ({multiply_pj:g} + {add_pj:g}) pJ / 2; {source}",
        source_read=True,
    )


def _per_byte(access_pj: float, source: str, *, read: bool) -> Quantity:
    return Quantity(
        value=access_pj / 8,
        source=f"{_REFERENCE}: {access_pj:g} pJ per 64 bits; {source}",
        source_read=read,
    )


PJ_PER_OP_45NM: Mapping[str, Quantity] = {
    "fp32": _per_op(3.7, 0.9, _TABLE),
    "fp16": _per_op(1.1, 0.4, _ENERGY_PY),
    "int8": _per_op(0.2, 0.1, f"8-bit multiplication, 32-bit addition; {_ENERGY_PY}"),
}
"""Precision to pJ per operation. bf16 is not in the table."""

PJ_PER_BYTE_CACHE_45NM: Mapping[int, Quantity] = {
    8 << 10: _per_byte(10, f"8 KB cache; {_TABLE}", read=True),
    32 << 10: _per_byte(20, f"32 KB cache; {_HOROWITZ}, figure 1.1.9", read=False),
    1 << 20: _per_byte(100, f"1 MB cache; {_HOROWITZ}, figure 1.1.9", read=False),
}
"""Cache size in bytes to pJ per byte."""

PJ_PER_BYTE_DRAM_45NM = _per_byte(
    1950, f"middle of 1300-2600 pJ per DRAM access; {_GENERIC_45NM}", read=True
)
"""pJ per byte of main memory; the table gives a range of a factor of two."""


def cache_pj_per_byte(size_bytes: float) -> Quantity:
    """Returns the 45 nm energy of one byte from a cache of this size.

    >>> round(cache_pj_per_byte(32 * 1024).value, 2)
    2.5
    """
    sizes = sorted(PJ_PER_BYTE_CACHE_45NM)
    size = min(max(size_bytes, sizes[0]), sizes[-1])
    below = max(s for s in sizes if s <= size)
    if size == below:
        return PJ_PER_BYTE_CACHE_45NM[below]
    above = min(s for s in sizes if s > size)
    low, high = PJ_PER_BYTE_CACHE_45NM[below], PJ_PER_BYTE_CACHE_45NM[above]
    share = math.log(size / below) / math.log(above / below)
    return Quantity(
        value=low.value * (high.value / low.value) ** share,
        source=f"{_REFERENCE}: interpolated between {low.value:g} pJ/byte at {below >> 10} KB and "
        f"{high.value:g} pJ/byte at {above >> 10} KB; {_HOROWITZ}, figure 1.1.9",
        source_read=low.source_read and high.source_read,
    )


def with_reference_energy(profile: Profile) -> Profile:
    """Returns the profile with 45 nm energies wherever it has none of its own.

    Precisions are filled where the profile has a peak for them, memory levels where their size is
    known; the last of several levels is taken as DRAM. Numbers already there are kept.
    """
    per_op = {
        precision: quantity
        for precision, quantity in PJ_PER_OP_45NM.items()
        if precision in profile.peak_gflops
    }
    per_byte = {
        level.name: cache_pj_per_byte(level.size_bytes.value)
        for level in profile.memory[:-1]
        if level.size_bytes is not None
    }
    if profile.main_memory is not None:
        on_chip = profile.kind == "microcontroller" and profile.main_memory.size_bytes
        per_byte[profile.main_memory.name] = (
            cache_pj_per_byte(on_chip.value) if on_chip else PJ_PER_BYTE_DRAM_45NM
        )
    return replace(
        profile,
        pj_per_op=per_op | dict(profile.pj_per_op),
        pj_per_byte=per_byte | dict(profile.pj_per_byte),
    )
