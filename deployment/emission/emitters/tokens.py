"""Emitters of what works on tokens, one by one: a matrix `(n * tokens) x channels`, or sequences.

As sequences `n x tokens x channels` tokens are written where linear maps are `MatMul` and `Add`
(`Forms.linear`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deployment.emission.emission import Emission, Value
from deployment.emission.folding import folded_weights
from deployment.emission.graph_writer import Array
from search_spaces import Layer
from supernet.elastic import LAYER_NORM_EPSILON


def linear(e: Emission, layer: Layer, after: Sequence[Layer] = ()) -> Value:
    """A linear map with its bias, the factors behind it folded in."""
    x = e.peek(layer)[0]
    if x.is_zero and not layer.bias:
        return Value("", is_map=False, is_zero=True, is_sequence=x.is_sequence)
    weight, bias = folded_weights(e, layer, after)
    x = e.source(layer)
    name = write_linear(e, x, weight, bias, layer.name)
    return Value(name, is_map=False, is_sequence=x.is_sequence)


def write_linear(e: Emission, x: Value, weight: Array, bias: Array | None, name: str) -> str:
    """A linear map as one `Gemm`, or on sequences as `MatMul` and `Add`; returns its name."""
    product = name if bias is None or not x.is_sequence else f"{name}.product"
    inputs = [x.name, e.constant(f"{name}.weight", weight.T)]
    offsets = [] if bias is None else [e.constant(f"{name}.bias", bias)]
    if not x.is_sequence:
        return e.node("Gemm", [*inputs, *offsets], name)
    y = e.node("MatMul", inputs, product)
    return e.node("Add", [y, *offsets], name) if offsets else y


def layer_norm(e: Emission, layer: Layer) -> Value:
    """A layer norm over the channels."""
    own = e.weights(layer)
    x = e.source(layer)
    inputs = [
        x.name,
        e.constant(f"{layer.name}.weight", own["weight"]),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    name = e.node("LayerNormalization", inputs, layer.name, axis=-1, epsilon=LAYER_NORM_EPSILON)
    return Value(name, is_map=False, is_sequence=x.is_sequence)


def to_tokens(e: Emission, layer: Layer) -> Value:
    """A feature map as tokens, row by row; those that it was made from are taken as they are."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return Value("", is_map=False, is_zero=True, is_sequence=e.has_sequences)
    if x.tokens:
        return Value(x.tokens, is_map=False, is_sequence=x.is_sequence)
    y = e.transpose(x.name, [0, 2, 3, 1], f"{layer.name}.transpose")
    sizes = [-1, layer.channels]
    if e.has_sequences:
        sizes = [-1, layer.tokens, layer.channels]
    return Value(e.reshape(y, sizes, layer.name), is_map=False, is_sequence=e.has_sequences)


def to_map(e: Emission, layer: Layer) -> Value:
    """Tokens as the feature map that they came from."""
    x = e.peek(layer)[0]
    if x.is_zero:
        return Value("", is_map=True, is_zero=True)
    sizes = [e.batch_size, layer.height, layer.width, layer.channels]
    y = e.reshape(x.name, sizes, f"{layer.name}.reshape")
    name = e.transpose(y, [0, 3, 1, 2], layer.name)
    return Value(name, is_map=True, tokens=x.name, is_sequence=x.is_sequence)


def position(e: Emission, layer: Layer) -> Value:
    """A learned vector added to each token."""
    embedding = e.weights(layer)["embedding"]
    x = e.peek(layer)[0]
    if not x.is_sequence and not e.is_dynamic:
        embedding = np.tile(embedding, (e.batch_size, 1))
    grid = e.constant(f"{layer.name}.embedding", embedding)
    if x.is_sequence or not e.is_dynamic:
        y = e.node("Add", [e.source(layer).name, grid], layer.name)
        return Value(y, is_map=False, is_sequence=x.is_sequence)
    y = e.reshape(e.source(layer).name, [-1, layer.tokens, layer.channels], f"{layer.name}.split")
    y = e.node("Add", [y, grid], f"{layer.name}.sum")
    return Value(e.reshape(y, [-1, layer.channels], layer.name), is_map=False)
