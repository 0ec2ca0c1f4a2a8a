"""Emitters of self-attention: of all or in windows, in four forms; and linear attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from deployment.emission.emission import Emission, Value
from deployment.emission.emitters.tokens import write_linear
from deployment.emission.graph_writer import MICROSOFT, Array
from search_spaces import Layer
from supernet.functions import LINEAR_ATTENTION_EPSILON

Form: TypeAlias = Callable[[Emission, Layer, Value, str], str]
"""Writes attention among the positions of an image or a window. It reads these as a matrix or as
sequences, names its last node as told, and writes sequences; their channels may be divided into
heads on a last axis of their own."""


def attention(e: Emission, layer: Layer) -> Value:
    """Self-attention with its projections, in the form that the file is to have."""
    if layer.mixing_name == "linear":
        return _linear(e, layer)
    form, name, x = e.forms.attention, layer.name, e.source(layer)
    reads_sequences = x.is_sequence or form == "packed"
    y = _cut(e, layer, x.name, f"{name}.cut") if layer.window else x.name
    if layer.window or reads_sequences != x.is_sequence:
        positions = _sequences(e, layer) if reads_sequences else [-1]
        y = e.reshape(y, [*positions, layer.in_channels], f"{name}.split")
    is_done = x.is_sequence and not layer.window and form != "plain"
    last = name if is_done else f"{name}.attention"
    y = _FORMS[form](e, layer, Value(y, is_map=False, is_sequence=reads_sequences), last)
    sizes = [-1, layer.tokens, layer.channels] if x.is_sequence else [-1, layer.channels]
    if layer.window:
        y = _joined(e, layer, y, sizes)
    elif not is_done:
        y = e.reshape(y, sizes, name)
    return Value(y, is_map=False, is_sequence=x.is_sequence)


def _packed(e: Emission, layer: Layer, x: Value, last: str) -> str:
    """Projections, scores, softmax and mixing as one kernel of onnxruntime's own."""
    own = e.weights(layer)
    qk, v = layer.heads * layer.qk_dim, layer.heads * layer.v_dim
    inputs = [
        x.name,
        e.constant(f"{layer.name}.weight", own["weight"].T),
        e.constant(f"{layer.name}.bias", own["bias"]),
    ]
    sizes = [qk, qk, v]
    return e.node(
        "Attention", inputs, last, MICROSOFT, num_heads=layer.heads, qkv_hidden_sizes=sizes
    )


def _multi_head(e: Emission, layer: Layer, x: Value, last: str) -> str:
    """Scores, softmax and mixing as one kernel of onnxruntime's own, behind three linear maps."""
    inputs = _of_sequences(e, layer, x)
    return e.node("MultiHeadAttention", inputs, last, MICROSOFT, num_heads=layer.heads)


def _opset23(e: Emission, layer: Layer, x: Value, last: str) -> str:
    """Scores, softmax and mixing as ONNX's own operator, behind three linear maps."""
    inputs = _of_sequences(e, layer, x)
    return e.node("Attention", inputs, last, q_num_heads=layer.heads, kv_num_heads=layer.heads)


def _plain(e: Emission, layer: Layer, x: Value, last: str) -> str:
    """Scores, softmax and mixing spelled out; the scale is in the weights of the queries."""
    name = layer.name
    heads = []
    for part, y in zip("qkv", _parts(e, layer, x, layer.qk_dim**-0.5), strict=True):
        dim = layer.v_dim if part == "v" else layer.qk_dim
        y = e.reshape(y, [*_sequences(e, layer), layer.heads, dim], f"{name}.{part}_heads")
        order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        heads.append(e.transpose(y, order, f"{name}.{part}_first"))
    scores = e.node("MatMul", heads[:2], f"{name}.scores")
    shares = e.node("Softmax", [scores], f"{name}.shares", axis=-1)
    mixed = e.node("MatMul", [shares, heads[2]], f"{name}.mixed")
    return e.transpose(mixed, [0, 2, 1, 3], last)


_FORMS: dict[str, Form] = {
    "packed": _packed, "multi_head": _multi_head, "opset23": _opset23, "plain": _plain,
}  # fmt: skip


def _sequences(e: Emission, layer: Layer) -> list[int]:
    """How many sequences there are, one an image or a window, and the positions of each."""
    return [e.rows(layer.tokens // layer.keys), layer.keys]


def _parts(e: Emission, layer: Layer, x: Value, scale: float = 1.0) -> list[str]:
    """Queries, keys and values, each by a linear map of its own; queries times a number."""
    own = e.weights(layer)
    qk = layer.heads * layer.qk_dim
    weights, biases = (np.split(own[key], [qk, 2 * qk]) for key in ("weight", "bias"))
    weights[0], biases[0] = weights[0] * np.float32(scale), biases[0] * np.float32(scale)
    return [
        write_linear(e, x, weight, bias, f"{layer.name}.{part}")
        for part, weight, bias in zip("qkv", weights, biases, strict=True)
    ]


def _of_sequences(e: Emission, layer: Layer, x: Value) -> list[str]:
    """Queries, keys and values as sequences."""
    parts = _parts(e, layer, x)
    if x.is_sequence:
        return parts
    return [
        e.reshape(y, [*_sequences(e, layer), layer.heads * dim], f"{y}_split")
        for y, dim in zip(parts, (layer.qk_dim, layer.qk_dim, layer.v_dim), strict=True)
    ]


def _cut(e: Emission, layer: Layer, x: str, name: str) -> str:
    """Tokens window by window: `rows x w x columns x w` becomes `rows x columns x w x w`."""
    w = layer.window
    sizes = [e.batch_size, layer.height // w, w, layer.width // w, w * layer.in_channels]
    # the innermost w positions of a row stay together
    return e.transpose(e.reshape(x, sizes, f"{name}.rows"), [0, 1, 3, 2, 4], name)


def _joined(e: Emission, layer: Layer, x: str, tokens: list[int]) -> str:
    """Windows as tokens of these sizes, row by row."""
    w = layer.window
    sizes = [e.batch_size, layer.height // w, layer.width // w, w, w * layer.channels]
    y = e.reshape(x, sizes, f"{layer.name}.windows")
    y = e.transpose(y, [0, 1, 3, 2, 4], f"{layer.name}.join")
    return e.reshape(y, tokens, layer.name)


def _linear(e: Emission, layer: Layer) -> Value:
    """Linear attention on channels x tokens, so that heads need no reordering.

    A value of 1 beside the values of each head gives the denominator with the same products:
    `[v, 1]^T relu(k)  relu(q)^T` has the sum of the weights as its last row.
    """
    n, heads, tokens, name = e.batch_size, layer.heads, layer.tokens, layer.name
    (qk_weight, qk_bias), (v_weight, v_bias) = _rows(e, layer)
    source = e.source(layer)
    x = source.name
    if not source.is_sequence:
        x = e.reshape(x, [n, tokens, layer.in_channels], f"{name}.split")
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
    if source.is_sequence:
        return Value(e.transpose(y, [0, 2, 1], name), is_map=False, is_sequence=True)
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
