"""Elastic primitives: the largest weights once, and for each subnet its slice.

A module holds the weights of the largest variant of one declared layer. `weights(layer)` gives the
weights of a variant, differentiable: always a prefix `weight[:channels, :in_channels]`, so that a
channel, a head, a query row means the same thing in every subnet. Whatever else a variant needs
(smaller kernels, patches, position grids) follows from the largest by a rule stated at its class.
`run(layer, inputs, weights)` applies the primitive.

References:
    Cai et al., Once-for-All, ICLR 2020, arXiv 1908.09791 (slicing, kernel transforms);
    Chen et al., AutoFormer, ICCV 2021, arXiv 2107.00651 (slicing of transformers). Queries, keys
    and values are separate here, weights and biases, so that both keep their role for every head
    count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Layer

Weights: TypeAlias = Mapping[str, Tensor]
BATCH_NORM_EPSILON = 1e-5
LAYER_NORM_EPSILON = 1e-5


class ElasticPrimitive(nn.Module, ABC):
    """The shared weights of one declared layer.

    Args:
        variants: The distinct variants of the layer in the space, largest first in no order.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__()

    def weights(self, layer: Layer) -> Weights:
        """The weights of a variant, as the static module names them; none by default."""
        return {}

    @abstractmethod
    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        """Applies the primitive to inputs of shape `n x C x H x W` or `n x tokens x C`."""

    def reset(self, generator: torch.Generator) -> None:
        """Draws initial weights; nothing to draw by default."""


def _largest(variants: Sequence[Layer], *names: str) -> list[int]:
    return [max(getattr(v, name) for v in variants) for name in names]


class Conv2d(ElasticPrimitive):
    """A convolution with elastic channels and kernel size.

    A smaller kernel is the centre of the next larger one, its values mixed by a learned matrix
    that starts as the identity, one matrix per layer for all channels (Once-for-All's kernel
    transform; chained from size to size). A patch embedding (stride as large as the kernel, no
    padding) has its kernel resized by area instead: every value of the largest kernel goes to the
    pixels that it covers, by the share that it covers, so the kernel's sum stays the same.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        channels, in_channels, kernel = _largest(variants, "channels", "in_channels", "kernel")
        self.depthwise = any(v.groups > 1 for v in variants)
        self.is_patch = all(v.padding == 0 and v.kernel == v.stride for v in variants)
        per_group = 1 if self.depthwise else in_channels
        self.weight = nn.Parameter(torch.empty(channels, per_group, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels)) if variants[0].bias else None
        self.kernels = sorted({v.kernel for v in variants}, reverse=True)
        smaller = [] if self.is_patch else self.kernels[1:]
        self.transforms = nn.ParameterDict(
            {str(k): nn.Parameter(torch.eye(k * k)) for k in smaller}
        )

    def reset(self, generator: torch.Generator) -> None:
        fan_out = self.weight.shape[2] ** 2 * (1 if self.depthwise else self.weight.shape[0])
        nn.init.normal_(self.weight, std=(2.0 / fan_out) ** 0.5, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        rows = 1 if self.depthwise else layer.in_channels
        weight = self.weight[: layer.channels, :rows]
        if layer.kernel != self.kernels[0]:
            weight = self._resized(weight, layer.kernel)
        if self.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": self.bias[: layer.channels]}

    def _resized(self, weight: Tensor, kernel: int) -> Tensor:
        if self.is_patch:
            covered = _covered(self.kernels[0], kernel).to(weight)
            return covered @ weight @ covered.T
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
            groups=layer.groups,
        )


def _covered(largest: int, size: int) -> Tensor:
    """How much of each of `largest` pixels in a row each of `size` larger ones covers."""
    edges = torch.arange(size + 1) * (largest / size)
    left = torch.arange(largest)
    return (
        torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    ).clamp(min=0)  # size x largest; columns sum to 1


class BatchNorm(ElasticPrimitive):
    """Batch normalisation with elastic channels; statistics are not among the weights.

    Without statistics among the weights it normalises with those of the batch.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        (channels,) = _largest(variants, "channels")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def weights(self, layer: Layer) -> Weights:
        return {"weight": self.weight[: layer.channels], "bias": self.bias[: layer.channels]}

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        mean = weights.get("running_mean")
        return F.batch_norm(
            inputs[0],
            mean,
            weights.get("running_var"),
            weights["weight"],
            weights["bias"],
            training=mean is None,
            eps=BATCH_NORM_EPSILON,
        )


class LayerNorm(ElasticPrimitive):
    """Layer normalisation of tokens with elastic channels."""

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        (channels,) = _largest(variants, "channels")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def weights(self, layer: Layer) -> Weights:
        return {"weight": self.weight[: layer.channels], "bias": self.bias[: layer.channels]}

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        shape = (layer.channels,)
        return F.layer_norm(
            inputs[0], shape, weights["weight"], weights["bias"], LAYER_NORM_EPSILON
        )


