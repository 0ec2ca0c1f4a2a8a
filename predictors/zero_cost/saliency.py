"""Gradients of the loss of one minibatch at the initial weights: grad_norm and snip.

    grad_norm = sum over layers of the Euclidean norm of dL/dw
    snip      = sum over weights of |w dL/dw|

with L the cross entropy of the batch, over the weights of convolutions, linear maps and attention.
Batch norm works on the batch, as in the released code.

References:
    Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv 2101.08134; snip:
    Lee et al., SNIP: Single-shot Network Pruning based on Connection Sensitivity, ICLR 2019,
    arXiv 1810.02340 (there the gradient by a mask on the weights, which is the same).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from predictors.zero_cost.probe import Batch, weighted_modules, working_copy
from supernet import Subnet


def grad_norm(network: Subnet, batch: Batch) -> float:
    """The sum of the layers' gradient norms."""
    return sum(float(gradient.norm()) for _, gradient in weights_and_gradients(network, batch))


def snip(network: Subnet, batch: Batch) -> float:
    """The sum of the connections' sensitivities."""
    pairs = weights_and_gradients(network, batch)
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in pairs)


def weights_and_gradients(network: Subnet, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Each layer's weight and the loss's gradient; layers that no gradient reaches are left out.

    The network itself gets no gradients.
    """
    probe = working_copy(network)
    loss: Tensor = F.cross_entropy(probe(batch.images), batch.labels)
    torch.autograd.backward(loss)
    return [
        (module.weight.detach(), module.weight.grad)
        for module in weighted_modules(probe)
        if module.weight.grad is not None
    ]
