"""Regularisation of a forward pass in training: drop path and dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces import Graph


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Noise:
    """Regularisation of one forward pass.

    Attributes:
        drop_path: Chance that an image goes without the last residual branch. It rises linearly
            over the branches from 0 at the images, and a branch is scaled up for the images that
            have it (Huang et al., Stochastic Depth, ECCV 2016, arXiv 1603.09382, eq. 4).
        dropout: Chance that an input of the classifier is set to 0; the others are scaled up.
        generator: The source of randomness.
    """

    drop_path: float
    dropout: float
    generator: torch.Generator

    def on_branch(self, branch: Tensor, depth: float) -> Tensor:
        """A residual branch, left out for some images; `depth` is above 0, and 1 at the last."""
        keep = 1 - self.drop_path * depth
        shape = (len(branch),) + (1,) * (branch.ndim - 1)
        kept = torch.rand(shape, generator=self.generator) < keep
        return branch * (kept.to(branch) / keep)

    def on_features(self, features: Tensor) -> Tensor:
        """The classifier's inputs, some set to 0."""
        kept = torch.rand(features.shape, generator=self.generator) >= self.dropout
        return features * (kept.to(features) / (1 - self.dropout))


class NoisyInputs:
    """What noise does to the inputs of the layers of a network.

    Args:
        noise: The noise.
        graph: The network.
    """

    def __init__(self, noise: Noise, graph: Graph) -> None:
        self._noise = noise
        self._branches = residual_branches(graph) if noise.drop_path > 0 else {}
        ends_linear = graph.layers[-1].operator == "linear"
        self._classifier = len(graph.layers) - 1 if noise.dropout > 0 and ends_linear else -1

    def __call__(self, place: int, inputs: list[Tensor]) -> list[Tensor]:
        """The inputs of the layer at a place of the graph."""
        if place in self._branches:
            k, depth = self._branches[place]
            inputs[k] = self._noise.on_branch(inputs[k], depth)
        elif place == self._classifier:
            inputs[0] = self._noise.on_features(inputs[0])
        return inputs


def residual_branches(graph: Graph) -> dict[int, tuple[int, float]]:
    """The sums of a branch and of what the branch is computed from.

    Sums of two branches are none: without one of them a part of the network would be missing.

    Returns:
        For the place of each such sum in the graph the number of the input that is the branch,
        and the branch's depth: its number, counted from 1, as a share of all.
    """
    behind: list[int] = []  # for each layer a bit for every layer that it is computed from
    found: dict[int, int] = {}
    for place, layer in enumerate(graph.layers):
        bits = 1 << place
        for source in layer.inputs:
            bits |= behind[source]
        behind.append(bits)
        if layer.operator == "add":
            shortcut, branch = sorted(range(2), key=lambda k: layer.inputs[k])
            first, last = layer.inputs[shortcut], layer.inputs[branch]
            if first != last and behind[last] >> first & 1:
                found[place] = branch
    return {place: (k, n / len(found)) for n, (place, k) in enumerate(found.items(), start=1)}
