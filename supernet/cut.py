"""The weights of one network cut from the shared ones, and the way back of their gradients.

Autograd through slices writes the gradient of every slice into zeros of the largest size, once for
each shard and member, and through derived weights (smaller kernels, stacked projections) it goes
with every shard. So a network's weights are cut once a member and are leaves of autograd: forward
and backward passes then cost what they cost for a network of its own. Summed over the shards, the
gradients go back: those of slices, and of stacks of slices, into their places, the others by one
more backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from search_spaces import Layer
from supernet.elastic import ElasticPrimitive, Weights

Geometry: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], int]
"""Size, strides and offset of a slice in the memory of its parameter."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The gradient of a parameter, or of a slice of it.

    Attributes:
        parameter: Whose gradient.
        geometry: Where the slice lies; None for all of the parameter.
        gradient: Of the slice.
    """

    parameter: nn.Parameter
    geometry: Geometry | None
    gradient: Tensor


class LayerCut:
    """The weights of one layer as leaves of autograd.

    Args:
        layer: The layer.
        primitive: Holds the shared weights.
        parameters: These weights.
    """

    __slots__ = ("_is_slice", "_layer", "_memory", "_places", "_primitive", "parameters", "slices")

    def __init__(
        self, layer: Layer, primitive: ElasticPrimitive, parameters: tuple[nn.Parameter, ...]
    ) -> None:
        self._layer, self._primitive, self.parameters = layer, primitive, parameters
        self._is_slice = primitive.is_slice(layer)
        self._memory: list[int] | None = None

    def cut(self) -> tuple[Weights, list[Tensor]]:
        """The weights as leaves; and, where they are derived, as functions of the shared ones.

        Slices are cut once; where the shared weights were moved in memory they are cut anew.
        """
        memory = [p.data_ptr() for p in self.parameters]
        if memory != self._memory:
            self._memory = memory
            with torch.enable_grad():
                stacks = self._primitive.stacks(self._layer)
                self._places = None if stacks is None else [
                    [_place(part) for part in parts] for parts in stacks.values()
                ]  # fmt: skip
                if self._is_slice:
                    self.slices = _leaves(self._primitive.weights(self._layer))
        if self._is_slice:
            return self.slices, []
        with torch.set_grad_enabled(self._places is None):
            weights = self._primitive.weights(self._layer)
        return _leaves(weights), list(weights.values()) if self._places is None else []

    def pieces(self, gradients: Sequence[Tensor | None]) -> list[Piece]:
        """Where the gradients of weights belong that are slices, or stacks of slices."""
        found: list[Piece] = []
        for places, gradient in zip(self._places or (), gradients, strict=True):
            if gradient is None:
                continue
            start = 0
            for parameter, geometry in places:
                shape = parameter.shape if geometry is None else geometry[0]
                part = gradient
                if len(places) > 1:
                    rows = math.prod(shape) // math.prod(gradient.shape[1:])
                    part = gradient[start : start + rows].reshape(shape)
                    start += rows
                found.append(Piece(parameter, geometry, part))
        return found


class NetworkCut:
    """The weights of one network as leaves of autograd.

    Args:
        layers: Of its layers behind the input, in their order.
    """

    def __init__(self, layers: Sequence[LayerCut]) -> None:
        cuts = [layer.cut() for layer in layers]
        self.weights = [weights for weights, _ in cuts]
        self.leaves = [leaf for weights in self.weights for leaf in weights.values()]
        self._layers = list(zip(layers, self.weights, (d for _, d in cuts), strict=True))

    def pull_back(self, gradients: Sequence[Tensor | None]) -> list[Piece]:
        """The gradients of the shared weights.

        Args:
            gradients: Of `leaves`; None for a leaf that nothing depends on.
        """
        pieces: list[Piece] = []
        outputs: list[Tensor] = []
        given: list[Tensor] = []
        parameters: list[nn.Parameter] = []
        start = 0
        for layer, weights, derived in self._layers:
            own = gradients[start : start + len(weights)]
            start += len(weights)
            if not derived:
                pieces += layer.pieces(own)
                continue
            parameters += layer.parameters
            for output, gradient in zip(derived, own, strict=True):
                if gradient is not None:
                    outputs.append(output)
                    given.append(gradient)
        if outputs:
            found = torch.autograd.grad(outputs, parameters, given, allow_unused=True)
            pairs = zip(parameters, found, strict=True)
            pieces += [Piece(p, None, gradient) for p, gradient in pairs if gradient is not None]
        return pieces


def _leaves(weights: Weights) -> Weights:
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def _place(weight: Tensor) -> tuple[nn.Parameter, Geometry | None]:
    """The parameter that a slice is cut from, and where in it the slice lies."""
    parameter = weight if weight._base is None else weight._base
    assert isinstance(parameter, nn.Parameter)
    if weight.shape == parameter.shape and weight.stride() == parameter.stride():
        return parameter, None
    offset = int(weight.storage_offset()) - int(parameter.storage_offset())
    return parameter, (tuple(weight.shape), weight.stride(), offset)
