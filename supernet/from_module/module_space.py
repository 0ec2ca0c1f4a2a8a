"""`ModuleSpace`: the networks that a user's own module becomes when some of its sizes may vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from records import BadInputError, unknown_name
from search_spaces import SearchSpace
from search_spaces.expression import Dim
from search_spaces.network import NetworkBuilder, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedLayer:
    """A layer of the module as it was traced, and the choices that it depends on.

    Attributes:
        name: The module's name in the user's network; for functions the name of the module that
            calls them and their own.
        operator: The primitive.
        inputs: What it reads: 0 the images, `i` the `i`-th layer counted from 1.
        channels: Channels that a convolution or linear map writes.
        kernel: Of a convolution or pooling.
        stride: Likewise.
        padding: Likewise.
        dilation: Of a convolution.
        groups: Of a convolution; 0 where every channel is convolved by itself.
        bias: Whether there is one.
        activation: The kind of an activation.
        width: The choice that sets the channels; empty where they are fixed.
        kernels: The choice that sets the kernel, likewise.
        inside: For each chain of optional blocks that the layer is in, the choice of the chain's
            length and the number of the block.
    """

    name: str
    operator: str
    inputs: tuple[int, ...]
    channels: int = 0
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    activation: str = ""
    width: str = ""
    kernels: str = ""
    inside: tuple[tuple[str, int], ...] = ()

    @property
    def mixes(self) -> bool:
        """Whether it makes each channel from all that it reads, so its width is free."""
        return self.operator == "linear" or (self.operator == "conv2d" and self.groups == 1)

    @property
    def is_grouped(self) -> bool:
        """Whether it is a convolution in groups of several channels."""
        return self.operator == "conv2d" and self.groups > 1


@dataclass(frozen=True, kw_only=True)
class ModuleSpace(SearchSpace):
    """A user's module with elastic widths, kernels and depths; `elastic_space` makes it.

    Attributes:
        traced: The module's layers in the order in which they run; the last gives the logits.
        offered: For each choice by name its values.

    Raises:
        BadInputError: Layers or choices that do not hang together.
    """

    Stage: ClassVar[type[TracedLayer]] = TracedLayer

    traced: tuple[TracedLayer, ...]
    offered: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        for place, layer in enumerate(self.traced, start=1):
            if layer.operator not in _PRIMITIVES:
                raise unknown_name("primitive of a module", layer.operator, _PRIMITIVES)
            if not layer.inputs or any(not 0 <= i < place for i in layer.inputs):
                raise BadInputError(f"layer {layer.name!r} does not read layers before it")
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        chosen = _Chosen(net, dict(self.offered))
        tensors = [images]
        for layer in self.traced:
            with ExitStack() as conditions:
                for chain, block in layer.inside:
                    depth = chosen.value(chain)
                    conditions.enter_context(net.when(depth > block))
                inputs = [tensors[i] for i in layer.inputs]
                tensors.append(_PRIMITIVES[layer.operator](net, layer, inputs, chosen))
        return tensors[-1]


class _Chosen:
    """The choices, each declared where it is used first."""

    def __init__(self, net: NetworkBuilder, offered: Mapping[str, tuple[int, ...]]) -> None:
        self._net = net
        self._offered = offered
        self._values: dict[str, Dim] = {}

    def value(self, name: str) -> Dim:
        if name not in self._values:
            if name not in self._offered:
                raise unknown_name("choice", name, self._offered)
            self._values[name] = self._net.choice(name, self._offered[name])
        return self._values[name]


def _conv2d(
    net: NetworkBuilder, layer: TracedLayer, x: Sequence[Tensor], chosen: _Chosen
) -> Tensor:
    channels: Dim = chosen.value(layer.width) if layer.width else layer.channels
    return net.conv2d(
        x[0],
        x[0].channels if layer.groups == 0 else channels,
        kernel=chosen.value(layer.kernels) if layer.kernels else layer.kernel,
        padding=None if layer.kernels else layer.padding,
        stride=layer.stride,
        dilation=layer.dilation,
        groups=x[0].channels if layer.groups == 0 else layer.groups,
        bias=layer.bias,
        name=layer.name,
    )


def _linear(
    net: NetworkBuilder, layer: TracedLayer, x: Sequence[Tensor], chosen: _Chosen
) -> Tensor:
    channels = chosen.value(layer.width) if layer.width else layer.channels
    return net.linear(x[0], channels, bias=layer.bias, name=layer.name)


_Declare: TypeAlias = Callable[[NetworkBuilder, TracedLayer, Sequence[Tensor], _Chosen], Tensor]

_PRIMITIVES: Mapping[str, _Declare] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": lambda net, layer, x, _: net.batch_norm(x[0], name=layer.name),
    "activation": lambda net, layer, x, _: net.activation(x[0], layer.activation, name=layer.name),
    "add": lambda net, layer, x, _: net.add(x[0], x[1], name=layer.name),
    "multiply": lambda net, layer, x, _: net.multiply(x[0], x[1], name=layer.name),
    "squeeze": lambda net, layer, x, _: net.squeeze(x[0], name=layer.name),
    "global_pool": lambda net, layer, x, _: net.global_pool(x[0], name=layer.name),
    "avg_pool": lambda net, layer, x, _: net.avg_pool(
        x[0], kernel=layer.kernel, stride=layer.stride, padding=layer.padding, name=layer.name
    ),
    "max_pool": lambda net, layer, x, _: net.max_pool(
        x[0], kernel=layer.kernel, stride=layer.stride, padding=layer.padding, name=layer.name
    ),
}
"""How each primitive of a module is declared."""
