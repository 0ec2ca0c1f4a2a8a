"""Layers that vanish in the file: norms and factors folded into the weights before them.

What follows a convolution or a linear map and multiplies and shifts every channel by itself,

    y = factor * (W x + b) + offset  =  (factor W) x + (factor b + offset),

costs nothing once the weights are changed. This holds where nothing else reads the value in
between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deployment.emission import Array, Emission
from search_spaces import Layer
from supernet.elastic import BATCH_NORM_EPSILON

FOLDED = {"conv2d": ("batch_norm", "scale"), "linear": ("scale",)}
"""For each primitive those that may be folded into it, any number of them in a row."""


def foldable(layers: Sequence[Layer]) -> dict[int, tuple[int, ...]]:
    """For each convolution and linear map the layers behind it that are folded into it."""
    readers: dict[int, list[int]] = {}
    for index, layer in enumerate(layers):
        for source in layer.inputs:
            readers.setdefault(source, []).append(index)
    found: dict[int, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        chain: list[int] = []
        last = index
        while layer.operator in FOLDED and len(readers.get(last, ())) == 1:
            last = readers[last][0]
            if layers[last].operator not in FOLDED[layer.operator]:
                break
            chain.append(last)
        if chain:
            found[index] = tuple(chain)
    return found


def folded_weights(
    e: Emission, layer: Layer, after: Sequence[Layer]
) -> tuple[Array, Array | None]:
    """Weight and bias of a layer with those behind it folded in; the bias is None without one."""
    own = e.weights(layer)
    weight = own["weight"].astype(np.float64)
    bias = own["bias"].astype(np.float64) if "bias" in own else None
    for folded in after:
        values = {k: v.astype(np.float64) for k, v in e.weights(folded).items()}
        factor = values["weight"]
        if folded.operator == "batch_norm":
            factor = factor / np.sqrt(values["running_var"] + BATCH_NORM_EPSILON)
            before = 0.0 if bias is None else bias
            bias = values["bias"] + (before - values["running_mean"]) * factor
        elif bias is not None:
            bias = bias * factor
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return (
        weight.astype(np.float32),
        None if bias is None else bias.astype(np.float32),
    )