class Linear(ElasticPrimitive):
    """A linear map with elastic input and output width."""

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        channels, in_channels = _largest(variants, "channels", "in_channels")
        self.weight = nn.Parameter(torch.empty(channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if variants[0].bias else None

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        weight = self.weight[: layer.channels, : layer.in_channels]
        if self.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": self.bias[: layer.channels]}

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return F.linear(inputs[0], weights["weight"], weights.get("bias"))


class Attention(ElasticPrimitive):
    """Self-attention with elastic width, heads, query/key and value dims.

    The weights are kept per head, `heads x dim x width`, apart for queries, keys and values; a
    subnet takes the first heads, the first dims of each and the first input channels. The subnet's
    `weight` stacks query, key and value rows.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        heads, qk, v, width = _largest(variants, "heads", "qk_dim", "v_dim", "in_channels")
        self.query = nn.Parameter(torch.empty(heads, qk, width))
        self.key = nn.Parameter(torch.empty(heads, qk, width))
        self.value = nn.Parameter(torch.empty(heads, v, width))
        self.query_bias = nn.Parameter(torch.zeros(heads, qk))
        self.key_bias = nn.Parameter(torch.zeros(heads, qk))
        self.value_bias = nn.Parameter(torch.zeros(heads, v))

    def reset(self, generator: torch.Generator) -> None:
        for weight in (self.query, self.key, self.value):
            nn.init.normal_(weight, std=weight.shape[2] ** -0.5, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        h, d = layer.heads, layer.in_channels
        parts = (
            (self.query, self.query_bias, layer.qk_dim),
            (self.key, self.key_bias, layer.qk_dim),
            (self.value, self.value_bias, layer.v_dim),
        )
        weight = torch.cat([w[:h, :dim, :d].reshape(-1, d) for w, _, dim in parts])
        bias = torch.cat([b[:h, :dim].reshape(-1) for _, b, dim in parts])
        return {"weight": weight, "bias": bias}

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return attention(inputs[0], weights["weight"], weights["bias"], layer)


def attention(x: Tensor, weight: Tensor, bias: Tensor, layer: Layer) -> Tensor:
    """Scaled dot-product self-attention of tokens `n x tokens x width`, scale `qk_dim^-1/2`."""
    n, tokens, _ = x.shape
    qk, v = layer.heads * layer.qk_dim, layer.heads * layer.v_dim
    parts = torch.split(F.linear(x, weight, bias), [qk, qk, v], dim=-1)
    q, k, values = (p.view(n, tokens, layer.heads, -1).transpose(1, 2) for p in parts)
    mixed = F.scaled_dot_product_attention(q, k, values)
    return mixed.transpose(1, 2).reshape(n, tokens, v)  # heads side by side


class Position(ElasticPrimitive):
    """Learned position embeddings, kept as the largest grid, resized bilinearly to others."""

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        self.embedding = nn.Parameter(
            torch.empty(_largest(variants, "channels", "height", "width"))
        )

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.embedding, std=0.02, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        grid = self.embedding[: layer.channels]
        size = (layer.height, layer.width)
        if grid.shape[1:] != size:
            grid = F.interpolate(grid[None], size=size, mode="bilinear", antialias=True)[0]
        return {"embedding": grid.flatten(1).T}  # tokens x channels

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return inputs[0] + weights["embedding"]


class Activation(ElasticPrimitive):
    """An activation function; nothing to share."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return ACTIVATION_FUNCTIONS[layer.activation_name](inputs[0])


class Add(ElasticPrimitive):
    """The sum of shortcut and branch."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return inputs[0] + inputs[1]


class ToTokens(ElasticPrimitive):
    """A feature map `n x C x H x W` as tokens `n x HW x C`; a view where channels come last."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return inputs[0].permute(0, 2, 3, 1).flatten(1, 2)


class ToMap(ElasticPrimitive):
    """Tokens `n x HW x C` as a feature map `n x C x H x W`, channels last in memory."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return inputs[0].reshape(-1, layer.height, layer.width, layer.channels).permute(0, 3, 1, 2)


class GlobalPool(ElasticPrimitive):
    """The mean over the positions of a feature map or of tokens, `n x C`."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        x = inputs[0]
        return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)


ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
}

ELASTIC: Mapping[str, type[ElasticPrimitive]] = {
    "conv2d": Conv2d,
    "batch_norm": BatchNorm,
    "layer_norm": LayerNorm,
    "linear": Linear,
    "attention": Attention,
    "position": Position,
    "activation": Activation,
    "add": Add,
    "to_tokens": ToTokens,
    "to_map": ToMap,
    "global_pool": GlobalPool,
}
