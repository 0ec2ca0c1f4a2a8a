"""The plain module of each primitive: what a subnet is made of, with no trace of elasticity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces import Layer
from supernet import functions
from supernet.elastic import BATCH_NORM_EPSILON, LAYER_NORM_EPSILON
from supernet.elastic.normalisation import INITIAL_SCALE


class SelfAttention(nn.Module):
    """Query, key and value projections and scaled dot-product attention.

    `weight` stacks the rows of queries, keys and values, each head by head.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        rows = layer.heads * (2 * layer.qk_dim + layer.v_dim)
        self.layer = layer
        self.weight = nn.Parameter(torch.empty(rows, layer.in_channels))
        self.bias = nn.Parameter(torch.zeros(rows))
        nn.init.normal_(self.weight, std=layer.in_channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return functions.attention(x, self.weight, self.bias, self.layer)

    def extra_repr(self) -> str:
        return f"{self.layer.in_channels}, {self.layer.describe()}"


class PositionEmbedding(nn.Module):
    """Adds a learned vector to each token."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(layer.tokens, layer.channels))
        nn.init.normal_(self.embedding, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding


class Scale(nn.Module):
    """Every channel times a learned factor."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((layer.channels,), INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return functions.scale(x, self.weight)


class Concat(nn.Module):
    """Tensors side by side along the channels."""

    def forward(self, *tensors: Tensor) -> Tensor:
        return functions.concat(*tensors)


class Function(nn.Module):
    """A function of its inputs and the layer's sizes, without weights."""

    def __init__(self, function: Callable[..., Tensor], layer: Layer) -> None:
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, self.layer)

    def extra_repr(self) -> str:
        return self.layer.describe()


def _function(function: Callable[..., Tensor]) -> Callable[[Layer], nn.Module]:
    return lambda layer: Function(function, layer)


def _conv2d(layer: Layer) -> nn.Module:
    return nn.Conv2d(
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bool(layer.bias),
    )


def _activation(layer: Layer) -> nn.Module:
    kinds: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "hardswish": nn.Hardswish,
        "relu6": nn.ReLU6,
        "silu": nn.SiLU,
        "sigmoid": nn.Sigmoid,
        "hardsigmoid": nn.Hardsigmoid,
    }
    return kinds[layer.activation_name]()


STATIC: dict[str, Callable[[Layer], nn.Module]] = {
    "conv2d": _conv2d,
    "batch_norm": lambda layer: nn.BatchNorm2d(layer.channels, eps=BATCH_NORM_EPSILON),
    "layer_norm": lambda layer: nn.LayerNorm(layer.channels, eps=LAYER_NORM_EPSILON),
    "linear": lambda layer: nn.Linear(layer.in_channels, layer.channels, bias=bool(layer.bias)),
    "attention": SelfAttention,
    "position": PositionEmbedding,
    "scale": Scale,
    "activation": _activation,
    "concat": lambda layer: Concat(),
    "add": _function(functions.add),
    "multiply": _function(functions.multiply),
    "zeros": _function(functions.zeros),
    "avg_pool": _function(functions.avg_pool),
    "max_pool": _function(functions.max_pool),
    "global_pool": _function(functions.global_pool),
    "squeeze": _function(functions.squeeze),
    "resize": _function(functions.resize),
    "channel_shuffle": _function(functions.channel_shuffle),
    "to_tokens": _function(functions.to_tokens),
    "to_map": _function(functions.to_map),
}
"""The module of each primitive, made from a layer's sizes with torch's initial weights."""
