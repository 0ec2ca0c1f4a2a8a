"""The nodes of a preprocessing, in front of a network's.

Where the images go into one convolution and nowhere else, its weights take in the factor, and its
bias the mean if it has no padding. Padding is zero after the normalisation, so a mean in the bias
would be wrong at the borders: there it is subtracted before.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from deployment.emission.emission import Emission, Scaling
from deployment.emission.graph_writer import INPUT, GraphWriter
from deployment.emission.preprocessing import METADATA, Preprocessing, Shape
from records import BadInputError
from search_spaces import Layer
from supernet.functions import resize_matrix

PREFIX = "preprocessing"


def write_preprocessing(e: Emission, preprocessing: Preprocessing) -> str:
    """Writes the nodes before a network's own; returns the name of what the network reads.

    What its first convolution can take in is left to it (`Emission.scaling`).
    """
    first, *rest = e.subnet.graph.layers
    readers = [layer for layer in rest if 0 in layer.inputs]
    taken = None
    if len(readers) == 1 and readers[0].operator == "conv2d" and readers[0].groups == 1:
        taken = readers[0]
    x, e.scaling = _write(e, preprocessing, (first.channels, first.height, first.width), taken)
    return x


def preprocessed(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """A file with the preprocessing in front of its own nodes, which stay as they are.

    For files that were changed after they were emitted, such as those in int8.

    Args:
        model: A file with one float32 input `n x channels x height x width`.
        preprocessing: What is done to the images.

    Raises:
        BadInputError: The file has an input of another kind, or a preprocessing already.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph, entry = found.graph, found.graph.input[0]
    network, batch = _image_shape(entry, graph)
    props = {one.key: one.value for one in model.metadata_props}
    if METADATA in props:
        raise BadInputError("the file has a preprocessing already")
    preprocessing.check_fits(network)
    writer = GraphWriter()
    inside, _ = _write(writer, preprocessing, network, None)
    for node in graph.node:
        node.input[:] = [inside if name == entry.name else name for name in node.input]
    own = list(graph.node)
    del graph.node[:]
    for node in writer.nodes:
        node.input[:] = [entry.name if name == INPUT else name for name in node.input]
    graph.node.extend([*writer.nodes, *own])
    graph.initializer.extend(writer.initializers)
    shape = [batch, *preprocessing.image_shape(network)]
    kind = preprocessing.element_type
    entry.CopyFrom(helper.make_tensor_value_info(entry.name, kind, shape))
    helper.set_model_props(found, {**props, METADATA: preprocessing.to_text()})
    return found


def _image_shape(entry: onnx.ValueInfoProto, graph: onnx.GraphProto) -> tuple[Shape, str | int]:
    """Shape of one image, and the batch, of a file's input."""
    kind, dims = entry.type.tensor_type.elem_type, entry.type.tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims]
    if len(graph.input) != 1 or kind != TensorProto.FLOAT or len(sizes) != 4 or not all(sizes[1:]):
        raise BadInputError(
            "a preprocessing goes before one input, float32 n x channels x height x width of "
            f"fixed size; the file has {len(graph.input)}, the first of sizes {sizes}"
        )
    return (sizes[1], sizes[2], sizes[3]), dims[0].dim_param or dims[0].dim_value


def _write(
    g: GraphWriter, p: Preprocessing, network: Shape, taken: Layer | None
) -> tuple[str, Scaling | None]:
    """The nodes, and what is left to the convolution that reads their result, if to any."""
    size = (network[1], network[2])
    before = sum(p.border)
    height, width = (side + before for side in p.source_size(network))
    x = _as_map(g, p, (height, width))
    mean, std = np.array(p.mean), np.array(p.std)
    if taken is None or taken.padding:
        shift = g.constant(f"{PREFIX}.mean", p.white * mean[:, None, None])
        x = g.node("Sub", [x, shift], f"{PREFIX}.centred")
    scaling = None
    factors = (1 / (p.white * std)).astype(np.float32)
    if taken is None:
        x = g.node(
            "Mul", [x, g.constant(f"{PREFIX}.factors", factors[:, None, None])], f"{PREFIX}.scaled"
        )
    else:
        offsets = None if taken.padding else (-mean / std).astype(np.float32)
        scaling = Scaling(factors=factors, offsets=offsets)
    if (height, width) != size:
        rows = g.constant(f"{PREFIX}.rows", resize_matrix(height, size[0]).numpy())
        columns = g.constant(f"{PREFIX}.columns", resize_matrix(width, size[1]).numpy().T)
        x = g.node("MatMul", [rows, x], f"{PREFIX}.vertical")
        x = g.node("MatMul", [x, columns], f"{PREFIX}.resized")
    return x, scaling


def _as_map(g: GraphWriter, p: Preprocessing, size: tuple[int, int]) -> str:
    """The images with their border as float32 `n x channels x height x width`."""
    x, is_last = INPUT, p.layout == "hwc"
    if any(p.border):
        above, below = p.border
        pads = (
            [above, above, 0, 0, below, below, 0]
            if is_last
            else [0, above, above, 0, 0, below, below]
        )
        sizes = g.constant(f"{PREFIX}.pads", [0, *pads], np.int64)
        x = g.node("Pad", [x, sizes], f"{PREFIX}.border")
    if is_last and len(p.mean) == 1:
        x = g.reshape(x, [-1, 1, *size], f"{PREFIX}.map")
    elif is_last:
        x = g.transpose(x, [0, 3, 1, 2], f"{PREFIX}.map")
    if p.dtype == "float32":
        return x
    return g.node("Cast", [x], f"{PREFIX}.pixels", to=int(TensorProto.FLOAT))
