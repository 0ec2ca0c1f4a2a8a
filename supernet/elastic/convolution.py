"""Convolutions with elastic channels and kernel sizes, dense, depthwise or in groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from records import BadInputError
from search_spaces import Layer
from supernet.elastic.primitive import ElasticPrimitive, Weights, largest


class Conv2d(ElasticPrimitive):
    """A convolution with elastic channels and kernel size.

    A smaller kernel is the centre of the next larger one, its values mixed by a learned matrix
    that starts as the identity, one matrix per layer for all channels (Once-for-All's kernel
    transform; chained from size to size). A patch embedding (stride as large as the kernel, no
    padding) has its kernel resized by area instead: every value of the largest kernel goes to the
    pixels that it covers, by the share that it covers, so the kernel's sum stays the same.

    In a grouped convolution every group keeps the first of its own channels.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        channels, in_channels, kernel = largest(variants, "channels", "in_channels", "kernel")
        self.depthwise = all(v.groups == v.in_channels == v.channels for v in variants)
        self.groups = 1 if self.depthwise else variants[0].groups
        self.is_patch = all(v.padding == 0 and v.kernel == v.stride for v in variants)
        per_group = 1 if self.depthwise else in_channels // self.groups
        self.weight = nn.Parameter(torch.empty(channels, per_group, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels)) if variants[0].bias else None
        self.kernels = sorted({v.kernel for v in variants}, reverse=True)
        smaller = [] if self.is_patch else self.kernels[1:]
        self.transforms = nn.ParameterDict(
            {str(k): nn.Parameter(torch.eye(k * k)) for k in smaller}
        )

    def reset(self, generator: torch.Generator) -> None:
        channels, kernel = self.weight.shape[0], self.weight.shape[2]
        fan_out = kernel**2 * (1 if self.depthwise else channels // self.groups)
        nn.init.normal_(self.weight, std=(2.0 / fan_out) ** 0.5, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        if self.groups > 1:
            weight, bias = self._grouped(layer)
        else:
            rows = 1 if self.depthwise else layer.in_channels
            weight = self.weight[: layer.channels, :rows]
            bias = None if self.bias is None else self.bias[: layer.channels]
        if layer.kernel != self.kernels[0]:
            weight = self._resized(weight, layer.kernel)
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def is_slice(self, layer: Layer) -> bool:
        channels, per_group = self.weight.shape[:2]
        whole = (layer.channels, layer.in_channels) == (channels, per_group * self.groups)
        return layer.kernel == self.kernels[0] and (self.groups == 1 or whole)

    def _grouped(self, layer: Layer) -> tuple[Tensor, Tensor | None]:
        rows, columns = layer.channels // self.groups, layer.in_channels // self.groups
        whole = self.weight.view(self.groups, -1, *self.weight.shape[1:])
        weight = whole[:, :rows, :columns]
        bias = None if self.bias is None else self.bias.view(self.groups, -1)[:, :rows]
        if weight.shape == whole.shape:  # views of the whole, which can be written to
            return self.weight, self.bias
        return weight.flatten(0, 1), None if bias is None else bias.flatten()

    def _resized(self, weight: Tensor, kernel: int) -> Tensor:
        if self.is_patch:
            covered = _covered(self.kernels[0], kernel).to(weight)
            return (weight.flatten(2) @ covered.T).view(*weight.shape[:2], kernel, kernel)
        for size in self.kernels[1:]:
            cut = (weight.shape[-1] - size) // 2
            centre = weight[..., cut : cut + size, cut : cut + size]
            mixed = centre.flatten(2) @ self.transforms[str(size)].T
            weight = mixed.view(centre.shape)
            if size == kernel:
                break
        return weight

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return F.conv2d(
            inputs[0],
            weights["weight"],
            weights.get("bias"),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )

    @torch.no_grad()
    def set_weights(self, layer: Layer, weights: Weights) -> None:
        if layer.kernel != self.kernels[0]:
            raise BadInputError(
                f"layer {layer.name!r} derives its {layer.kernel}x{layer.kernel} kernel from the "
                f"largest; set the {self.kernels[0]}x{self.kernels[0]} one"
            )
        super().set_weights(layer, weights)


@lru_cache(maxsize=64)
def _covered(largest: int, size: int) -> Tensor:
    """How much of each of `largest^2` pixels each of `size^2` larger ones covers."""
    with torch.inference_mode(False), torch.no_grad():
        edges = torch.arange(size + 1) * (largest / size)
        left = torch.arange(largest)
        shared = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
        row = shared.clamp(min=0)  # size x largest; columns sum to 1
        return torch.kron(row, row)
