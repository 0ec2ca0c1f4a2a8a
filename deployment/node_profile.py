"""Where the time of a file goes, node by node: what onnxruntime's profiler says on this machine.

Any ONNX file with inputs of fixed shape will do. The nodes are those of the graph that
onnxruntime optimised, so what it folds is one node, and what it reorders shows.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from deployment.memory.reading import zero_inputs
from deployment.runtime import PROVIDER, check_opens, session_options
from records import BadInputError, CorruptFileError

Shape = tuple[int, ...]

RUNS = 20

_LOOPS = ("Scan", "Loop", "If")
"""Operators whose time is that of the nodes inside, which the profiler lists too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProfile:
    """One node of the optimised graph.

    Attributes:
        name: Its name.
        operator: Its operator.
        inputs: The shapes of all inputs, weights among them unless the kernel has packed them.
        outputs: The shapes of all outputs.
        weight_bytes: Of the inputs that are constants, those in a form of the kernel's own too.
        read_bytes: Of the other inputs.
        write_bytes: Of the outputs.
        macs: Multiply-accumulates; 0 for what multiplies nothing together.
        ms: The least time of all runs.
    """

    name: str
    operator: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    weight_bytes: int
    read_bytes: int
    write_bytes: int
    macs: int
    ms: float


def profile_nodes(
    model: bytes | str | Path, threads: int = 1, runs: int = RUNS
) -> list[NodeProfile]:
    """Runs a file with the profiler on; its nodes in the order in which they run.

    Args:
        model: A serialised model or a file, with float32 inputs of fixed shape.
        threads: Threads inside an operator.
        runs: How often, after one run that does not count.

    Raises:
        CorruptFileError: onnxruntime refuses the file.
        BadInputError: An input whose shape is not fixed, or no runs.
    """
    if runs < 1:
        raise BadInputError(f"runs must be >= 1, got {runs}")
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    what = "the model" if isinstance(model, bytes) else str(model)
    check_opens(data, what)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        try:
            session = ort.InferenceSession(data, options, providers=[PROVIDER])
        except Exception as error:  # its own classes, all of them plain exceptions
            raise CorruptFileError(f"onnxruntime cannot open {what}: {error}") from error
        feed = zero_inputs(session)
        for _ in range(runs + 1):
            session.run(None, feed)
        events: Sequence[Mapping[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    nodes = [
        e
        for e in events
        if e.get("cat") == "Node"
        and e["name"].endswith("_kernel_time")
        and e["args"]["op_name"] not in _LOOPS
    ]
    count = len(nodes) // (runs + 1)
    if count == 0:
        raise CorruptFileError(f"{what} has no node to run")
    return [_node([nodes[k * count + i] for k in range(1, runs + 1)]) for i in range(count)]


def _node(events: Sequence[Mapping[str, Any]]) -> NodeProfile:
    """One node from its events of all runs."""
    args = events[0]["args"]
    inputs, outputs = _shapes(args["input_type_shape"]), _shapes(args["output_type_shape"])
    operator = str(args["op_name"])
    return NodeProfile(
        name=events[0]["name"].removesuffix("_kernel_time"),
        operator=operator,
        inputs=inputs,
        outputs=outputs,
        weight_bytes=int(args["parameter_size"]) + 4 * packed_weights(operator, inputs, outputs),
        read_bytes=int(args["activation_size"]),
        write_bytes=int(args["output_size"]),
        macs=node_macs(operator, inputs, outputs),
        ms=min(event["dur"] for event in events) / 1e3,
    )


def _shapes(entries: Sequence[Mapping[str, Sequence[int]]]) -> tuple[Shape, ...]:
    return tuple(tuple(shape) for entry in entries for shape in entry.values())


def node_macs(operator: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Multiply-accumulates of a node, from the shapes of what it reads and writes.

    >>> node_macs("Conv", [(1, 16, 8, 8), (32, 16, 3, 3)], [(1, 32, 8, 8)])
    294912
    """
    match operator:
        case "Conv" | "FusedConv" | "ConvInteger" | "QLinearConv" if len(inputs) > 1:
            weight = next((s for s in inputs[1:] if len(s) >= 3), ())
            return math.prod(outputs[0]) * math.prod(weight[1:]) if weight else 0
        case "Gemm" | "FusedGemm" | "MatMul" | "FusedMatMul" | "MatMulInteger" | "QLinearMatMul":
            return math.prod(outputs[0]) * inputs[0][-1]
        case "Attention" if len(inputs) > 1:
            batch, tokens, width = inputs[0]
            total, v = inputs[1][-1], outputs[0][-1]
            scores = batch * tokens * tokens * ((total - v) // 2 + v)
            return batch * tokens * width * total + scores
    return 0


def packed_weights(operator: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """How many weights a node has that the profiler does not list, as the kernel packed them.

    >>> packed_weights("Gemm", [(16, 32), (64,)], [(16, 64)])
    2048
    """
    matrices = sum(len(shape) > 1 for shape in inputs)
    if operator in ("Gemm", "FusedGemm", "MatMul") and matrices == 1:
        return inputs[0][-1] * outputs[0][-1]
    if operator == "Attention" and matrices == 1 and len(inputs) > 1:
        return inputs[0][-1] * inputs[1][-1]
    return 0
