"""Per-channel primitives: batch and layer normalisation, learned scaling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Layer
from supernet.elastic.primitive import ElasticPrimitive, Weights, largest
from supernet.functions import scale

BATCH_NORM_EPSILON = 1e-5
LAYER_NORM_EPSILON = 1e-5
INITIAL_SCALE = 1e-4


class _Norm(ElasticPrimitive):
    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        (channels,) = largest(variants, "channels")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def weights(self, layer: Layer) -> Weights:
        return {"weight": self.weight[: layer.channels], "bias": self.bias[: layer.channels]}

    def is_slice(self, layer: Layer) -> bool:
        return True


class BatchNorm(_Norm):
    """Batch normalisation with elastic channels; statistics are not among the weights.

    Without statistics among the weights it normalises with those of the batch, and writes them,
    the variance unbiased, into `seen_mean` and `seen_var` if these are there.
    """

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        is_seen = "seen_mean" in weights
        mean = weights.get("seen_mean" if is_seen else "running_mean")
        return F.batch_norm(
            inputs[0],
            mean,
            weights.get("seen_var" if is_seen else "running_var"),
            weights["weight"],
            weights["bias"],
            training=is_seen or mean is None,
            momentum=1.0,  # what is written is this batch's alone
            eps=BATCH_NORM_EPSILON,
        )


class LayerNorm(_Norm):
    """Layer normalisation of tokens with elastic channels."""

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        shape = (layer.channels,)
        return F.layer_norm(
            inputs[0], shape, weights["weight"], weights["bias"], LAYER_NORM_EPSILON
        )


class Scale(ElasticPrimitive):
    """A learned factor per channel, one vector of them for each slot; they start small.

    Subnets with different slots share nothing here, so a large and a small network may weigh the
    same branch differently (Gong et al., NASViT, ICLR 2022).
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__(variants)
        slot, channels = largest(variants, "slot", "channels")
        self.factors = nn.Parameter(torch.full((slot + 1, channels), INITIAL_SCALE))

    def weights(self, layer: Layer) -> Weights:
        return {"weight": self.factors[layer.slot, : layer.channels]}

    def is_slice(self, layer: Layer) -> bool:
        return True

    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return scale(inputs[0], weights["weight"])
