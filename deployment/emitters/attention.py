"""Emitters of self-attention: packed, in windows, and linear."""

from __future__ import annotations

import numpy as np

from deployment.emission import MICROSOFT, Array, Emission, Value
from search_spaces import Layer
from supernet.functions import LINEAR_ATTENTION_EPSILON


def attention(e: Emission, layer: Layer) -> Value:
    """Self-attention with its projections, on tokens `(n * tokens) x channels`."""
    if layer.mixing_name == "linear":
        return _linear(e, layer)
    n, tokens = e.batch_size, layer.tokens
    name, x = layer.name, e.input(layer).name
    if layer.window:
        x = _cut(e, layer, x, layer.in_channels, f"{name}.cut")
        n, tokens = n * tokens // layer.window**2, layer.window**2
    x = e.reshape(x, [n, tokens, layer.in_channels], f"{name}.split")
    y = _packed(e, layer, x)
    if layer.window:
        return Value(_joined(e, layer, y), is_map=False)
    return Value(e.reshape(y, [-1, layer.channels], name), is_map=False)


def _packed(e: Emission, layer: Layer, x: str) -> str:
    """Projections, scores, softmax and mixing as one kernel, on sequences."""
    own = e.weights(layer)
    qk, v = layer.heads * layer.qk_dim, layer.heads * layer.v_dim
    inputs = [
        x,
        e.constant(f"{layer.name}.weight", own["weight"].T),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    return e.node(
        "Attention",
        inputs,
        f"{layer.name}.attention",
        domain=MICROSOFT,
        num_heads=layer.heads,
        qkv_hidden_sizes=[qk, qk, v],
    )


def _cut(e: Emission, layer: Layer, x: str, channels: int, name: str) -> str:
    """Tokens window by window: `rows x w x columns x w` becomes `rows x columns x w x w`."""
    w = layer.window
    sizes = [e.batch_size, layer.height // w, w, layer.width // w, w * channels]
    # the innermost w positions of a row stay together
    return e.transpose(e.reshape(x, sizes, f"{name}.rows"), [0, 1, 3, 2, 4], name)


def _joined(e: Emission, layer: Layer, x: str) -> str:
    """Windows as tokens, row by row."""
    w = layer.window
    sizes = [e.batch_size, layer.height // w, layer.width // w, w, w * layer.channels]
    y = e.reshape(x, sizes, f"{layer.name}.windows")
    y = e.transpose(y, [0, 1, 3, 2, 4], f"{layer.name}.join")
    return e.reshape(y, [-1, layer.channels], layer.name)


def _linear(e: Emission, layer: Layer) -> Value:
    """Linear attention on channels x tokens, so that heads need no reordering.

    A value of 1 beside the values of each head gives the denominator with the same products:
    `[v, 1]^T relu(k)  relu(q)^T` has the sum of the weights as its last row.
    """
    n, heads, tokens, name = e.batch_size, layer.heads, layer.tokens, layer.name
    (qk_weight, qk_bias), (v_weight, v_bias) = _rows(e, layer)
    x = e.reshape(e.input(layer).name, [n, tokens, layer.in_channels], f"{name}.split")
    x = e.transpose(x, [0, 2, 1], f"{name}.channels")
    qk = _projected(e, x, qk_weight, qk_bias, f"{name}.qk")
    qk = e.node("Relu", [qk], f"{name}.features")
    qk = e.reshape(qk, [n, 2 * heads, layer.qk_dim, tokens], f"{name}.qk_heads")
    q, k = e.split(qk, [heads, heads], 1, [f"{name}.q", f"{name}.k"])
    values = _projected(e, x, v_weight, v_bias, f"{name}.v")
    values = e.reshape(values, [n, heads, layer.v_dim + 1, tokens], f"{name}.v_heads")
    k = e.transpose(k, [0, 1, 3, 2], f"{name}.k_tokens")
    mixed = e.node("MatMul", [values, k], f"{name}.summary")  # heads x (v_dim + 1) x qk_dim
    mixed = e.node("MatMul", [mixed, q], f"{name}.mixed")
    above, below = e.split(mixed, [layer.v_dim, 1], 2, [f"{name}.above", f"{name}.below"])
    epsilon = e.constant(f"{name}.epsilon", LINEAR_ATTENTION_EPSILON)
    below = e.node("Add", [below, epsilon], f"{name}.denominator")
    y = e.node("Div", [above, below], f"{name}.quotient")
    y = e.reshape(y, [n, layer.channels, tokens], f"{name}.joined")
    y = e.transpose(y, [0, 2, 1], f"{name}.tokens")
    return Value(e.reshape(y, [-1, layer.channels], name), is_map=False)


def _rows(e: Emission, layer: Layer) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Weights and biases of queries and keys, and of values with a 1 behind each head."""
    own = e.weights(layer)
    first = 2 * layer.heads * layer.qk_dim
    weight = own["weight"][first:].reshape(layer.heads, layer.v_dim, -1)
    bias = own["bias"][first:].reshape(layer.heads, layer.v_dim)
    weight = np.pad(weight, ((0, 0), (0, 1), (0, 0)))
    bias = np.pad(bias, ((0, 0), (0, 1)), constant_values=1)
    values = (weight.reshape(-1, layer.in_channels), bias.reshape(-1))
    return (own["weight"][:first], own["bias"][:first]), values


def _projected(e: Emission, x: str, weight: Array, bias: Array, name: str) -> str:
    """Channels x tokens times a matrix from the left, plus a number for each row."""
    y = e.node("MatMul", [e.constant(f"{name}.weight", weight), x], f"{name}.product")
    return e.node("Add", [y, e.constant(f"{name}.bias", bias[:, None])], name)
