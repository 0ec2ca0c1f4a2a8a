"""Emitters of what works on tokens, one by one: a matrix `(n * tokens) x channels`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deployment.emission import Emission, Value
from deployment.folding import folded_weights
from search_spaces import Layer
from supernet.elastic import LAYER_NORM_EPSILON


def linear(e: Emission, layer: Layer, after: Sequence[Layer] = ()) -> Value:
    """A linear map with its bias as one `Gemm`, the factors behind it folded in."""
    if e.peek(layer)[0].is_zero and not layer.bias:
        return Value("", is_map=False, is_zero=True)
    weight, bias = folded_weights(e, layer, after)
    inputs = [e.input(layer).name, e.constant(f"{layer.name}.weight", weight.T)]
    if bias is not None:
        inputs.append(e.constant(f"{layer.name}.bias", bias))
    return Value(e.node("Gemm", inputs, layer.name), is_map=False)


def layer_norm(e: Emission, layer: Layer) -> Value:
    """A layer norm over the channels."""
    own = e.weights(layer)
    inputs = [
        e.input(layer).name,
        e.constant(f"{layer.name}.weight", own["weight"]),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    name = e.node("LayerNormalization", inputs, layer.name, axis=-1, epsilon=LAYER_NORM_EPSILON)
    return Value(name, is_map=False)


def to_tokens(e: Emission, layer: Layer) -> Value:
    """A feature map as tokens, row by row; those that it was made from are taken as they are."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return Value("", is_map=False, is_zero=True)
    if x.tokens:
        return Value(x.tokens, is_map=False)
    y = e.transpose(x.name, [0, 2, 3, 1], f"{layer.name}.transpose")
    return Value(e.reshape(y, [-1, layer.channels], layer.name), is_map=False)


def to_map(e: Emission, layer: Layer) -> Value:
    """Tokens as the feature map that they came from."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return Value("", is_map=True, is_zero=True)
    sizes = [e.batch_size, layer.height, layer.width, layer.channels]
    y = e.reshape(x.name, sizes, f"{layer.name}.reshape")
    return Value(e.transpose(y, [0, 3, 1, 2], layer.name), is_map=True, tokens=x.name)


def position(e: Emission, layer: Layer) -> Value:
    """A learned vector added to each token."""
    embedding = np.tile(e.weights(layer)["embedding"], (e.batch_size, 1))
    grid = e.constant(f"{layer.name}.embedding", embedding)
    return Value(e.node("Add", [e.input(layer).name, grid], layer.name), is_map=False)
