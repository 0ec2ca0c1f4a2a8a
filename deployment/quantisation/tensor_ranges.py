"""The least and greatest values of a model's tensors over calibration images.

What static quantisation takes its scales from. The ranges belong to the fp32 model alone: files
that keep different blocks in fp32 share them, so that they are found once. This replaces
onnxruntime's own calibration, which opens its session with all of the machine's threads, without
optimisation, and starts anew for every file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from deployment.runtime import open_session

Ranges = Mapping[str, tuple[float, float]]
"""For each tensor its least and its greatest value."""


def tensor_ranges(
    model: onnx.ModelProto,
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    operators: Sequence[str],
    threads: int = 1,
) -> Ranges:
    """The ranges of all that nodes of some operators read and write, constants apart.

    Args:
        model: A model with one input, and the types of all its tensors.
        batches: Arrays of the input's shape, at least one.
        operators: The operators.
        threads: Threads inside an operator.

    Raises:
        CorruptFileError: onnxruntime refuses the model.
    """
    names = _tensors(model, operators)
    session = open_session(_with_ends(model, names).SerializeToString(), threads)
    entry = session.get_inputs()[0].name
    found = np.array([session.run(None, {entry: batch}) for batch in batches], np.float32)
    low, high = np.nanmin(found[:, : len(names)], 0), np.nanmax(found[:, len(names) :], 0)
    return {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)}


def _tensors(model: onnx.ModelProto, operators: Sequence[str]) -> list[str]:
    """The float tensors that nodes of these operators read or write, each once."""
    graph = model.graph
    constants = {entry.name for entry in graph.initializer}
    known = {
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    names = [
        name
        for node in graph.node
        if node.op_type in operators
        for name in (*node.input, *node.output)
    ]
    return [name for name in dict.fromkeys(names) if name in known and name not in constants]


def _with_ends(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of the model whose outputs are the least, then the greatest value of each tensor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for operator in ("ReduceMin", "ReduceMax"):
        for name in names:
            end = f"{operator}({name})"
            copy.graph.node.append(helper.make_node(operator, [name], [end], end, keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(end, TensorProto.FLOAT, []))
    return copy
