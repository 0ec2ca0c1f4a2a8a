"""A network that computes as its static int8 file does, in torch and with gradients.

The file rounds the weights of convolutions and linear maps, norms folded in, and the values that
these layers read and write. `FakeQuantised` rounds the same numbers to the same steps and
computes in single precision in between, which is what the file does but for the rounding of sums.
Gradients pass a rounding as if it were not there, and stop where a value lies outside of the range
(straight-through estimator; Bengio et al., 2013, arXiv 1308.3432; Jacob et al., CVPR 2018, arXiv
1712.05877; Krishnamoorthi, 2018, arXiv 1806.08342). Norms keep the statistics that they have, as
in the file: with those of a batch, weights would be rounded that no file has.

Not rounded here, though the file rounds them: the products inside linear attention and those of a
resizing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from records import BadInputError, unknown_name
from search_spaces import Graph
from supernet.channels_last import channels_last
from supernet.cut import NetworkCut
from supernet.elastic import Weights
from supernet.folding import fold, foldable
from supernet.network import ElasticNetwork, Statistics, module_name
from supernet.noise import Noise, NoisyInputs
from supernet.reparameterisation import reparameterise
from supernet.subnet import Subnet

CALIBRATION_BATCH = 64
"""Images a run while ranges are read; the ranges do not depend on it."""

ROUNDED = ("conv2d", "linear")
"""Primitives whose weights, inputs and outputs the file rounds."""

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Scheme:
    """How a static int8 file rounds.

    A weight channel is `scale * q`, `q` in `-weight_steps .. weight_steps`, `scale` its largest
    absolute weight divided by `weight_steps`. An activation tensor is `scale * (q - zero)`, `q` in
    `0 .. activation_steps`, its range the smallest and largest value over the calibration images,
    0 included.

    Attributes:
        weight_steps: 64 leaves one of the 8 bits unused, which processors without VNNI need.
        activation_steps: Of all 8 bits.
        fp32_blocks: Names of layers, blocks or stages that the file leaves in fp32. A layer is in
            a block whose name it has, or goes on behind with a dot.

    Raises:
        BadInputError: Fewer steps than one, or more than 8 bits hold.
    """

    weight_steps: int = 64
    activation_steps: int = 255
    fp32_blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, most in (("weight_steps", 127), ("activation_steps", 255)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise BadInputError(f"{name} must be 1 to {most}, got {value}")

    def to_json(self) -> dict[str, Any]:
        """The scheme by names."""
        return {**asdict(self), "fp32_blocks": list(self.fp32_blocks)}


class FakeQuantised(ElasticNetwork):
    """A subnet's weights and statistics, run as in its int8 file; trainable.

    Sums of convolutions of one input are one convolution, as in the file (`reparameterise`).

    Call `calibrate` before anything else; and again when the weights have changed, since the file
    is calibrated with the weights that it gets.

    Args:
        subnet: The network in eval mode; it stays as it is.
        scheme: How the file rounds.

    Raises:
        UnknownNameError: A name to be left in fp32 that no convolution or linear map has.
    """

    def __init__(self, subnet: Subnet, scheme: Int8Scheme | None = None) -> None:
        subnet = reparameterise(subnet)  # as in the file
        graph = subnet.graph
        super().__init__([(la.name, la.operator, [la]) for la in graph.layers[1:]], seed=0)
        self.graph = graph
        self.scheme = scheme or Int8Scheme()
        self.statistics: Statistics = take_weights(self, subnet)
        self.chains = foldable(graph.layers)
        self._into = {i: main for main, chain in self.chains.items() for i in chain}
        self._rounded = _rounded_layers(graph, self.scheme)
        self._marked = self._values_at(self._rounded)
        self._steps: dict[int, tuple[float, int]] = {}

    def _values_at(self, layers: frozenset[int]) -> frozenset[int]:
        """The layers whose outputs are read or written by some layers, norms folded in."""
        sources = {source for index in layers for source in self.graph.layers[index].inputs}
        return frozenset(self._into.get(index, index) for index in sources | layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `n x classes` as the int8 file computes them."""
        return self.run(images, self.graph)

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Sets the ranges of activations from images, on which the network runs in fp32.

        Args:
            images: Training images `n x channels x height x width`; the same as for the file.

        Raises:
            BadInputError: No images, or values that are not finite.
        """
        if len(images) == 0:
            raise BadInputError("calibration needs at least one image, got none")
        ends: dict[int, tuple[float, float]] = {}

        def note(index: int, x: Tensor) -> Tensor:
            if index in self._marked:
                low, high = (float(end) for end in torch.aminmax(x))
                before = ends.get(index, (0.0, 0.0))  # 0 is always in the range
                ends[index] = (min(low, before[0]), max(high, before[1]))
                if not (math.isfinite(low) and math.isfinite(high)):
                    raise BadInputError(
                        "calibration met a value that is not finite at layer "
                        f"{self.graph.layers[index].name!r}"
                    )
            return x

        device = next(self.parameters()).device
        for batch in torch.split(images, CALIBRATION_BATCH):
            batch = channels_last(batch.to(device))
            self._walk(batch, self._plain_weights(None), note, _unchanged)
        self._steps = {index: self._step(*pair) for index, pair in ends.items()}

    def _step(self, low: float, high: float) -> tuple[float, int]:
        """Scale and zero point of a range."""
        scale = (high - low) / self.scheme.activation_steps
        if scale < _TINY:
            return 1.0, 0
        return scale, round(-low / scale)

    def run(
        self,
        images: Tensor,
        graph: Graph,
        statistics: Statistics | None = None,
        *,
        noise: Noise | None = None,
        seen: dict[str, list[tuple[Tensor, Tensor]]] | None = None,
        cut: NetworkCut | None = None,
    ) -> Tensor:
        """Logits `n x classes`; the arguments are those of every elastic network.

        Raises:
            BadInputError: The ranges are not known yet.
        """
        if not self._steps:
            raise BadInputError("the ranges of activations are not known: call calibrate(images)")
        noisy = None if noise is None else NoisyInputs(noise, graph)
        return self._walk(
            images, self._plain_weights(cut), self._round, self._round_weights, noisy
        )

    def _plain_weights(self, cut: NetworkCut | None) -> list[Weights]:
        """The weights of every layer behind the input, with the statistics of norms."""
        plan = self._plan(self.graph)
        weights = [op.weights() for op in plan] if cut is None else cut.weights
        found: list[Weights] = []
        for operation, own in zip(plan, weights, strict=True):
            known = self.statistics.get(operation.layer.name, {})
            found.append({**own, **{name: v.to(own["weight"]) for name, v in known.items()}})
        return found

    def _walk(
        self,
        images: Tensor,
        weights: list[Weights],
        change: Callable[[int, Tensor], Tensor],
        change_weights: Callable[[int, Tensor, Tensor | None], tuple[Tensor, Tensor | None]],
        noisy: NoisyInputs | None = None,
    ) -> Tensor:
        """Runs all layers, folded as in the file.

        Args:
            images: What the network reads.
            weights: Of every layer behind the input.
            change: What becomes of the output of a layer.
            change_weights: What becomes of weight and bias of a convolution or linear map.
            noisy: Regularisation.
        """
        values = [change(0, images)]
        for index, operation in enumerate(self._plan(self.graph), start=1):
            if index in self._into:
                values.append(values[self._into[index]])
                continue
            inputs = [values[source] for source in operation.sources]
            if noisy is not None:
                inputs = noisy(index, inputs)
            own = weights[index - 1]
            if operation.layer.operator in ROUNDED:
                after = [weights[i - 1] for i in self.chains.get(index, ())]
                own = _named(*change_weights(index, *fold(own["weight"], own.get("bias"), after)))
            values.append(change(index, operation.primitive.run(operation.layer, inputs, own)))
        return values[-1]

    def _round(self, index: int, x: Tensor) -> Tensor:
        """An activation rounded as in the file, if it is there."""
        if index not in self._marked:
            return x
        scale, zero = self._steps[index]
        return torch.fake_quantize_per_tensor_affine(
            x, scale, zero, 0, self.scheme.activation_steps
        )

    def _round_weights(
        self, index: int, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """A weight rounded channel by channel; a bias to the steps of the sums."""
        if index not in self._rounded:
            return weight, bias
        steps = self.scheme.weight_steps
        scale = weight.detach().abs().flatten(1).amax(1) / steps
        scale = torch.where(scale < _TINY, torch.ones_like(scale), scale)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -steps, steps)
        if bias is not None:
            (source,) = self.graph.layers[index].inputs
            sums = scale * self._steps[self._into.get(source, source)][0]
            bias = bias + ((bias / sums).round() * sums - bias).detach()
        return weight, bias


def take_weights(network: ElasticNetwork, subnet: Subnet) -> Statistics:
    """Writes a subnet's weights into a network of the same layers; returns its statistics."""
    statistics: dict[str, Weights] = {}
    for layer in subnet.graph.layers[1:]:
        state = subnet.layers[module_name(layer.name)].state_dict()
        state.pop("num_batches_tracked", None)
        own = {name: value.detach().clone() for name, value in state.items()}
        if layer.operator == "batch_norm":
            statistics[layer.name] = {
                name: own.pop(name) for name in ("running_mean", "running_var")
            }
        network.primitive(layer).set_weights(layer, own)
    return statistics


def _rounded_layers(graph: Graph, scheme: Int8Scheme) -> frozenset[int]:
    """The convolutions and linear maps that the file rounds."""
    there = {layer.name: i for i, layer in enumerate(graph.layers) if layer.operator in ROUNDED}
    kept: set[str] = set()
    for block in scheme.fp32_blocks:
        own = {name for name in there if name == block or name.startswith(f"{block}.")}
        if not own:
            raise unknown_name("layer, block or stage to leave in fp32", block, there)
        kept |= own
    return frozenset(i for name, i in there.items() if name not in kept)


def _unchanged(index: int, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return weight, bias


def _named(weight: Tensor, bias: Tensor | None) -> Mapping[str, Tensor]:
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
