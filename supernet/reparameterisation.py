"""Sums of convolutions that are one convolution: branches for training, one kernel in the file.

Convolutions of the same input add up. Where they have the same stride, a smaller kernel is a
larger one with a border of zeros, and a norm of the input by itself is a convolution whose kernel
is a 1 in the middle of each channel. So a block that trains as several branches (`search_spaces.
blocks.rep_conv`) runs as one convolution with a bias:

    sum_i factor_i (W_i * x) + offset_i  =  (sum_i factor_i W_i) * x + sum_i offset_i.

References:
    Ding et al., RepVGG: Making VGG-style ConvNets Great Again, CVPR 2021, arXiv 2101.03697, sec.
    3.3; Ding et al., Diverse Branch Block, CVPR 2021, arXiv 2103.13425, for the rules of addition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces import Graph, Layer
from supernet.folding import norm_as_factor, readers_of
from supernet.network import module_name
from supernet.subnet import Subnet


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """A value as a convolution of another one.

    Attributes:
        source: The layer whose output is convolved.
        main: The layer that is a convolution with this kernel; None for a norm alone.
        layers: All that compute it, which are read by nobody else.
        kernel: Side of the kernel.
        stride: Of the convolution.
        padding: Of the convolution.
        dilation: Of the convolution.
        groups: Of the convolution.
        macs: Of all layers together.
    """

    source: int
    main: int | None
    layers: tuple[int, ...]
    kernel: int
    stride: int
    padding: int
    dilation: int
    groups: int
    macs: int


def reparameterise(subnet: Subnet) -> Subnet:
    """The network with every sum of convolutions of one input as one convolution.

    Joined are convolutions with the same input and stride, with norms and factors behind them,
    and norms of that input; where kernels lie centre on centre, nothing else reads what is in
    between, and the one convolution has no more products than the branches had together. It has
    a bias and the name of the widest branch's convolution. All other layers stay as they are.

    Args:
        subnet: The network in eval mode: norms use their running statistics. It stays as it is.

    Returns:
        A network in eval mode that computes the same, or the given one where there is no such
        sum.
    """
    layers = subnet.graph.layers
    forms = _forms(layers)
    sums = _outermost_sums(layers, forms)
    if not sums:
        return subnet
    gone = {index for form in sums.values() for index in form.layers}
    weights: dict[str, Tensor] = {}
    new: list[Layer] = []
    place: dict[int, int] = {}
    for index, layer in enumerate(layers):
        own: Mapping[str, Tensor] = {}
        if index in sums:
            layer = _as_convolution(layers, sums[index])
            weight, bias = _Weights(subnet, forms).of(index)
            own = {"weight": weight.float(), "bias": bias.float()}
        elif index in gone:
            continue
        elif index > 0:
            own = _state(subnet, layer)
        place[index] = len(new)
        new.append(replace(layer, inputs=tuple(place[i] for i in layer.inputs)))
        for name, value in own.items():
            weights[f"layers.{module_name(layer.name)}.{name}"] = value.detach().clone()
    return Subnet(Graph(layers=tuple(new)), weights).eval()


def _forms(layers: Sequence[Layer]) -> list[_Form | None]:
    """Each layer's output as a convolution of another layer's, where it is one."""
    readers = readers_of(layers)
    forms: list[_Form | None] = []
    for index, layer in enumerate(layers):
        alone = [forms[i] if len(readers[i]) == 1 else None for i in layer.inputs]
        form: _Form | None = None
        if layer.operator == "conv2d":
            form = _Form(
                source=layer.inputs[0], main=index, layers=(index,), kernel=layer.kernel,
                stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
                groups=layer.groups, macs=layer.macs,
            )  # fmt: skip
        elif layer.operator in ("batch_norm", "scale"):
            if alone[0] is not None:
                form = replace(alone[0], layers=(*alone[0].layers, index))
            elif layer.operator == "batch_norm":
                form = _Form(
                    source=layer.inputs[0], main=None, layers=(index,), kernel=1, stride=1,
                    padding=0, dilation=1, groups=layer.channels, macs=0,
                )  # fmt: skip
        elif layer.operator == "add" and alone[0] is not None and alone[1] is not None:
            inputs = layers[alone[0].source].channels
            form = _sum(index, layer, inputs, alone[0], alone[1])
        forms.append(form)
    return forms


def _sum(index: int, layer: Layer, in_channels: int, first: _Form, second: _Form) -> _Form | None:
    """The sum of two convolutions as one, where it is one and costs no more."""
    if (first.source, first.stride) != (second.source, second.stride):
        return None
    wide, small = (first, second) if first.kernel >= second.kernel else (second, first)
    if small.kernel > 1 and small.dilation != wide.dilation:
        return None
    border = wide.dilation * (wide.kernel - small.kernel)
    groups, more = sorted((first.groups, second.groups))
    if border % 2 or wide.padding - small.padding != border // 2 or more % groups:
        return None
    products = layer.channels * in_channels // groups * wide.kernel**2 * layer.tokens
    main = wide.main if wide.main is not None else small.main
    if main is None or products > first.macs + second.macs:
        return None
    return replace(
        wide, main=main, layers=(*first.layers, *second.layers, index), groups=groups,
        macs=first.macs + second.macs,
    )  # fmt: skip


def _outermost_sums(layers: Sequence[Layer], forms: Sequence[_Form | None]) -> dict[int, _Form]:
    """The sums that are one convolution and not part of another one, with their forms."""
    found: dict[int, _Form] = {}
    within: set[int] = set()
    for index in reversed(range(len(layers))):
        form = forms[index]
        if layers[index].operator == "add" and form is not None and index not in within:
            found[index] = form
            within.update(form.layers)
    return found


def _as_convolution(layers: Sequence[Layer], form: _Form) -> Layer:
    """The layer that a sum becomes."""
    assert form.main is not None
    layer = replace(
        layers[form.main], inputs=(form.source,), kernel=form.kernel, padding=form.padding,
        dilation=form.dilation, groups=form.groups, bias=1,
    )  # fmt: skip
    weights = layer.channels * (layer.in_channels // layer.groups) * layer.kernel**2
    return replace(layer, macs=weights * layer.tokens, parameters=weights + layer.channels)


class _Weights:
    """Weights and biases of values that are convolutions, in double precision.

    Args:
        subnet: The network.
        forms: Of its layers.
    """

    def __init__(self, subnet: Subnet, forms: Sequence[_Form | None]) -> None:
        self.subnet = subnet
        self.forms = forms

    def of(self, index: int) -> tuple[Tensor, Tensor]:
        """Kernel `channels x (in_channels / groups) x kernel x kernel` and bias of a value."""
        layer = self.subnet.graph.layers[index]
        form = self._form(index)
        if layer.operator == "conv2d":
            own = self._own(layer)
            bias = own.get("bias", torch.zeros(layer.channels, dtype=torch.float64))
            return own["weight"], bias
        if layer.operator == "add":
            first, second = (self._widened(i, layer, form) for i in layer.inputs)
            return first[0] + second[0], first[1] + second[1]
        if form.layers == (index,):  # a norm of the input by itself
            weight = torch.ones(layer.channels, 1, 1, 1, dtype=torch.float64)
            bias = torch.zeros(layer.channels, dtype=torch.float64)
        else:
            weight, bias = self.of(layer.inputs[0])
        factor, offset = norm_as_factor(self._own(layer))
        bias = bias * factor
        return weight * factor.view(-1, 1, 1, 1), bias if offset is None else bias + offset

    def _widened(self, index: int, sum_: Layer, to: _Form) -> tuple[Tensor, Tensor]:
        """A summand with the kernel and the groups of the sum."""
        weight, bias = self.of(index)
        own = self._form(index)
        channels = sum_.channels
        per_group, parts = channels // to.groups, own.groups // to.groups
        if parts > 1:  # every finer group reads its own part of the coarser group's channels
            width = weight.shape[1]
            spread = weight.new_zeros(channels, width * parts, *weight.shape[2:])
            for row in range(channels):
                part = row % per_group // (channels // own.groups)
                spread[row, part * width : (part + 1) * width] = weight[row]
            weight = spread
        return F.pad(weight, [(to.kernel - own.kernel) // 2] * 4), bias

    def _form(self, index: int) -> _Form:
        form = self.forms[index]
        assert form is not None
        return form

    def _own(self, layer: Layer) -> dict[str, Tensor]:
        return {name: value.double() for name, value in _state(self.subnet, layer).items()}


def _state(subnet: Subnet, layer: Layer) -> Mapping[str, Tensor]:
    """The weights and statistics of a layer."""
    state: Mapping[str, Tensor] = subnet.layers[module_name(layer.name)].state_dict()
    return state
