"""Weight sharing: a set of elastic primitives that runs any network cut from them.

`Supernet` binds it to a search space. A network trained by itself is the same machinery with one
variant a layer (`supernet.alone`), so both are trained by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from records import BadInputError, array_hash
from search_spaces import Graph, Layer
from supernet.cut import LayerCut, NetworkCut
from supernet.elastic import ELASTIC, ElasticPrimitive, Weights
from supernet.noise import Noise, NoisyInputs
from supernet.subnet import Subnet

MOST_PLANS = 512

Statistics: TypeAlias = Mapping[str, Weights]
"""For each batch-norm layer of one subnet its `running_mean` and `running_var`."""


class Operation:
    """A layer bound to its primitive.

    Without gradients, weights that are slices are cut once: a slice sees all later changes of the
    weights that it is cut from. Where these were moved in memory they are cut anew.
    """

    __slots__ = (
        "_cut", "_is_slice", "_parameters", "_places", "is_norm", "layer", "leaves", "primitive",
        "sources",
    )  # fmt: skip

    def __init__(self, layer: Layer, primitive: ElasticPrimitive) -> None:
        self.layer = layer
        self.primitive = primitive
        self.sources = layer.inputs
        self.is_norm = layer.operator == "batch_norm"
        self._parameters = tuple(primitive.parameters())
        self._is_slice = primitive.is_slice(layer)
        self._places: list[int] = []
        self._cut: Weights = {}
        self.leaves = LayerCut(layer, primitive, self._parameters)

    def weights(self) -> Weights:
        """The layer's weights."""
        parameters = self._parameters
        if not self._is_slice or torch.is_grad_enabled():
            return self.primitive.weights(self.layer)
        places = [p.data_ptr() for p in parameters]
        if places != self._places:
            self._cut = self.primitive.weights(self.layer)
            self._places = places
        return self._cut


class ElasticNetwork(nn.Module):
    """Elastic primitives by layer name.

    Batch-norm statistics are never part of it: a network's are computed by `recalibrate` and
    passed in, so no network spoils another's.

    Args:
        layers: For every declared layer its name, primitive and distinct variants.
        seed: Seed of the initial weights.
    """

    def __init__(self, layers: Iterable[tuple[str, str, Sequence[Layer]]], *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        modules: dict[str, ElasticPrimitive] = {}
        for name, operator, variants in layers:
            module = ELASTIC[operator](variants)
            module.reset(generator)
            modules[module_name(name)] = module
        self.primitives = nn.ModuleDict(modules)
        self._plans: dict[int, tuple[Graph, list[Operation]]] = {}

    def primitive(self, layer: Layer) -> ElasticPrimitive:
        """The shared weights that a layer's are cut from."""
        module = self.primitives[module_name(layer.name)]
        assert isinstance(module, ElasticPrimitive)
        return module

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
        """Logits `n x classes` of the network of a graph.

        Args:
            images: `n x channels x height x width`.
            graph: The network's layers.
            statistics: Its batch-norm statistics; where missing, those of this batch are used.
            noise: Regularisation in training.
            seen: Collects mean and variance of every batch norm's input, which then normalises
                with them.
            cut: The network's weights; cut out of the shared ones unless given.
        """
        first = graph.layers[0]
        if images.shape[1:] != (first.channels, first.height, first.width):
            raise BadInputError(
                f"images must be n x {first.channels} x {first.height} x {first.width}, "
                f"got shape {tuple(images.shape)}"
            )
        outputs = [images]
        noisy = None if noise is None else NoisyInputs(noise, graph)
        for place, operation in enumerate(self._plan(graph)):
            layer, primitive = operation.layer, operation.primitive
            inputs = [outputs[i] for i in operation.sources]
            weights = operation.weights() if cut is None else cut.weights[place]
            if operation.is_norm:
                if statistics and layer.name in statistics:
                    weights = {**weights, **statistics[layer.name]}
                if seen is not None:
                    mean, variance = weights["weight"].new_zeros((2, layer.channels))
                    weights = {**weights, "seen_mean": mean, "seen_var": variance}
                    seen.setdefault(layer.name, []).append((mean, variance))
            if noisy is not None:
                inputs = noisy(len(outputs), inputs)
            outputs.append(primitive.run(layer, inputs, weights))
        return outputs[-1]

    def cut(self, graph: Graph) -> NetworkCut:
        """The weights of the network of a graph as leaves of autograd."""
        return NetworkCut([operation.leaves for operation in self._plan(graph)])

    def program(self, graph: Graph) -> Callable[[Tensor], Tensor]:
        """The network of a graph as a function from images to logits, for `torch.compile`.

        It holds its own layers, so nothing that this network remembers can make it compile again.
        """
        operations = self._plan(graph)

        def run(images: Tensor) -> Tensor:
            outputs = [images]
            for operation in operations:
                layer, primitive = operation.layer, operation.primitive
                inputs = [outputs[i] for i in operation.sources]
                outputs.append(primitive.run(layer, inputs, primitive.weights(layer)))
            return outputs[-1]

        # what is compiled is kept with the code object, a few versions for each
        run.__code__ = run.__code__.replace()
        return run

    def _plan(self, graph: Graph) -> list[Operation]:
        """The layers behind the input with their primitives; recent graphs are remembered."""
        known = self._plans.get(id(graph))
        if known is None or known[0] is not graph:
            plan = [Operation(layer, self.primitive(layer)) for layer in graph.layers[1:]]
            known = self._plans[id(graph)] = graph, plan
            while len(self._plans) > MOST_PLANS:
                self._plans.pop(next(iter(self._plans)), None)
        return known[1]

    @torch.no_grad()
    def recalibrate_graph(self, graph: Graph, batches: Iterable[Tensor]) -> Statistics:
        """Batch-norm statistics of a network, see `Supernet.recalibrate`."""
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
        counts: list[int] = []
        if any(layer.operator == "batch_norm" for layer in graph.layers):
            for images in batches:
                self.run(images, graph, seen=seen)
                counts.append(len(images))
            if not seen:
                raise BadInputError("recalibration needs at least one batch of images")
        return {
            name: {
                "running_mean": _weighted([mean for mean, _ in values], counts),
                "running_var": _weighted([variance for _, variance in values], counts),
            }
            for name, values in seen.items()
        }

    @torch.no_grad()
    def extract_graph(self, graph: Graph, statistics: Statistics | None = None) -> Subnet:
        """A network as a plain module, see `Supernet.extract`."""
        weights: dict[str, Tensor] = {}
        for layer in graph.layers[1:]:
            parts = dict(self.primitive(layer).weights(layer))
            if layer.operator == "batch_norm":
                if statistics is None or layer.name not in statistics:
                    raise BadInputError(
                        f"layer {layer.name!r} has no batch-norm statistics: call "
                        "supernet.recalibrate(architecture, batches) and pass the result"
                    )
                parts.update(statistics[layer.name], num_batches_tracked=torch.tensor(0))
            for name, value in parts.items():
                weights[f"layers.{module_name(layer.name)}.{name}"] = value.detach().clone(
                    memory_format=torch.contiguous_format
                )
        return Subnet(graph, weights).eval()

    def weights_hash(self) -> str:
        """Identifies the shared weights."""
        return array_hash({k: v.detach().cpu().numpy() for k, v in self.state_dict().items()})


def module_name(layer: str) -> str:
    """A layer's name as torch allows it in modules, without dots."""
    return layer.replace(".", "_")


def _weighted(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """The mean of tensors of one shape, weighted by counts."""
    shares = torch.tensor(counts) / sum(counts)
    return torch.stack(list(values), dim=-1) @ shares.to(values[0])
