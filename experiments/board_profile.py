"""A hardware profile of a device that a kit was measured on, from what the device says of itself.

The kit brings back a few files of the device's `/proc` and `/sys` as they are; they are laid out
in a temporary folder and read by the same functions that read this machine's. What it reaches at
a large matrix product and at copying memory stands for peak arithmetic and bandwidth.
"""

from __future__ import annotations

import datetime
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment.kit import Results
from hardware_profiles import MemoryLevel, Profile, Quantity, machine
from records import BadInputError

_PLAIN_PATH = re.compile(r"(?:proc|sys)(?:/[A-Za-z0-9_-]+)+")
_NAMES_ITSELF = re.compile(r"^(?:model name|Model|Hardware)\s*:", re.MULTILINE)


def board_profile(results: Results, name: str | None = None) -> Profile:
    """The profile of the device that some results come from.

    Args:
        results: What the kit brought back, with its probes.
        name: A slug; by default made of what the device calls itself.

    Raises:
        BadInputError: The results have no probes, or the name is no slug.
    """
    probes, facts = results.probes, results.machine
    rates = {key: value for key, value in probes.items() if key.startswith("gflops_")}
    if "gflops_1" not in rates:
        raise BadInputError(
            "the results do not say what arithmetic the device reaches (probes.gflops_1): name "
            "its profile with --device or --profile"
        )
    with tempfile.TemporaryDirectory(prefix="hwnas-") as place:
        root = Path(place)
        _lay_out(facts.get("files"), root)
        model = _model(facts, root)
        kind = machine.cpu_kind(root)
        sets = machine.instruction_sets(root)
        caches = machine.data_caches(root)
    cores = int(facts.get("usable_cores") or 1)
    clocks = [clock for clock in facts.get("max_clock_mhz") or [] if clock > 0]
    return Profile(
        name=name or slug(model),
        kind=kind,
        vendor=model,
        year=datetime.datetime.now(tz=datetime.UTC).year,
        description=f"Measured by a kit: {model}, {cores} cores in use, {facts.get('system')}.",
        cores=_reported(cores, "processors that the process may use"),
        max_clock_ghz=None if not clocks else _reported(max(clocks) / 1000, "cpuinfo_max_freq"),
        peak_gflops={"fp32": _measured(max(rates.values()), "onnxruntime MatMul, all cores")},
        peak_gflops_per_thread={
            "fp32": _measured(rates["gflops_1"], "onnxruntime MatMul, 1 thread")
        },
        memory=(
            *(
                MemoryLevel(name=cache.name, size_bytes=_reported(cache.size_bytes, "cpu0/cache"))
                for cache in caches
            ),
            _main_memory(facts, probes),
        ),
        instruction_sets=sets,
        runtimes={"onnxruntime": str(facts.get("onnxruntime", ""))},
        notes="Arithmetic and bandwidth are what onnxruntime and a copy reached on the device.",
    )


def slug(text: str) -> str:
    """A name made of a text: lower case, digits and single hyphens.

    >>> slug("Raspberry Pi 4 Model B Rev 1.4")
    'raspberry-pi-4-model-b-rev-1-4'
    """
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())) or "device"


def _model(facts: Mapping[str, Any], root: Path) -> str:
    """What the device calls itself: the board, else the processor."""
    files = facts.get("files") or {}
    board = files.get("proc/device-tree/model")
    if board:
        return str(board)
    if _NAMES_ITSELF.search(str(files.get("proc/cpuinfo", ""))):
        return machine.cpu_model(root)
    return str(facts.get("processor") or facts.get("architecture") or "unknown CPU")


def _lay_out(files: Any, root: Path) -> None:
    """Writes the device's own files below a folder; nothing gets outside it."""
    for path, text in files.items() if isinstance(files, Mapping) else ():
        if not _PLAIN_PATH.fullmatch(path) or not isinstance(text, str):
            raise BadInputError(f"machine.files has {path!r}, which no kit writes")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _main_memory(facts: Mapping[str, Any], probes: Mapping[str, float]) -> MemoryLevel:
    size, rate = facts.get("memory_bytes"), probes.get("copy_gbps_1")
    return MemoryLevel(
        name="dram",
        size_bytes=_reported(size, "MemTotal") if isinstance(size, int) and size > 0 else None,
        bandwidth_gbps_per_thread=None
        if rate is None
        else _measured(rate, "copy, bytes read + written, 1 thread"),
    )


def _measured(value: float, how: str) -> Quantity:
    source = f"measured on the device by a kit: {how}, best of several"
    return Quantity(value=value, source=source, measured=True)


def _reported(value: float, how: str) -> Quantity:
    return Quantity(value=value, source=f"reported by the device: {how}", measured=True)
