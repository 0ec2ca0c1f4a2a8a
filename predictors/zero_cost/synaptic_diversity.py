"""DSS++: synaptic diversity of attention plus synaptic saliency of the rest, for transformers.

With absolute parameters and ones as the image, as in synflow, and R the sum of the outputs:

    sum over attention weights W of ||dR/dW||_* ||W||_*      (queries, keys, values; projection)
  + sum over all other weights w of |w dR/dw|                (patches, MLPs, classifier)

with the nuclear norm, which is small for matrices near a low rank: the rank collapse of attention.
Queries, keys and values are one matrix, as they are stored and as in the released code. On a
network without attention only the saliency is left.

Deviation: every convolution counts as saliency, also those of hybrid networks, which the paper
does not have.

Reference:
    Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, arXiv 2203.12217.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from predictors.zero_cost.probe import Batch, weighted_modules
from predictors.zero_cost.synflow import with_absolute_weights
from search_spaces import Graph
from supernet import Subnet


def dss(network: Subnet, batch: Batch) -> float:
    """The score; NaN where gradients are not finite.

    Of the batch only the size of its images and their device are read.
    """
    probe = with_absolute_weights(network)
    image = torch.ones((1, *batch.images.shape[1:]), dtype=torch.float64)
    probe(image.to(batch.images.device)).sum().backward()
    layers = zip(network.graph.layers[1:], probe.layers.values(), strict=True)
    of_attention = attention_layers(network.graph)
    diverse = {module for layer, module in layers if layer.name in of_attention}
    score = 0.0
    for module in weighted_modules(probe):
        gradient = module.weight.grad
        if gradient is None:
            continue
        if not torch.isfinite(gradient).all():
            return math.nan
        weight = module.weight.detach()
        score += diversity(weight, gradient) if module in diverse else saliency(weight, gradient)
    return score


def attention_layers(graph: Graph) -> set[str]:
    """The names of the attention layers and of the linear maps that project what they give."""
    places = {k for k, layer in enumerate(graph.layers) if layer.operator == "attention"}
    return {
        layer.name
        for k, layer in enumerate(graph.layers)
        if k in places or (layer.operator == "linear" and layer.inputs[0] in places)
    }


def diversity(weight: Tensor, gradient: Tensor) -> float:
    """The product of the nuclear norms of two matrices."""
    return float(torch.linalg.matrix_norm(gradient, "nuc")) * float(
        torch.linalg.matrix_norm(weight, "nuc")
    )


def saliency(weight: Tensor, gradient: Tensor) -> float:
    """The sum of `|w g|`."""
    return float((weight * gradient).abs().sum())
