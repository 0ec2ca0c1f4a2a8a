"""What onnxruntime really runs: its optimised graph, in the words of the kernel table."""

from collections import Counter

import onnx

from deployment import open_session

WHOLE = {"attention", "resize", "channel_shuffle"}
"""Layers of several nodes, counted as one kernel."""

ELEMENTWISE = {
    "Gelu", "QuickGelu", "Add", "Relu", "Mul", "Sigmoid", "HardSigmoid", "Clip",
    "BatchNormalization",
}  # fmt: skip


def optimised(model, path):
    """The graph that onnxruntime makes of a model."""
    open_session(model.SerializeToString(), optimised_path=path)
    return onnx.load(path).graph


def attributes_of(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def kinds_run(model, layers, path):
    """Kernels per kind, and the number of reorderings that interrupt chains of convolutions."""
    graph = optimised(model, path)
    writer = {name: node for node in graph.node for name in node.output}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shapes = {entry.name: list(entry.dims) for entry in graph.initializer}
    whole = {layer.name: layer for layer in layers if layer.operator in WHOLE}
    kinds, seen, interruptions = Counter(), set(), 0
    for node in graph.node:
        attributes, out = attributes_of(node), node.output[0]
        owner = next((n for n in whole if out == n or out.startswith(f"{n}.")), None)
        if owner is not None:
            if owner not in seen:
                kinds[kind_of_whole(whole[owner])] += 1
            seen.add(owner)
            continue
        match node.op_type:
            case "Conv" | "FusedConv":
                kinds[kind_of_convolution(shapes[node.input[1]], attributes)] += 1
            case "Gemm" | "FusedGemm":
                kinds["gemm"] += 1
            case "LayerNormalization":
                kinds["layer_norm"] += 1
            case "HardSigmoid" if is_half_of_hardswish(node, readers):
                pass
            case operator if operator in ELEMENTWISE:
                kinds["elementwise"] += 1
            case "GlobalAveragePool" | "ReduceMean" | "AveragePool" | "MaxPool":
                kinds["pool"] += 1
            case "Concat" | "Transpose":
                kinds["layout"] += 1
            case "ReorderInput" | "ReorderOutput":
                # What is left of a map after pooling is one vector; its layout costs nothing.
                source = writer.get(node.input[0])
                if attributes.get("channels_last"):
                    kinds["layout"] += 1
                elif source is None or source.op_type != "GlobalAveragePool":
                    interruptions += 1
            case "Reshape" | "Flatten" | "Upsample" | "Resize":  # a gate's enlargement
                pass
            case other:
                raise AssertionError(f"onnxruntime runs {other}, which no kernel stands for")
    return kinds, interruptions


def kind_of_convolution(weight, attributes):
    _, in_channels, kernel, _ = weight
    if "kernel_shape" not in attributes:  # a norm or factor per channel
        return "elementwise"
    if attributes.get("group", 1) > 1:
        return "depthwise" if in_channels == 1 else "grouped"
    return "pointwise" if kernel == 1 else "convolution"


def kind_of_whole(layer):
    if layer.operator != "attention":
        return {"resize": "pool", "channel_shuffle": "layout"}[layer.operator]
    if layer.mixing_name == "linear":
        return "linear_attention"
    return "window_attention" if layer.window else "attention"


def is_half_of_hardswish(node, readers):
    """Whether the next node multiplies a hard sigmoid with what it was made from."""
    both = {node.input[0], node.output[0]}
    return any(r.op_type == "Mul" and set(r.input) == both for r in readers[node.output[0]])
