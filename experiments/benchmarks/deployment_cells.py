"""One cell of `deployment_speed`: a network, a batch size, threads, and all files in turns.

What is timed, by name:

- `hwnas fp32`: the file that kernel selection chooses among those in fp32;
- `hwnas int8`: the same with int8 allowed, within half a point;
- `torch eager`;
- `torch.onnx + onnxruntime`: `torch.onnx.export` by tracing, opened with default settings but for
  the number of threads (dynamo's exporter needs the package `onnxscript` and ten times as long);
- `+ transformers optimizer`: `onnxruntime.transformers.optimizer` on that file;
- `OpenVINO fp32` and `OpenVINO int8` (by NNCF), which read that file, and `OpenVINO, own file`,
  which reads what hwnas writes;
- `torch.compile` and `LiteRT fp32` where they are asked for.

Each is compared with torch before it is timed; one that computes something else is left out, and
the record says why.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

from deployment import LocalRunner
from deployment.runtimes import (
    LiteRt,
    MissingRuntimeError,
    OnnxRuntimeNetwork,
    Opened,
    OpenVino,
    OpenVinoInt8,
    RuntimeRefusalError,
    TorchCompile,
    TorchEager,
    agreement_with_torch,
    time_in_turns,
)
from deployment.selection.results import Selection
from deployment.selection.select import select_kernels
from experiments.benchmarks.deployment_networks import Drawn
from hardware_profiles import local_target
from records import HwnasError
from supernet import Subnet, accuracy

logger = logging.getLogger(__name__)

FP32, INT8 = "hwnas fp32", "hwnas int8"
EAGER, EXPORT, FUSED = "torch eager", "torch.onnx + onnxruntime", "+ transformers optimizer"
OPENVINO, OPENVINO_OWN, OPENVINO_INT8 = "OpenVINO fp32", "OpenVINO, own file", "OpenVINO int8"
COMPILE, LITERT = "torch.compile", "LiteRT fp32"

NAMES = (
    FP32, INT8, EAGER, EXPORT, FUSED, OPENVINO, OPENVINO_OWN, OPENVINO_INT8, COMPILE, LITERT,
)  # fmt: skip
PEERS_FP32 = (EAGER, EXPORT, FUSED, OPENVINO, COMPILE)
"""Those whose best the file in fp32 is held against."""

ROUNDED = (INT8, OPENVINO_INT8)
"""Those that may round to 8 bits; what that costs is told, not judged here."""

LARGEST_LOSS = 0.005
TOLERANCE = 1e-3
"""Of logits in fp32, relative to the largest; deep networks with random weights amplify rounding
far beyond what `deployment.proofs.verify` sees of trained ones."""

OPSET = 17
ROUNDS, RUNS = 15, 3
MAX_SECONDS = 90.0
"""For the rounds of a cell; the largest networks get fewer rounds, at least 3."""

Made = tuple[Opened | None, dict[str, Any]]


def timed_cell(
    drawn: Drawn,
    batch_size: int,
    threads: int,
    *,
    also: Collection[str] = (),
    selection_s: float = 30.0,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
) -> dict[str, Any]:
    """All files of one cell, timed in one round-robin.

    Args:
        drawn: The network.
        batch_size: Images a run.
        threads: That compute one batch.
        also: Which of `COMPILE` and `LITERT` take part.
        selection_s: Seconds for each of the two selections of kernels.
        max_seconds: For all rounds.
        seed: Of selection, images and order.

    Returns:
        JSON-ready: for each name under `files` its latency, dispersion, agreement with torch and
        accuracy, or why it is not there; beside them what was selected.
    """
    makers = _makers(drawn, batch_size, threads, selection_s, seed)
    for name in {COMPILE, LITERT}.difference(also):
        del makers[name]
    found: dict[str, dict[str, Any]] = {}
    opened: list[tuple[str, Opened]] = []
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            network, facts = make()
        except (MissingRuntimeError, RuntimeRefusalError, HwnasError) as error:
            found[name] = {"status": f"left out: {error}"}
            continue
        found[name] = {**facts, "seconds_to_open": time.perf_counter() - start}
        found[name] |= _judged(name, network, drawn)
        if found[name]["status"] == "timed":
            opened.append((name, network))
    timings = time_in_turns(
        [network for _, network in opened],
        rounds=ROUNDS, runs=RUNS, max_seconds=max_seconds, seed=seed,
    )  # fmt: skip
    for (name, _), timing in zip(opened, timings, strict=True):
        found[name] |= {
            "latency_ms": timing.latency_ms,
            "dispersion_ms": timing.dispersion_ms,
            "rounds": timing.rounds,
        }
    return {
        "network": drawn.name, "batch_size": batch_size, "threads": threads,
        "source": drawn.source, "is_trained": drawn.is_trained,
        "macs": drawn.subnet.graph.macs, "parameters": drawn.subnet.graph.parameters,
        "files": found,
    }  # fmt: skip


def _makers(
    drawn: Drawn, batch_size: int, threads: int, selection_s: float, seed: int
) -> dict[str, Callable[[], tuple[Opened, dict[str, Any]]]]:
    """What opens each file; the peers read one export, which is made once."""
    subnet = drawn.subnet
    exported: dict[str, bytes] = {}

    def export() -> bytes:
        if EXPORT not in exported:
            exported[EXPORT] = torch_file(subnet, batch_size)
        return exported[EXPORT]

    def ours(name: str, **options: Any) -> tuple[Opened, dict[str, Any]]:
        return _selected(name, drawn, batch_size, threads, selection_s, seed, **options)

    def plain(name: str, make: Callable[[], bytes]) -> tuple[Opened, dict[str, Any]]:
        return _default_session(name, make(), threads), {}

    def peer(runtime: Any, name: str, **options: Any) -> tuple[Opened, dict[str, Any]]:
        opened = runtime.open(subnet, batch_size, threads=threads, **options)
        opened.name = name
        return opened, {}

    calibration = drawn.calibration.numpy()
    return {
        FP32: lambda: ours(FP32, numerics=("fp32",), validation=drawn.judged),
        INT8: lambda: ours(INT8),
        EAGER: lambda: peer(TorchEager(), EAGER),
        EXPORT: lambda: plain(EXPORT, export),
        FUSED: lambda: plain(FUSED, lambda: fused_file(export())),
        OPENVINO: lambda: peer(OpenVino(lambda *_: export()), OPENVINO),
        OPENVINO_OWN: lambda: peer(OpenVino(), OPENVINO_OWN),
        OPENVINO_INT8: lambda: peer(
            OpenVinoInt8(lambda *_: export()), OPENVINO_INT8, calibration=calibration
        ),
        COMPILE: lambda: peer(TorchCompile(), COMPILE),
        LITERT: lambda: peer(LiteRt(), LITERT),
    }


def _selected(
    name: str, drawn: Drawn, batch_size: int, threads: int, seconds: float, seed: int,
    **options: Any,
) -> tuple[Opened, dict[str, Any]]:  # fmt: skip
    """The file that kernel selection chooses, and what it says about it."""
    target = local_target(threads=threads, batch_size=batch_size)
    selection: Selection = select_kernels(
        drawn.subnet,
        target,
        runner=LocalRunner(),
        calibration_images=drawn.calibration,
        largest_loss=LARGEST_LOSS,
        seconds=seconds,
        seed=seed,
        **{"validation": drawn.judged, **options},
    )
    variant = selection.chosen.variant
    opened = OnnxRuntimeNetwork(name, selection.data, threads, variant.settings)
    facts = {
        "variant": variant.to_json(),
        "change": selection.chosen.change,
        "selection_seconds": selection.seconds,
        "selection_gain": selection.gain,
        "accuracy_loss": selection.chosen.accuracy_loss,
    }
    return opened, facts


def _default_session(name: str, data: bytes, threads: int) -> Opened:
    """A file opened with onnxruntime's default settings, but for the number of threads."""

    def open_with(file: bytes) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    # with default settings threads spin
    return OnnxRuntimeNetwork(name, data, threads, open_with=open_with, is_alone=threads > 1)


