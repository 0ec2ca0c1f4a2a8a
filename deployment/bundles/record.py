"""What `bundle.json` says of a target, a timing, a session, memory and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deployment.memory.reading import activation_peak
from deployment.providers import must_take_all, provider_record, session_providers
from deployment.runners.runner import Runner
from deployment.runners.timing import Timing
from deployment.runtime import NO_FALLBACK, SPINNING
from deployment.session_settings import SessionSettings
from hardware_profiles import Target, machine_fingerprint
from records import BadInputError, CorruptFileError, content_hash

UNTIMED = "not timed: costs only"

QUANTILES = {"median_ms": 0.5, "p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


def describe_target(target: Target) -> dict[str, Any]:
    """A target as JSON-ready values."""
    return {
        "name": target.name,
        "device": target.profile.name,
        "description": target.profile.description,
        "runtime": target.runtime,
        "precision": target.precision,
        "batch_size": target.batch_size,
        "threads": target.threads,
        "instruction_sets": list(target.profile.instruction_sets),
        "is_local": target.is_local,
        "machine": target.profile.machine,
        "profile_hash": content_hash(
            [[place, unit, q.value, q.source] for place, unit, q in target.profile.quantities()]
        ),
    }


def measured_record(timing: Timing | None, runner: Runner | None) -> dict[str, Any]:
    """Measured latencies with their raw samples, or that there are none."""
    if timing is None:
        return {"latency_ms": None, "source": UNTIMED}
    return {
        "latency_ms": timing.latency_ms,
        "dispersion_ms": finite(timing.dispersion_ms),
        **{name: timing.quantile_ms(q) for name, q in QUANTILES.items()},
        "preempted": finite(timing.preempted),
        "rounds": timing.rounds,
        "samples_ms": list(timing.samples_ms),
        "source": f"measured: {runner.name if runner is not None else 'runner'}",
    }


def session_record(settings: SessionSettings, target: Target) -> dict[str, Any]:
    """How the file is opened, in onnxruntime's own names, for scripts without this package."""
    entries = {SPINNING: "1" if settings.spinning else "0"}
    if must_take_all(settings.provider):
        entries[NO_FALLBACK] = "1"
    return {
        "optimisation": settings.optimisation,
        "threads": settings.threads_of(target.threads),
        "arena": settings.arena,
        "memory_pattern": settings.memory_pattern,
        "config_entries": entries,
        "providers": [
            [name, dict(options)]
            for name, options in session_providers(settings.provider, settings.provider_options)
        ],
    }


def run_by(settings: SessionSettings, *, was_run: bool) -> dict[str, Any]:
    """The provider, its options, and whether a file was run with it."""
    return provider_record(settings.provider, settings.provider_options, was_run=was_run)


def memory_record(data: bytes, threads: int) -> dict[str, Any] | None:
    """What one run takes by onnxruntime's own account; None where it does not tell.

    Args:
        data: The file for a fixed batch.
        threads: Threads inside an operator.
    """
    try:
        reading = activation_peak(data, threads)
    except (CorruptFileError, BadInputError):
        return None
    return {
        "activation_bytes": reading.activation_bytes,
        "weight_bytes": reading.weight_bytes,
        "arena_weight_bytes": reading.arena_weight_bytes,
        "source": "measured: onnxruntime's profile of one run on the processor of the machine "
        "that made this bundle",
    }


def machine_record() -> dict[str, Any]:
    """The machine that a bundle is made on."""
    return {"fingerprint": machine_fingerprint()}


def limits_kept(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each limit of a bundle with the value that it is held against.

    A latency is held against the measured one with its dispersion, where there is one. Energy and
    memory are held against what the search kept within the limit: the modelled values.

    Returns:
        `metric`, `limit`, `value`, `how` ("measured" or "modelled") and `is_kept` of each.
    """
    found = []
    for metric, limit in sorted(dict(record["facts"].get("limits") or {}).items()):
        value, how = record["predicted"].get(metric), "modelled"
        measured = record["measured"]
        if metric == "latency_ms" and measured.get("latency_ms") is not None:
            value, how = measured["latency_ms"] + (measured.get("dispersion_ms") or 0), "measured"
        found.append({
            "metric": metric,
            "limit": limit,
            "value": value,
            "how": how,
            "is_kept": value is not None and value <= limit,
        })  # fmt: skip
    return found


def finite(value: float) -> float | None:
    """The value, or None where it is not known (NaN), which JSON cannot hold."""
    return value if math.isfinite(value) else None
