"""What the proxies share: a batch, a copy of the network to work on, its weights, its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from records import torch_seed
from search_spaces import Graph
from supernet import Subnet
from supernet.static import SelfAttention

POOLING = "global_pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One minibatch, and the seed of all that a proxy draws.

    Attributes:
        images: `n x channels x height x width`; proxies work on the device that holds them.
        labels: `n` classes.
        seed: Equal seeds give equal scores.
    """

    images: Tensor
    labels: Tensor
    seed: int = 0

    def generator(self, purpose: str) -> torch.Generator:
        """A stream for one purpose; on the processor, so that every device sees the same."""
        return torch.Generator().manual_seed(torch_seed(self.seed, "zero cost", purpose))

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal images, `n` of the batch's size."""
        drawn = torch.randn((n, *self.images.shape[1:]), generator=generator)
        return drawn.to(self.images.device)


Proxy: TypeAlias = Callable[[Subnet, Batch], float]
"""A score of a network, larger for one that is predicted to be better; the network stays as it
was. NaN or infinite where the network has none."""


def working_copy(network: Subnet) -> Subnet:
    """A network of the same layers with weights of its own, in training mode, without gradients.

    Every proxy works on such a copy: no sign, mode, statistic or gradient of the network that it
    was given can be left changed, also not by an error on the way.
    """
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return Subnet(network.graph, state).train()


def weighted_modules(network: nn.Module) -> list[nn.Conv2d | nn.Linear | SelfAttention]:
    """The modules whose `weight` multiplies channels: convolutions, linear maps, attention.

    Normalisation, biases, position embeddings and learned scales are left out, as in the released
    code of the proxies.
    """
    kinds = (nn.Conv2d, nn.Linear, SelfAttention)
    return [module for module in network.modules() if isinstance(module, kinds)]


@torch.no_grad()
def draw_weights(network: nn.Module, generator: torch.Generator, *, gain: float | None) -> None:
    """Draws normal weights for all weighted modules; their biases become 0.

    Args:
        network: Changed in place.
        generator: The source of randomness.
        gain: The variance is `gain / inputs of a unit`; 1 for every weight where it is None.
    """
    for module in weighted_modules(network):
        weight = module.weight
        std = 1.0 if gain is None else (gain / weight[0].numel()) ** 0.5
        weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        if module.bias is not None:
            module.bias.zero_()


def features(network: Subnet, images: Tensor, *, pooled: bool) -> Tensor:
    """What a network computes up to its last pooling over all positions.

    Args:
        network: Run in its present mode.
        images: `n x channels x height x width`.
        pooled: Whether the pooling is done too.

    Returns:
        The map or tokens that are pooled, or their means; where nothing is pooled so, what the
        last layer reads.
    """
    stop = _features_end(network.graph, pooled)
    outputs = [images]
    pairs = zip(network.graph.layers[1 : stop + 1], network.layers.values(), strict=False)
    for layer, module in pairs:
        outputs.append(module(*(outputs[i] for i in layer.inputs)))
    return outputs[stop]


def _features_end(graph: Graph, pooled: bool) -> int:
    """The place of the layer whose output are the features."""
    pools = [k for k, layer in enumerate(graph.layers) if layer.operator == POOLING]
    if not pools:
        return graph.layers[-1].inputs[0]
    return pools[-1] if pooled else graph.layers[pools[-1]].inputs[0]