def _judged(name: str, network: Opened, drawn: Drawn) -> dict[str, Any]:
    """Agreement with torch and accuracy on the images that loss is judged on."""
    split = drawn.judged
    few = split.images[: max(network.shape[0], 64)].numpy()
    tolerance = None if name in ROUNDED else TOLERANCE
    agreement = agreement_with_torch(network, drawn.subnet, few, tolerance=tolerance)
    facts: dict[str, Any] = {
        "status": "timed",
        "largest_difference": agreement.largest_difference,
        "relative_error": agreement.relative_error,
    }
    if not agreement.is_within:
        facts["status"] = f"left out: differs by {agreement.largest_difference:.2g}"
    elif name in ROUNDED:
        facts["accuracy_lost"] = _loss(network, drawn)
    return facts


def _loss(network: Opened, drawn: Drawn) -> float:
    """Accuracy of the network in fp32 minus that of a file."""
    split = drawn.judged
    labels = split.labels.numpy()
    share = float(np.mean(network.predict(split.images.numpy()).argmax(1) == labels))
    return (accuracy(drawn.subnet, split) if drawn.is_trained else 1.0) - share


def torch_file(subnet: Subnet, batch_size: int) -> bytes:
    """What `torch.onnx.export` writes, by tracing, batch norms folded as it does by itself."""
    first = subnet.graph.layers[0]
    images = torch.zeros((batch_size, first.channels, first.height, first.width))
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "model.onnx"
            with torch.no_grad():
                subnet(images)  # constants that are made on the first call are then there
                torch.onnx.export(
                    subnet, (images,), path, dynamo=False, opset_version=OPSET,
                    input_names=["images"], output_names=["logits"],
                )  # fmt: skip
            return path.read_bytes()
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def fused_file(data: bytes) -> bytes:
    """A file as onnxruntime's optimizer for transformers leaves it, for the processor."""
    from onnxruntime.transformers.optimizer import optimize_model

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    optimised = optimize_model(
        onnx.load_from_string(data), model_type="vit", num_heads=0, hidden_size=0
    )
    return bytes(optimised.model.SerializeToString())
