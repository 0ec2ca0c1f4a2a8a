"""Linear maps with elastic input and output width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Layer
from supernet.elastic.primitive import ElasticPrimitive, Weights, largest


class Linear(ElasticPrimitive):
    """A linear map of every token, or of one vector an image."""

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        channels, in_channels = largest(variants, "channels", "in_channels")
        self.weight = nn.Parameter(torch.empty(channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if variants[0].bias else None

    def reset(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5, generator=generator)

    def weights(self, layer: Layer) -> Weights:
        weight = self.weight[: layer.channels, : layer.in_channels]
        if self.bias is None:
            return {"weight": weight}
        return {"weight": weight, "bias": self.bias[: layer.channels]}

    def is_slice(self, layer: Layer) -> bool:
        return True

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return F.linear(inputs[0], weights["weight"], weights.get("bias"))
