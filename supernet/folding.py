"""Norms and factors folded into the weights before them, as exported files have them.

What follows a convolution or a linear map and multiplies and shifts every channel by itself,

    y = factor * (W x + b) + offset  =  (factor W) x + (factor b + offset),

is part of that layer once its weights are changed. This holds where nothing else reads the value
in between. The changed weights are functions of the given ones, so that gradients come back
through them (Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, CVPR 2018, arXiv 1712.05877, sec. 3.2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from search_spaces import Layer
from supernet.elastic import BATCH_NORM_EPSILON

FOLDED: Mapping[str, tuple[str, ...]] = {"conv2d": ("batch_norm", "scale"), "linear": ("scale",)}
"""For each primitive those that may be folded into it, any number of them in a row."""


def readers_of(layers: Sequence[Layer]) -> list[list[int]]:
    """For each layer the layers that read it, once for each input that does."""
    readers: list[list[int]] = [[] for _ in layers]
    for index, layer in enumerate(layers):
        for source in layer.inputs:
            readers[source].append(index)
    return readers


def foldable(layers: Sequence[Layer], kept: Collection[str] = ()) -> dict[int, tuple[int, ...]]:
    """For each convolution and linear map the layers behind it that are folded into it.

    Args:
        layers: The network.
        kept: Primitives that are not folded; they end what is.
    """
    readers = readers_of(layers)
    found: dict[int, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        chain: list[int] = []
        last = index
        while layer.operator in FOLDED and len(readers[last]) == 1:
            last = readers[last][0]
            operator = layers[last].operator
            if operator in kept or operator not in FOLDED[layer.operator]:
                break
            chain.append(last)
        if chain:
            found[index] = tuple(chain)
    return found


def fold(
    weight: Tensor, bias: Tensor | None, after: Sequence[Mapping[str, Tensor]]
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer with those behind it folded in.

    Args:
        weight: Of the layer, its output channels first.
        bias: None without one.
        after: The weights of the norms and factors behind it, in their order; norms have
            `running_mean` and `running_var`.

    Returns:
        The changed weight and bias; the bias is None where there is none and no norm.
    """
    for values in after:
        factor, offset = norm_as_factor(values)
        weight = weight * factor.view(-1, *[1] * (weight.ndim - 1))
        bias = offset if bias is None else bias * factor + (0 if offset is None else offset)
    return weight, bias


def norm_as_factor(values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """A norm, or learned factors, as a factor and an offset a channel; factors have no offset."""
    factor = values["weight"]
    if "running_var" not in values:
        return factor, None
    factor = factor / (values["running_var"] + BATCH_NORM_EPSILON).sqrt()
    return factor, values["bias"] - values["running_mean"] * factor
