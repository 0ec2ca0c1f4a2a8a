"""What every elastic primitive offers: its weights, how it runs, how it starts, how it is set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from records import BadInputError
from search_spaces import Layer

Weights: TypeAlias = Mapping[str, Tensor]


class ElasticPrimitive(nn.Module, ABC):
    """The shared weights of one declared layer.

    Args:
        variants: The distinct variants of the layer in the space, in no order.
    """

    def __init__(self, variants: Sequence[Layer]) -> None:
        super().__init__()

    def weights(self, layer: Layer) -> Weights:
        """The weights of a variant, as the static module names them; none by default."""
        return {}

    def is_slice(self, layer: Layer) -> bool:
        """Whether `weights` are slices that share memory with the largest weights."""
        return False

    def stacks(self, layer: Layer) -> Mapping[str, Sequence[Tensor]] | None:
        """For each weight the slices whose rows are its rows, one slice after the other.

        Their gradients then go straight to their places. None, the default for all but slices,
        where the weights are made in another way; the way back is then left to autograd.
        """
        if not self.is_slice(layer):
            return None
        return {name: [weight] for name, weight in self.weights(layer).items()}

    @abstractmethod
    def run(self, layer: Layer, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        """Applies the primitive to inputs of shape `n x C x H x W` or `n x tokens x C`."""

    def reset(self, generator: torch.Generator) -> None:
        """Draws initial weights; nothing to draw by default."""

    @torch.no_grad()
    def set_weights(self, layer: Layer, weights: Weights) -> None:
        """Writes a variant's weights into the shared ones, for example pretrained ones.

        By default the slices that `weights` gives are written; a primitive whose `weights` are no
        slices overrides this.

        Raises:
            BadInputError: A weight that is missing, superfluous or of another shape, named.
        """
        own = self.weights(layer)
        check_shapes(layer, own, weights)
        for name, slice_ in own.items():
            slice_.copy_(weights[name])


def check_shapes(layer: Layer, own: Weights, given: Weights) -> None:
    """Refuses weights that are not those of a layer.

    Raises:
        BadInputError: Names or shapes that differ.
    """
    if set(own) != set(given):
        raise BadInputError(
            f"layer {layer.name!r} has the weights {sorted(own)}, got {sorted(given)}"
        )
    for name, value in own.items():
        if given[name].shape != value.shape:
            raise BadInputError(
                f"{name} of layer {layer.name!r} has shape {tuple(value.shape)}, "
                f"got {tuple(given[name].shape)}"
            )


def largest(variants: Sequence[Layer], *names: str) -> list[int]:
    """The greatest value of each attribute over the variants."""
    return [max(getattr(v, name) for v in variants) for name in names]
