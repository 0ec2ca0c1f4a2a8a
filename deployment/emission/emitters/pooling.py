"""Emitters of pooling, resizing and shuffling."""

from __future__ import annotations

from typing import Any

from deployment.emission.emission import Emission, Value
from search_spaces import Layer
from supernet.functions import resize_matrix


def _pool(e: Emission, layer: Layer, operator: str, **attributes: Any) -> Value:
    x = e.peek(layer)[0]
    if x.is_zero:
        return x
    name = e.node(
        operator,
        [x.name],
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        **attributes,
    )
    return Value(name, is_map=True, is_blocked=x.is_blocked)


def avg_pool(e: Emission, layer: Layer) -> Value:
    """Means over windows; padding does not count."""
    return _pool(e, layer, "AveragePool", count_include_pad=0)


def max_pool(e: Emission, layer: Layer) -> Value:
    """Largest values in windows."""
    return _pool(e, layer, "MaxPool")


def squeeze(e: Emission, layer: Layer) -> Value:
    """The mean over a map, kept as a map of one position; a pooling stays in blocks."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return x
    if e.forms.mean == "reduce":
        return Value(_mean(e, x, layer, (2, 3), keepdims=1), is_map=True)
    return Value(
        e.node("GlobalAveragePool", [x.name], layer.name), is_map=True, is_blocked=x.is_blocked
    )


def global_pool(e: Emission, layer: Layer) -> Value:
    """The mean over a map or over tokens, one vector an image."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return Value("", is_map=False, is_zero=True)
    if x.is_map and e.forms.mean == "pool":
        mean = e.node("GlobalAveragePool", [x.name], f"{layer.name}.mean")
        return Value(e.node("Flatten", [mean], layer.name), is_map=False)
    if x.is_map:
        return Value(_mean(e, x, layer, (2, 3), keepdims=0), is_map=False)
    if not x.is_sequence:
        tokens = layer.in_height * layer.in_width if e.is_dynamic else -1
        sizes = [e.batch_size, tokens, layer.channels]
        x = Value(e.reshape(x.name, sizes, f"{layer.name}.split"), is_map=False)
    return Value(_mean(e, x, layer, (1,), keepdims=0), is_map=False)


def _mean(e: Emission, x: Value, layer: Layer, axes: tuple[int, ...], keepdims: int) -> str:
    name = f"{layer.name}.{'axis' if len(axes) == 1 else 'axes'}"
    inputs = [x.name, e.constant(name, axes, int)]
    return e.node("ReduceMean", inputs, layer.name, keepdims=keepdims)


def resize(e: Emission, layer: Layer) -> Value:
    """A map at another size: a matrix product along the columns and one along the rows.

    onnxruntime's own antialiased `Resize` gives other values than torch.
    """
    x = e.peek(layer)[0]
    if x.is_zero:
        return x
    rows = e.constant(f"{layer.name}.rows", resize_matrix(layer.in_height, layer.height).numpy())
    columns = e.constant(
        f"{layer.name}.columns", resize_matrix(layer.in_width, layer.width).numpy().T
    )
    y = e.node("MatMul", [rows, x.name], f"{layer.name}.vertical")
    return Value(e.node("MatMul", [y, columns], layer.name), is_map=True)


def channel_shuffle(e: Emission, layer: Layer) -> Value:
    """Channels of all groups in turn: `g x c` becomes `c x g`."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return x
    n, groups, size = e.batch_size, layer.groups, layer.channels // layer.groups
    y = e.reshape(x.name, [n, groups, size, layer.tokens], f"{layer.name}.split")
    y = e.transpose(y, [0, 2, 1, 3], f"{layer.name}.transpose")
    sizes = [n, layer.channels, layer.height, layer.width]
    return Value(e.reshape(y, sizes, layer.name), is_map=True)
