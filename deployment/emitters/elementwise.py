"""Emitters of activations, sums, gates and zeros."""

from __future__ import annotations

from deployment.data_flow import KEEP_ZERO
from deployment.emission import Emission, Value
from search_spaces import Layer


def activation(e: Emission, layer: Layer) -> Value:
    """An activation in the form that onnxruntime folds into the convolution or `Gemm` before it.

    Folded into a convolution are ReLU, ReLU6 (not behind a sum), sigmoid, hard sigmoid and hard
    swish, into a `Gemm` ReLU, sigmoid and hard sigmoid. `x * Sigmoid(x)` runs as one kernel.
    """
    kind = layer.activation_name
    x = e.peek(layer)[0]
    if x.is_zero and kind in KEEP_ZERO:
        return x
    x = e.input(layer)
    name = layer.name
    match kind:
        case "relu" | "gelu" | "sigmoid" | "hardswish":
            operator = {"hardswish": "HardSwish"}.get(kind, kind.capitalize())
            y = e.node(operator, [x.name], name)
        case "hardsigmoid":
            y = e.node("HardSigmoid", [x.name], name, alpha=1 / 6, beta=0.5)
        case "relu6":
            ends = [e.constant(f"{name}.{end}", end) for end in (0, 6)]
            y = e.node("Clip", [x.name, *ends], name)
        case "silu":
            gate = e.node("Sigmoid", [x.name], f"{name}.gate")
            y = e.node("Mul", [x.name, gate], name)
    return Value(y, x.is_map, is_blocked=x.is_blocked)


def add(e: Emission, layer: Layer) -> Value:
    """A sum; a summand of zeros is left out."""
    first, second = e.peek(layer)
    if first.is_zero or second.is_zero:
        return second if first.is_zero else first
    name = e.node("Add", [first.name, second.name], layer.name)
    return Value(name, first.is_map, is_blocked=first.is_blocked and second.is_blocked)


def multiply(e: Emission, layer: Layer) -> Value:
    """A feature map times a gate of one position.

    A product of tensors of different shapes would leave onnxruntime's blocks of channels. So the
    gate is enlarged to the map's size first, where both are in blocks: that costs less than going
    back and forth (7-10 % of a network with many gates).
    """
    x, gate = e.peek(layer)
    if x.is_zero or gate.is_zero:
        return Value("", is_map=True, is_zero=True)
    is_blocked = x.is_blocked and gate.is_blocked
    wide = gate.name
    if is_blocked and layer.tokens > 1:
        sizes = [1, 1, layer.height, layer.width]
        factors = e.constant(f"{layer.name}.factors", sizes)
        wide = e.node(
            "Resize",
            [gate.name, "", factors],
            f"{layer.name}.gate",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    return Value(e.node("Mul", [x.name, wide], layer.name), True, is_blocked=is_blocked)


def zeros(e: Emission, layer: Layer) -> Value:
    """Zeros, which are only written where something cannot do without them."""
    return Value("", e.peek(layer)[0].is_map, is_zero=True)


def concat(e: Emission, layer: Layer) -> Value:
    """Maps, tokens or vectors side by side along the channels."""
    values = e.peek(layer)
    if all(value.is_zero for value in values):
        return Value("", values[0].is_map, is_zero=True)
    inputs = [e.input(layer, place).name for place in range(len(layer.inputs))]
    is_blocked = all(value.is_blocked for value in values)
    return Value(e.node("Concat", inputs, layer.name, axis=1), values[0].is_map, is_blocked)
