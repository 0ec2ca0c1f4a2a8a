"""Layers that vanish in the file: norms and factors folded into the weights before them.

What follows a convolution or a linear map and multiplies and shifts every channel by itself,

    y = factor * (W x + b) + offset  =  (factor W) x + (factor b + offset),

costs nothing once the weights are changed. This holds where nothing else reads the value in
between. What multiplies and shifts the channels of the images before a convolution vanishes in the
same way; a shift only where the convolution has no padding, since padding is not shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deployment.emission.emission import Emission, Scaling
from deployment.emission.graph_writer import Array
from search_spaces import Layer
from supernet.elastic import BATCH_NORM_EPSILON
from supernet.folding import foldable as chains

Doubles: TypeAlias = npt.NDArray[np.float64]


def foldable(layers: Sequence[Layer], norms: str = "folded") -> dict[int, tuple[int, ...]]:
    """For each convolution and linear map the layers behind it that are folded into it.

    Args:
        layers: The network.
        norms: One of `deployment.emission.forms.NORMS`; kept ones end what is folded.
    """
    return chains(layers, kept=("batch_norm",) if norms == "kept" else ())


def folded_weights(
    e: Emission, layer: Layer, after: Sequence[Layer]
) -> tuple[Array, Array | None]:
    """Weight and bias of a layer with those behind it folded in; the bias is None without one."""
    own = e.weights(layer)
    weight = own["weight"].astype(np.float64)
    bias = own["bias"].astype(np.float64) if "bias" in own else None
    if e.scaling is not None and layer.inputs == (0,):
        weight, bias = _scaled(weight, bias, e.scaling)
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


def _scaled(
    weight: Doubles, bias: Doubles | None, scaling: Scaling
) -> tuple[Doubles, Doubles | None]:
    """Weight and bias of a convolution that takes in what was done to the images before."""
    if scaling.offsets is not None:
        shift = np.einsum("oikl,i->o", weight, scaling.offsets.astype(np.float64))
        bias = shift if bias is None else bias + shift
    return weight * scaling.factors.astype(np.float64)[:, None, None], bias
