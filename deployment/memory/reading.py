"""What onnxruntime itself says that a file's activations take.

With profiling on, each node's event carries what its arena holds: `mem_in_use_peak`, the most
since the session was opened, `mem_bytes_in_use`, and `mem_in_use_delta`, what the node added. What
is in use before the first node are weights, so for one run

    activations = peak - (in use after the first node - what the first node added)

The first run is read. Later runs put all tensors into one block that onnxruntime lays out from
what it saw, which takes about as much. The images belong to the caller and are not counted; the
logits are. Weights that a kernel keeps in a form of its own ("prepacked") lie outside the arena
or in it, depending on the kernel; they are told apart from the activations, not counted among
them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from deployment.emission.chunks import body_of
from deployment.runtime import PROVIDER, check_opens, session_options
from records import BadInputError, CorruptFileError, MissingFileError

_INPUTS: Mapping[str, type] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMemory:
    """What the arena held when one node had run.

    Attributes:
        name: The node in the optimised graph.
        operator: Its operator.
        in_use_bytes: Held when it ended, weights left out.
        peak_bytes: The most held up to then, weights left out; scratch space within nodes counts.
    """

    name: str
    operator: str
    in_use_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """What one run of a file takes, as onnxruntime reports it.

    Attributes:
        activation_bytes: The most that tensors and scratch space held at once.
        weight_bytes: The constants in the file.
        arena_weight_bytes: What the arena held before the first node: constants and prepacked
            weights, except those that kernels hold outside it.
        nodes: After every node, in the order in which they ran.
    """

    activation_bytes: int
    weight_bytes: int
    arena_weight_bytes: int
    nodes: tuple[NodeMemory, ...]


def activation_peak(model: bytes | str | Path, threads: int = 1) -> MemoryReading:
    """Runs a file once and reads what its activations took.

    Args:
        model: A serialised model or a file, with float32 inputs of fixed shape.
        threads: Threads inside an operator.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: onnxruntime refuses the file, or its profile has no memory in it.
        BadInputError: An input whose shape is not fixed.
    """
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise MissingFileError(f"there is no model {model}: give an ONNX file or its bytes")
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    check_opens(data, "the model" if isinstance(model, bytes) else str(model))
    with tempfile.TemporaryDirectory() as folder:
        events = _profiled_run(data, threads, Path(folder))
    if not events:
        raise CorruptFileError("the file has no node to run, so there is nothing to read")
    counts = [event["args"] for event in events]
    if not all("mem_in_use_peak" in c for c in counts):
        raise CorruptFileError(
            "this onnxruntime's profile tells no memory: it needs 1.20 or later"
        )
    before = int(counts[0]["mem_bytes_in_use"]) - int(counts[0]["mem_in_use_delta"])
    nodes = tuple(
        NodeMemory(
            name=event["name"].removesuffix("_kernel_time"),
            operator=event["args"]["op_name"],
            in_use_bytes=int(event["args"]["mem_bytes_in_use"]) - before,
            peak_bytes=int(event["args"]["mem_in_use_peak"]) - before,
        )
        for event in events
    )
    return MemoryReading(
        activation_bytes=max(node.peak_bytes for node in nodes),
        weight_bytes=_constant_bytes(data),
        arena_weight_bytes=before,
        nodes=nodes,
    )


def _profiled_run(data: bytes, threads: int, folder: Path) -> list[Mapping[str, Any]]:
    """The events of the nodes of one run."""
    options = session_options(threads)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "run")
    try:
        session = ort.InferenceSession(data, options, providers=[PROVIDER])
    except Exception as error:  # onnxruntime raises its own classes, all of them plain exceptions
        raise CorruptFileError(f"onnxruntime cannot open the model: {error}") from error
    session.run(None, zero_inputs(session))
    events: Sequence[Mapping[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]


def zero_inputs(session: ort.InferenceSession) -> dict[str, np.ndarray[Any, Any]]:
    """An input of zeros for every input of a session.

    Raises:
        BadInputError: A shape that is not fixed, or an input of another type than float32 or
            bytes.
    """
    feed: dict[str, np.ndarray[Any, Any]] = {}
    for entry in session.get_inputs():
        if not all(isinstance(size, int) for size in entry.shape):
            raise BadInputError(f"the input's shape must be fixed to be run, got {entry.shape}")
        if entry.type not in _INPUTS:
            raise BadInputError(
                f"input {entry.name!r} is a {entry.type}; it must be float32, or bytes"
            )
        feed[entry.name] = np.zeros(entry.shape, _INPUTS[entry.type])
    return feed


def _constant_bytes(data: bytes) -> int:
    model = onnx.load_from_string(data)
    graph = body_of(model) or model.graph
    return sum(numpy_helper.to_array(entry).nbytes for entry in graph.initializer)
