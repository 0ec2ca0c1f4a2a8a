"""Primitives without weights: there is nothing to share, only to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import Layer
from supernet import functions
from supernet.elastic.primitive import ElasticPrimitive, Weights

ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
}


class Activation(ElasticPrimitive):
    """An activation function."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return ACTIVATION_FUNCTIONS[layer.activation_name](inputs[0])


class Concat(ElasticPrimitive):
    """Tensors side by side along the channels."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return functions.concat(*inputs)


class Weightless(ElasticPrimitive):
    """A function of its inputs and the layer."""

    function: ClassVar[Callable[..., Tensor]]

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return type(self).function(*inputs, layer)


def weightless(function: Callable[..., Tensor]) -> type[Weightless]:
    """The elastic primitive that applies a function `(*inputs, layer)`."""
    return type(function.__name__, (Weightless,), {"function": staticmethod(function)})
