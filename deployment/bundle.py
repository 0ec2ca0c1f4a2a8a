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
from deployment.target_file import Quantised, target_file, verify_quantised
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
        agreement: How far the fp32 file is from torch.
        timing: Raw timings on the target; None without a runner.
        quantised: How the int8 file was made and how far it is from torch; None for fp32.
    """

    folder: Path
    record: Mapping[str, Any]
    agreement: Agreement
    timing: Timing | None
    quantised: Quantised | None = None

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
    quantisation: str = "static",
    calibration_images: torch.Tensor | None = None,
) -> Bundle:
    """Emits, verifies and times a subnet, and writes its bundle, whole or not at all.

    Where the target's precision is int8, the file is; what it was made from is verified too.

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
        quantisation: How an int8 file is made, "dynamic" or "static" (`deployment.quantised`).
        calibration_images: Training images that set the scales of the static way.

    Raises:
        VerificationError: The fp32 file differs from torch, or the int8 file by more than
            `deployment.target_file` allows.
        BadInputError: Static int8 without calibration images.
        ExistingRunError: The folder holds something.
        StorageError: The disk refuses.
    """
    model = emit(subnet, target.batch_size)
    agreement = verify(subnet, model, images, seed=seed, threads=target.threads)
    emitted = model.SerializeToString()
    data = target_file(emitted, target, quantisation, calibration_images)
    quantised = None
    if data is not emitted:
        quantised = verify_quantised(
            subnet,
            data,
            images,
            quantisation=quantisation,
            calibration_images=calibration_images if quantisation == "static" else None,
            seed=seed,
            threads=target.threads,
        )
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
        "precision": "fp32" if quantised is None else "int8",
        "quantised": None if quantised is None else asdict(quantised),
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
    return Bundle(
        folder=folder, record=record, agreement=agreement, timing=timing, quantised=quantised
    )


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
