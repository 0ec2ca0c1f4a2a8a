"""This machine's own profile: measured once, then read from a file.

The file is `${XDG_CACHE_HOME:-~/.cache}/hwnas/local-<hash>.yaml`, the hash being that of the CPU,
the cores in use, the instruction sets and the installed versions, so another machine or another
BLAS is measured anew.
"""

import datetime
import logging
import os
from pathlib import Path

from hardware_profiles import machine, throughput
from hardware_profiles.catalogue import load_profile, save_profile
from hardware_profiles.profile import MemoryLevel, Profile, Quantity
from records import BadInputError, CorruptFileError, StorageError, content_hash, versions

_LOG = logging.getLogger(__name__)
_RUNTIMES = ("onnxruntime", "torch")

# Profiles that could not be written to the cache folder: measured once a process at least.
_UNSAVED: dict[str, Profile] = {}


def local_profile(*, refresh: bool = False) -> Profile:
    """Returns the profile of this machine, measured now if no file has it.

    A damaged file is reported as a warning and measured anew; a folder that cannot be written to
    is reported and done without.

    Args:
        refresh: Measure even if a file has it, and replace the file.
    """
    key = _cache_key()
    path = _cache_folder() / f"local-{key}.yaml"
    if not refresh:
        cached = _UNSAVED.get(key) or _cached(path)
        if cached is not None:
            return cached
    profile = measure_local()
    try:
        save_profile(profile, path)
        _UNSAVED.pop(key, None)
    except StorageError as error:
        _LOG.warning("the profile of this machine is not kept: %s", error)
        _UNSAVED[key] = profile
    return profile


def measure_local(*, seconds: float = 6.0, seed: int = 0) -> Profile:
    """Measures this machine: compute, main memory and caches, with one thread and with all cores.

    Only fp32 is measured, since numpy has fast matrix products for nothing smaller; other
    precisions stay unknown. Where a number cannot be had (caches and clock outside Linux) it is
    left out.

    Args:
        seconds: About how long; a slow machine takes longer, for at least two rounds of each.
        seed: Of the matrices' random entries.

    Raises:
        BadInputError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise BadInputError(f"seconds must be positive, got {seconds!r}")
    threads = machine.usable_cores()
    caches = machine.data_caches()
    _LOG.info("measuring %s with %d threads for about %g s", machine.cpu_model(), threads, seconds)
    gemm = throughput.gemm_gflops(threads=threads, seconds=0.4 * seconds, seed=seed)
    _LOG.info("fp32: %.1f GFLOP/s, one thread %.1f", gemm.all_threads, gemm.one_thread)
    clock = machine.clock_ghz()
    counter = machine.has_energy_counter()
    installed = versions()
    return Profile(
        name="local",
        kind=machine.cpu_kind(),
        vendor=machine.cpu_model(),
        year=datetime.datetime.now(tz=datetime.UTC).year,
        description=f"This machine, measured: {machine.cpu_model()}, {threads} cores in use.",
        cores=_reported(threads, "physical cores that this process may use, by psutil"),
        clock_ghz=None if clock is None else _reported(clock, "clock, by psutil"),
        peak_gflops={"fp32": _measured(gemm.all_threads, f"numpy fp32 GEMM, {threads} threads")},
        peak_gflops_per_thread={"fp32": _measured(gemm.one_thread, "numpy fp32 GEMM, 1 thread")},
        memory=_memory_levels(caches, threads, 0.6 * seconds),
        instruction_sets=machine.instruction_sets(),
        runtimes={name: installed[name] for name in _RUNTIMES if name in installed},
        machine=machine.machine_fingerprint(),
        notes=f"energy: {'measured by RAPL' if counter else 'modelled'}",
    )


def _memory_levels(
    caches: tuple[machine.Cache, ...], threads: int, seconds: float
) -> tuple[MemoryLevel, ...]:
    """Measures each cache and the main memory, an equal share of the time each."""
    each = seconds / (len(caches) + 1)
    levels = []
    for cache in caches:
        rates = throughput.cache_gbps(
            cache.size_bytes, threads=threads, seconds=each, sharers=machine.cores_of(cache)
        )
        where = "/sys/devices/system/cpu/cpu0/cache"
        size = _reported(cache.size_bytes, where)
        levels.append(_level(cache.name, size, rates, "repeated numpy read of half of it"))
    last = caches[-1].size_bytes if caches else 0
    rates = throughput.copy_gbps(last_cache_bytes=last, threads=threads, seconds=each)
    size = _reported(machine.main_memory_bytes(), "size of main memory, by psutil")
    levels.append(_level("dram", size, rates, "numpy copy, bytes read + written"))
    return tuple(levels)


def _level(name: str, size: Quantity, rates: throughput.Rates, how: str) -> MemoryLevel:
    _LOG.info("%s: %.1f GB/s, one thread %.1f", name, rates.all_threads, rates.one_thread)
    return MemoryLevel(
        name=name,
        size_bytes=size,
        bandwidth_gbps=_measured(rates.all_threads, f"{how}, all threads"),
        bandwidth_gbps_per_thread=_measured(rates.one_thread, f"{how}, 1 thread"),
    )


def _measured(value: float, how: str) -> Quantity:
    source = f"measured here: {how}, best of several rounds"
    return Quantity(value=round(value, 3), source=source, measured=True)


def _reported(value: float, how: str) -> Quantity:
    return Quantity(value=value, source=f"reported by this machine: {how}", measured=True)


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hwnas"


def _cache_key() -> str:
    return content_hash([machine.machine_fingerprint(), machine.usable_cores(), versions()])


def _cached(path: Path) -> Profile | None:
    """Returns the profile in the file; None if there is none, or none that can be used."""
    if not path.exists():
        return None
    try:
        profile = load_profile(path)
    except (CorruptFileError, StorageError) as error:
        _LOG.warning("measuring this machine anew: %s", error)
        return None
    if profile.machine != machine.machine_fingerprint():
        _LOG.warning("measuring this machine anew: %s is another machine's profile", path)
        return None
    return profile
