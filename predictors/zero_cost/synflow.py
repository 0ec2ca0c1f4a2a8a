"""Synflow: how much passes through all paths of the network at once.

With every parameter replaced by its absolute value and ones as the image, let R be the sum of the
outputs. Then

    score = log10 sum_w |w dR/dw|

over the weights of convolutions, linear maps and attention. In a network of linear maps without
biases each layer contributes R itself, the sum over all paths of the product of their weights.

In double precision, for the products are beyond single; batch norm in evaluation, so that a fresh
network's is the identity (the released code leaves it out instead). Layer norm and softmax have no
paths that only add up: on transformers the score is computed but is no flow; see
`predictors.zero_cost.synaptic_diversity`.

References:
    Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic
    flow, NeurIPS 2020, arXiv 2006.05467; for whole networks Abdelfattah et al., Zero-Cost Proxies
    for Lightweight NAS, ICLR 2021, arXiv 2101.08134.
"""

from __future__ import annotations

import math

import torch

from predictors.zero_cost.probe import Batch, weighted_modules, working_copy
from supernet import Subnet


def synflow(network: Subnet, batch: Batch) -> float:
    """The decimal logarithm of the synaptic flow; -infinity where nothing passes.

    Of the batch only the size of its images and their device are read.
    """
    probe = with_absolute_weights(network)
    image = torch.ones((1, *batch.images.shape[1:]), dtype=torch.float64)
    probe(image.to(batch.images.device)).sum().backward()
    flow = sum(
        float((module.weight.detach() * module.weight.grad).abs().sum())
        for module in weighted_modules(probe)
        if module.weight.grad is not None
    )
    return math.log10(flow) if flow > 0 else -math.inf


@torch.no_grad()
def with_absolute_weights(network: Subnet) -> Subnet:
    """A copy in evaluation and double precision, of absolute parameters and statistics."""
    probe = working_copy(network).double().eval()
    for value in probe.state_dict().values():
        value.abs_()
    return probe
