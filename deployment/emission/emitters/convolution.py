"""Emitters of convolutions, batch norms and learned factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deployment.emission.emission import Emission, Value
from deployment.emission.folding import folded_weights
from search_spaces import Layer
from supernet.elastic import BATCH_NORM_EPSILON

BLOCK = 8
"""Channels of a map that onnxruntime certainly keeps in blocks come in multiples of this."""


def conv2d(e: Emission, layer: Layer, after: Sequence[Layer] = ()) -> Value:
    """A convolution, with the norms and factors behind it folded in."""
    x = e.peek(layer)[0]
    if x.is_zero and not after and not layer.bias:
        return Value("", is_map=True, is_zero=True)
    weight, bias = folded_weights(e, layer, after)
    if bias is None:
        bias = np.zeros(layer.channels, np.float32)
    inputs = [
        e.source(layer).name,
        e.constant(f"{layer.name}.weight", weight),
        e.constant(f"{layer.name}.bias", bias),
    ]
    name = e.node(
        "Conv",
        inputs,
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        dilations=[layer.dilation] * 2,
        group=layer.groups,
    )
    return Value(name, is_map=True, is_blocked=_is_blocked(layer))


def _is_blocked(layer: Layer) -> bool:
    """Whether onnxruntime runs a convolution on blocks of channels, on any processor's."""
    if layer.groups > 1 and not layer.is_depthwise:
        return layer.channels // layer.groups % (2 * BLOCK) == 0
    return layer.channels % BLOCK == 0


def batch_norm(e: Emission, layer: Layer) -> Value:
    """A batch norm that could not be folded, or is left to the runtime."""
    own = e.weights(layer)
    x = e.source(layer)
    inputs = [x.name] + [
        e.constant(f"{layer.name}.{key}", own[key])
        for key in ("weight", "bias", "running_mean", "running_var")
    ]
    name = e.node("BatchNormalization", inputs, layer.name, epsilon=BATCH_NORM_EPSILON)
    return Value(name, is_map=True, is_blocked=x.is_blocked)


def scale(e: Emission, layer: Layer) -> Value:
    """Factors per channel that could not be folded; onnxruntime keeps a map's blocks."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return x
    factors = e.weights(layer)["weight"]
    if x.is_map:
        factors = factors.reshape(1, -1, 1, 1)
    weight = e.constant(f"{layer.name}.weight", factors)
    name = e.node("Mul", [x.name, weight], layer.name)
    return Value(name, x.is_map, is_blocked=x.is_blocked, is_sequence=x.is_sequence)
