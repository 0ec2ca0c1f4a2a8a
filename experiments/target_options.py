"""`--target` of the main job: which device, how it is used, and what is asked of it there.

    NAME
    NAME:threads=4,batch=1,precision=int8,max_latency_ms=5,weight=2

NAME is a target that was measured (`hwnas profile import`), by its name or folder; a device, by
its name or the path of a profile, whose costs are then modelled from its data sheet; or `local`,
this machine. A measured target is used as it was measured; `runtime` is for devices alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records import BadInputError, unknown_name

USE = {
    "threads": "threads",
    "batch": "batch_size",
    "precision": "precision",
    "runtime": "runtime",
}
"""How a device is used, and what a `Target` calls it."""

LIMITS = ("max_latency_ms", "max_energy_mj", "max_memory_kb")
"""Limits of one target, as the options of the same names set them for all."""

KEYS = (*USE, "command_file", *LIMITS, "weight")


def limits_by_metric(given: Mapping[str, float | None]) -> dict[str, float]:
    """Limits by the names of options, as a problem's metrics; those that are None are left out.

    >>> limits_by_metric({"max_latency_ms": 2.0, "max_memory_kb": 1.0, "max_energy_mj": None})
    {'latency_ms': 2.0, 'peak_memory_bytes': 1024.0}
    """
    metrics = {"max_latency_ms": "latency_ms", "max_energy_mj": "energy_mj"}
    found: dict[str, float] = {}
    for name, value in given.items():
        if value is not None:
            is_memory = name == "max_memory_kb"
            found["peak_memory_bytes" if is_memory else metrics[name]] = (
                1024 * value if is_memory else value
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOption:
    """One `--target`.

    Attributes:
        name: Of a measured target or a device, a path, or `local`.
        use: What was said of threads, batch size, precision and runtime, as a `Target` names it.
        command_file: How commands reach the device, to time exported files there.
        limits: By the names of the options.
        weight: How much the target's front counts beside those of the others.
    """

    name: str
    use: Mapping[str, Any] = field(default_factory=dict)
    command_file: Path | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0


def parse_target(text: str) -> TargetOption:
    """Reads one `--target`.

    Raises:
        BadInputError: No name, something that is not `key=value`, a value of another kind.
        UnknownNameError: Another key; the known ones are listed.
    """
    name, _, rest = text.partition(":")
    if not name:
        raise BadInputError(f"--target needs a name first, as in NAME:threads=4; got {text!r}")
    use: dict[str, Any] = {}
    limits: dict[str, float] = {}
    command_file, weight = None, 1.0
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise BadInputError(
                f"--target {text}: expected key=value after the name, got {part!r}; "
                f"keys: {', '.join(KEYS)}"
            )
        if key not in KEYS:
            raise unknown_name("key of --target", key, KEYS)
        if key in LIMITS:
            limits[key] = _number(text, key, value, positive=True)
        elif key == "weight":
            weight = _number(text, key, value)
        elif key == "command_file":
            command_file = Path(value)
        else:
            is_name = key in ("precision", "runtime")
            use[USE[key]] = value if is_name else _count(text, key, value)
    return TargetOption(
        name=name, use=use, command_file=command_file, limits=limits, weight=weight
    )


def _number(text: str, key: str, value: str, positive: bool = False) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        kind = "a positive number" if positive else "a number of at least 0"
        raise BadInputError(f"--target {text}: {key} must be {kind}, got {value!r}")
    return number


def _count(text: str, key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise BadInputError(f"--target {text}: {key} must be a whole number above 0, got {value}")
    return int(value)
