"""Where two networks that should compute the same first differ: the layer to look at."""

from __future__ import annotations

from itertools import takewhile

import onnx
import torch
from torch import Tensor

from deployment.emission.chunks import part_of
from deployment.emission.folding import foldable
from deployment.emission.graph_writer import INPUT, OUTPUT
from deployment.runtime import open_session
from supernet import Statistics, Subnet, Supernet, reparameterise


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference, divided by the largest absolute value of `theirs`.

    Raises:
        ValueError: Shapes that differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    if ours.numel() == 0:
        return 0.0
    return float((ours - theirs).abs().max()) / max(float(theirs.abs().max()), 1e-30)


@torch.no_grad()
def differing_from_supernet(
    supernet: Supernet, subnet: Subnet, images: Tensor, statistics: Statistics, tolerance: float
) -> str:
    """The first layer of a subnet whose output is not the supernet's; "" where none differs.

    Both are given the supernet's values, so a layer is judged by itself.

    Args:
        supernet: The supernet.
        subnet: What was extracted from it.
        images: A batch.
        statistics: The subnet's batch-norm statistics.
        tolerance: The relative difference that is allowed.
    """
    outputs = [images]
    for layer, module in zip(subnet.graph.layers[1:], subnet.layers.values(), strict=True):
        inputs = [outputs[i] for i in layer.inputs]
        primitive = supernet.primitive(layer)
        weights = {**primitive.weights(layer), **statistics.get(layer.name, {})}
        outputs.append(primitive.run(layer, inputs, weights))
        own = module(*inputs)
        same = own.shape == outputs[-1].shape
        if not (same and relative_difference(own, outputs[-1]) <= tolerance):
            return layer.name
    return ""


@torch.no_grad()
def differing_from_torch(
    subnet: Subnet, model: onnx.ModelProto, images: Tensor, tolerance: float
) -> str:
    """The first layer whose tensor in the file is not torch's; "" where none can be told.

    Only layers whose output the file has under the layer's name are looked at: not those that are
    folded into others, nor those of a file that torch exported. Of a file that takes its batch in
    chunks the part is looked at, on the first chunk.

    Args:
        subnet: The network.
        model: Its file.
        images: As many as the file takes.
        tolerance: The relative difference that is allowed.
    """
    subnet = reparameterise(subnet)  # as in the file
    if (part := part_of(model)) is not None:
        model = part
        images = images[: part.graph.input[0].type.tensor_type.shape.dim[0].dim_value]
    layers = subnet.graph.layers
    written = {name for node in model.graph.node for name in node.output}
    told = {i: layer.name for i, layer in enumerate(layers) if i and layer.name in written}
    if not told:
        return ""
    names = list(told.values())
    told[len(layers) - 1] = OUTPUT
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    widened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = open_session(widened.SerializeToString())
    found = session.run(list(told.values()), {INPUT: images.numpy()})
    outputs = [images]
    for layer, module in zip(layers[1:], subnet.layers.values(), strict=True):
        outputs.append(module(*(outputs[i] for i in layer.inputs)))
    folded = foldable(layers)
    for index, theirs in zip(told, found, strict=True):
        inside = takewhile(lambda i: layers[i].name not in written, folded.get(index, ()))
        ours = outputs[(index, *inside)[-1]]
        flat = torch.from_numpy(theirs).reshape(-1)
        if not relative_difference(flat, ours.reshape(-1)) <= tolerance:
            return layers[index].name
    return ""
