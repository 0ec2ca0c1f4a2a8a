"""The supernet: all subnets of a space in one set of shared weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from records import BadInputError, array_hash
from search_spaces import Architecture, Graph, Layer, SearchSpace
from search_spaces.primitives import ATTRIBUTES
from supernet.elastic import ELASTIC, BatchNorm, ElasticPrimitive, Weights
from supernet.subnet import Subnet

if TYPE_CHECKING:
    from supernet.data import ImageData
    from supernet.evaluation import SupernetEvaluator

Statistics: TypeAlias = Mapping[str, Weights]
"""For each batch-norm layer of one subnet its `running_mean` and `running_var`."""

ArchitectureLike: TypeAlias = Architecture | npt.NDArray[np.int16] | Graph


class Supernet(nn.Module):
    """The weight-sharing network of a search space.

    A subnet is run with `supernet(images, architecture)`, where the architecture is an
    `Architecture`, a row of genes or a `Graph`. Batch-norm statistics are never part of the
    supernet: a subnet's are computed by `recalibrate` and passed in, so no subnet spoils
    another's.

    Args:
        space: The search space.
        seed: Seed of the initial weights.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        generator = torch.Generator().manual_seed(seed)
        modules: dict[str, ElasticPrimitive] = {}
        for name, operator, variants in _variants(space):
            module = ELASTIC[operator](variants)
            module.reset(generator)
            modules[name.replace(".", "_")] = module
        self.primitives = nn.ModuleDict(modules)
        self._graphs: OrderedDict[bytes, Graph] = OrderedDict()

    def graph(self, architecture: ArchitectureLike) -> Graph:
        """The layers of a subnet; recent ones are remembered."""
        if isinstance(architecture, Graph):
            return architecture
        if isinstance(architecture, Architecture):
            return self.space.graph(architecture)
        key = np.ascontiguousarray(architecture, np.int16).tobytes()
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self.space.graph(architecture)
            if len(self._graphs) > 256:
                self._graphs.popitem(last=False)
        return graph

    def forward(
        self, images: Tensor, architecture: ArchitectureLike, statistics: Statistics | None = None
    ) -> Tensor:
        """Logits `n x classes` of a subnet.

        Args:
            images: `n x channels x height x width`.
            architecture: The subnet.
            statistics: Its batch-norm statistics; None normalises with those of this batch.
        """
        return self._run(images, self.graph(architecture), statistics or {}, None)

    def _run(
        self,
        images: Tensor,
        graph: Graph,
        statistics: Statistics,
        seen: dict[str, list[tuple[Tensor, Tensor]]] | None,
    ) -> Tensor:
        first = graph.layers[0]
        if images.shape[1:] != (first.channels, first.height, first.width):
            raise BadInputError(
                f"images must be n x {first.channels} x {first.height} x {first.width}, "
                f"got shape {tuple(images.shape)}"
            )
        outputs = [images]
        for layer in graph.layers[1:]:
            primitive = self.primitive(layer)
            inputs = [outputs[i] for i in layer.inputs]
            weights = primitive.weights(layer)
            if layer.name in statistics:
                weights = {**weights, **statistics[layer.name]}
            if seen is not None and isinstance(primitive, BatchNorm):
                variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
                seen.setdefault(layer.name, []).append((mean, variance))
            outputs.append(primitive.run(layer, inputs, weights))
        return outputs[-1]

    def primitive(self, layer: Layer) -> ElasticPrimitive:
        """The shared weights that a layer's are cut from."""
        module = self.primitives[layer.name.replace(".", "_")]
        assert isinstance(module, ElasticPrimitive)
        return module

    @torch.no_grad()
    def recalibrate(self, architecture: ArchitectureLike, batches: Iterable[Tensor]) -> Statistics:
        """A subnet's batch-norm statistics: the mean over batches of training images.

        The supernet stays as it is. Use a few large batches; each is normalised by its own
        statistics on the way and counts by its number of images (Cai et al., 2020). Networks
        without batch norm need none.
        """
        graph = self.graph(architecture)
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
        counts: list[int] = []
        if any(layer.operator == "batch_norm" for layer in graph.layers):
            for images in batches:
                self._run(images, graph, {}, seen)
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
    def extract(
        self, architecture: ArchitectureLike, statistics: Statistics | None = None
    ) -> Subnet:
        """The subnet as a plain module with its own copy of the weights, in eval mode.

        Args:
            architecture: The subnet.
            statistics: Its batch-norm statistics, required where it has batch norm.
        """
        graph = self.graph(architecture)
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
                key = f"layers.{layer.name.replace('.', '_')}.{name}"
                weights[key] = value.detach().clone()
        return Subnet(graph, weights).eval()

    def evaluator(self, data: ImageData) -> SupernetEvaluator:
        """Measures subnets of this supernet on a dataset's search-validation split."""
        from supernet.evaluation import SupernetEvaluator

        return SupernetEvaluator(self, data)

    def weights_hash(self) -> str:
        """Identifies the shared weights."""
        return array_hash({k: v.detach().cpu().numpy() for k, v in self.state_dict().items()})


def _weighted(values: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """The mean of tensors of one shape, weighted by counts."""
    shares = torch.tensor(counts) / sum(counts)
    return torch.stack(list(values), dim=-1) @ shares.to(values[0])


def _variants(space: SearchSpace) -> list[tuple[str, str, Sequence[Layer]]]:
    """For every declared layer its name, primitive and distinct variants in the space."""
    table = space.layers
    columns = table.columns
    row_of = table.row_of_variant()
    found: list[tuple[str, str, Sequence[Layer]]] = []
    for r, node in enumerate(space.nodes):
        if node.operator == "input":
            continue
        there = np.flatnonzero((row_of == r) & (columns["active"] > 0))
        sizes = np.unique(np.stack([columns[name][there] for name in ATTRIBUTES], axis=1), axis=0)
        variants = [
            Layer(
                name=node.name,
                operator=node.operator,
                inputs=node.inputs,
                macs=0,
                parameters=0,
                **dict(zip(ATTRIBUTES, map(int, row), strict=True)),
            )
            for row in sizes
        ]
        found.append((node.name, node.operator, variants))
    return found
