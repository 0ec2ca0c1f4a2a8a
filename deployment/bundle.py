"""The bundle: the folder that a chosen subnet becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from deployment.emit import emit, exporter_of
from deployment.runner import Runner, Timing
from deployment.verify import Agreement, verify
from hardware_profiles import Target
from records import content_hash, file_hash, new_folder, versions, write_bytes, write_json
from supernet import Subnet

FORMAT = "hwnas-bundle-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A written bundle.

    Attributes:
        folder: Where it is: `model.onnx`, `bundle.json`, and the torch subnet in `subnet/`.
        record: What `bundle.json` holds.
        agreement: How far the file is from torch.
        timing: Raw timings on the target; None without a runner.
    """

    folder: Path
    record: Mapping[str, Any]
    agreement: Agreement
    timing: Timing | None

    @property
    def model_path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def latency_ms(self) -> float | None:
        """The measured latency, if there is one."""
        return None if self.timing is None else self.timing.latency_ms


def deploy(
    subnet: Subnet,
    folder: str | Path,
    *,
    target: Target,
    architecture: Mapping[str, Any],
    space: Mapping[str, Any],
    predicted: Mapping[str, Any],
    facts: Mapping[str, Any],
    runner: Runner | None,
    timing: Timing | None = None,
    images: torch.Tensor | None = None,
    seed: int = 0,
) -> Bundle:
    """Emits, verifies and times a subnet, and writes its bundle, whole or not at all.

    Args:
        subnet: The network in eval mode.
        folder: A folder that is new or empty.
        target: What it is for.
        architecture: The choices, JSON-ready.
        space: The search space, JSON-ready.
        predicted: Costs as predicted before this measurement, JSON-ready.
        facts: Accuracy and whatever else belongs on the record, JSON-ready.
        runner: Times the file on the target; None writes "costs only".
        timing: A timing of the very same file taken already, together with others.
        images: Real images for the comparison with torch.
        seed: Derives random inputs.

    Raises:
        VerificationError: The file differs from torch.
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    model = emit(subnet, target.batch_size)
    agreement = verify(subnet, model, images, seed=seed, threads=target.threads)
    data = model.SerializeToString()
    if timing is None and runner is not None:
        timing = runner.time(
            [data], threads=target.threads, rounds=15, min_seconds=1.0, seed=seed
        )[0]
    record = {
        "format": FORMAT,
        "target": describe_target(target),
        "architecture": dict(architecture),
        "space": dict(space),
        "parameters": subnet.graph.parameters,
        "macs": subnet.graph.macs,
        "exporter": exporter_of(model),
        "predicted": dict(predicted),
        "measured": _measured(timing, runner),
        "agreement": asdict(agreement),
        "facts": dict(facts),
        "seed": seed,
        "versions": versions(),
    }
    folder = Path(folder)
    with new_folder(folder) as new:
        write_bytes(new / "model.onnx", data)
        subnet.save(new / "subnet")
        record["files"] = {
            "model.onnx": file_hash(new / "model.onnx"),
            "subnet/weights.safetensors": file_hash(new / "subnet" / "weights.safetensors"),
        }
        write_json(new / "bundle.json", record)
    return Bundle(folder=folder, record=record, agreement=agreement, timing=timing)


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
        "profile_hash": content_hash(
            [[place, unit, q.value, q.source] for place, unit, q in target.profile.quantities()]
        ),
    }


def _measured(timing: Timing | None, runner: Runner | None) -> dict[str, Any]:
    if timing is None:
        return {"latency_ms": None, "source": "not timed: costs only"}
    return {
        "latency_ms": timing.latency_ms,
        "dispersion_ms": _finite(timing.dispersion_ms),
        "median_ms": timing.quantile_ms(0.5),
        "p90_ms": timing.quantile_ms(0.9),
        "preempted": _finite(timing.preempted),
        "rounds": timing.rounds,
        "samples_ms": list(timing.samples_ms),
        "source": f"measured: {runner.name if runner is not None else 'runner'}",
    }


def _finite(value: float) -> float | None:
    """The value, or None where it is not known (NaN), which JSON cannot hold."""
    return value if math.isfinite(value) else None


def load_model(bundle: str | Path) -> onnx.ModelProto:
    """The ONNX model of a bundle's folder."""
    return onnx.load(Path(bundle) / "model.onnx")
