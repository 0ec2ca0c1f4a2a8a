"""Emitters of activations, sums, gates and zeros."""

from __future__ import annotations

from deployment.emission.emission import Emission, Value
from deployment.kernel_tables.data_flow import KEEP_ZERO
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
    x = e.source(layer)
    name = layer.name
    match kind:
        case "gelu" if e.forms.gelu == "tanh":
            y = e.node("Gelu", [x.name], name, approximate="tanh")
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
    return Value(y, x.is_map, is_blocked=x.is_blocked, is_sequence=x.is_sequence)


def add(e: Emission, layer: Layer) -> Value:
    """A sum; a summand of zeros is left out."""
    first, second = e.peek(layer)
    if first.is_zero or second.is_zero:
        return second if first.is_zero else first
    first, second = _of_one_form(e, layer)
    name = e.node("Add", [first.name, second.name], layer.name)
    is_blocked = first.is_blocked and second.is_blocked
    return Value(name, first.is_map, is_blocked, is_sequence=first.is_sequence)


def multiply(e: Emission, layer: Layer) -> Value:
    """A feature map times a gate of one position.

    A product of tensors of different shapes would leave onnxruntime's blocks of channels. So the
    gate is enlarged to the map's size first, where both are in blocks: that costs less than going
    back and forth (7-10 % of a network with many gates). In a file for any number of images
    onnxruntime cannot tell that the sizes are equal, and the blocks are left all the same.
    """
    x, gate = e.peek(layer)
    if x.is_zero or gate.is_zero:
        return Value("", is_map=True, is_zero=True)
    is_blocked = x.is_blocked and gate.is_blocked and not e.is_dynamic
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
    x = e.peek(layer)[0]
    return Value("", x.is_map, is_zero=True, is_sequence=x.is_sequence and not x.is_map)


def concat(e: Emission, layer: Layer) -> Value:
    """Maps, tokens or vectors side by side along the channels."""
    values = e.peek(layer)
    is_blocked = all(value.is_blocked for value in values)
    if all(value.is_zero for value in values):
        return zeros(e, layer)
    values = _of_one_form(e, layer)
    is_sequence = values[0].is_sequence
    axis = 2 if is_sequence and not values[0].is_map else 1
    name = e.node("Concat", [value.name for value in values], layer.name, axis=axis)
    return Value(name, values[0].is_map, is_blocked, is_sequence=is_sequence)


def _of_one_form(e: Emission, layer: Layer) -> list[Value]:
    """All that a layer reads; tokens as sequences if all of them are."""
    places = range(len(layer.inputs))
    values = [e.source(layer, place) for place in places]
    if all(value.is_sequence for value in values):
        return values
    return [e.input(layer, place) for place in places]
