"""What this machine says about itself: CPU, caches, instruction sets, energy counter.

Linux is read from `/proc` and `/sys`; elsewhere the same questions get None or nothing where
psutil cannot answer. Nothing here is timed.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from records import content_hash

# The sets that decide which kernels a runtime can use, in the order in which they are shown.
_INSTRUCTION_SETS = (
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
)
_SERVER_WORDS = ("xeon", "epyc", "neoverse", "graviton", "ampere", "altra")
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One data or unified cache: name such as "l2", size, and how many CPUs share it."""

    name: str
    size_bytes: int
    shared_by: int


def cpu_model(root: Path = Path("/")) -> str:
    """Returns the CPU's name as the machine gives it, e.g. "AMD EPYC"."""
    for key in ("model name", "Model", "Hardware"):
        values = _cpuinfo(root).get(key)
        if values:
            return values
    return platform.processor() or platform.machine() or "unknown CPU"


def cpu_kind(root: Path = Path("/")) -> str:
    """Returns the kind of device: a server, a board (it has a device tree) or a desktop CPU."""
    if any(word in cpu_model(root).lower() for word in _SERVER_WORDS):
        return "server-cpu"
    if (root / "proc/device-tree/model").exists():
        return "board-cpu"
    return "desktop-cpu"


def cpu_cores() -> int:
    """Returns the number of physical cores, or of logical ones where that is unknown."""
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def usable_cores() -> int:
    """Returns how many cores this process may use: fewer than all where it is pinned."""
    if hasattr(os, "sched_getaffinity"):
        return min(cpu_cores(), len(os.sched_getaffinity(0)))
    return cpu_cores()


def clock_ghz() -> float | None:
    """Returns the highest clock the machine reports, else the present one, else None."""
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    if frequency is None:
        return None
    mhz = frequency.max or frequency.current
    return mhz / 1000 if mhz else None


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """Returns the instruction sets that matter for inference, as Linux names them."""
    cpuinfo = _cpuinfo(root)
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return tuple(name for name in _INSTRUCTION_SETS if name in flags)


def data_caches(root: Path = Path("/")) -> tuple[Cache, ...]:
    """Returns the data and unified caches of the first CPU, nearest first; none if unknown."""
    caches = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if _line(folder / "type") == "Instruction":
            continue
        level, size = _line(folder / "level"), _line(folder / "size")
        if not level.isdigit() or not size[:-1].isdigit() or size[-1] not in _BYTES:
            continue
        caches[int(level)] = Cache(
            name="l1d" if level == "1" else f"l{level}",
            size_bytes=int(size[:-1]) * _BYTES[size[-1]],
            shared_by=_count_cpus(_line(folder / "shared_cpu_list")),
        )
    return tuple(caches[level] for level in sorted(caches))


def cores_of(cache: Cache) -> int:
    """Returns how many physical cores share a cache: two hardware threads of one core are one."""
    return max(1, cache.shared_by * cpu_cores() // (psutil.cpu_count() or cpu_cores()))


def main_memory_bytes() -> int:
    """Returns the size of the main memory."""
    return int(psutil.virtual_memory().total)


def has_energy_counter(root: Path = Path("/")) -> bool:
    """Returns whether a RAPL counter can be read, so that energy is measured and not modelled."""
    return any(
        _line(counter).isdigit()
        for counter in (root / "sys/class/powercap").glob("intel-rapl*/energy_uj")
    )


def machine_fingerprint() -> str:
    """Returns a short hash that tells this kind of machine from others: CPU, cores, sets."""
    return content_hash([cpu_model(), cpu_cores(), list(instruction_sets())])


def _cpuinfo(root: Path) -> dict[str, str]:
    """Returns the first value of each key of `/proc/cpuinfo`; empty where there is none."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return values


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _count_cpus(ranges: str) -> int:
    """Counts the CPUs of a list such as "0-3,8": 5. Unreadable text counts as one CPU."""
    count = 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += (int(last) - int(first) if last.isdigit() else 0) + 1
    return max(count, 1)
