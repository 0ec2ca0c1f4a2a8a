"""A batch in chunks: a file that runs a network on some images after the others.

What a large network computes between its layers for a whole batch does not fit into the caches of
a processor; for some images at a time it may. The network is the body of a `Scan`, once, with its
weights in the body, so that the runtime folds and packs them as in a file of its own. Results are
those of the network alone at the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deployment.emission.graph_writer import INPUT, OUTPUT
from records import BadInputError

_ALL, _STACKED, _SPLIT, _JOINED = "chunks", "stacked", "chunks/shape", "stacked/shape"
_BODY = "chunk/"


def in_chunks(model: onnx.ModelProto, batch_size: int) -> onnx.ModelProto:
    """A file for a larger batch that runs another file on chunk after chunk of it.

    Args:
        model: A file of one input and one output with a fixed batch size, the chunk. It is left
            as it is.
        batch_size: Images a run of the new file, a multiple of the chunk.

    Raises:
        BadInputError: A batch that is no multiple of the chunk, or a file that takes any number.
    """
    images, logits = model.graph.input[0], model.graph.output[0]
    chunk, *image = (d.dim_value for d in images.type.tensor_type.shape.dim)
    if not chunk:
        raise BadInputError("a file for any number of images has no chunks: fix its batch size")
    if batch_size % chunk:
        raise BadInputError(
            f"a batch of {batch_size} images cannot be taken {chunk} at a time: choose a divisor"
        )
    classes = logits.type.tensor_type.shape.dim[1].dim_value
    count = batch_size // chunk
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", [INPUT, _SPLIT], [_ALL], name=_ALL),
            helper.make_node(
                "Scan", [_ALL], [_STACKED], name=_STACKED, body=_body(model), num_scan_inputs=1
            ),
            helper.make_node("Reshape", [_STACKED, _JOINED], [OUTPUT], name=OUTPUT),
        ],
        model.graph.name,
        [_tensor(INPUT, images, [batch_size, *image])],
        [_tensor(OUTPUT, logits, [batch_size, classes])],
        [_shape(_SPLIT, [count, chunk, *image]), _shape(_JOINED, [batch_size, classes])],
    )
    found = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )
    found.metadata_props.extend(model.metadata_props)
    return found


def body_of(model: onnx.ModelProto) -> onnx.GraphProto | None:
    """The network that a file runs on each chunk; None for a file that takes its batch whole."""
    for node in model.graph.node:
        if node.name == _STACKED and node.op_type == "Scan":
            (body,) = (entry.g for entry in node.attribute if entry.name == "body")
            return body
    return None


def part_of(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The file of a chunk alone, as it was put in; None where the batch is taken whole."""
    body = body_of(model)
    if body is None:
        return None
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.graph.CopyFrom(body)
    _rename(part.graph, {_BODY + INPUT: INPUT, _BODY + OUTPUT: OUTPUT})
    return part


def _body(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with names of its own for what goes in and out: outer ones must not be hidden."""
    body = onnx.GraphProto()
    body.CopyFrom(model.graph)
    entry, answer = body.input[0].name, body.output[0].name
    _rename(body, {entry: _BODY + entry, answer: _BODY + answer})
    return body


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Gives what goes in and out of a graph other names."""
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name in renamed:
                    names[i] = renamed[name]


def _tensor(name: str, like: onnx.ValueInfoProto, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, like.type.tensor_type.elem_type, shape)


def _shape(name: str, shape: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(shape, np.int64), name)
