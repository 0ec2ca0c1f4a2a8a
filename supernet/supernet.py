"""The supernet: all subnets of a space in one set of shared weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from search_spaces import Architecture, Graph, Layer, SearchSpace
from search_spaces.primitives import ATTRIBUTES
from supernet.freed_memory import keep_freed_memory
from supernet.network import ElasticNetwork, Statistics
from supernet.noise import Noise
from supernet.subnet import Subnet

if TYPE_CHECKING:
    from supernet.data import ImageData
    from supernet.evaluation import SupernetEvaluator

ArchitectureLike: TypeAlias = Architecture | npt.NDArray[np.int16] | Graph


class Supernet(ElasticNetwork):
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
        keep_freed_memory()
        super().__init__(layer_variants(space), seed=seed)
        self.space = space
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
        self,
        images: Tensor,
        architecture: ArchitectureLike,
        statistics: Statistics | None = None,
        *,
        noise: Noise | None = None,
    ) -> Tensor:
        """Logits `n x classes` of a subnet.

        Args:
            images: `n x channels x height x width`.
            architecture: The subnet.
            statistics: Its batch-norm statistics; None normalises with those of this batch.
            noise: Regularisation in training.
        """
        return self.run(images, self.graph(architecture), statistics, noise=noise)

    def recalibrate(self, architecture: ArchitectureLike, batches: Iterable[Tensor]) -> Statistics:
        """A subnet's batch-norm statistics: the mean over batches of training images.

        The supernet stays as it is. Use a few large batches; each is normalised by its own
        statistics on the way and counts by its number of images (Cai et al., 2020). Networks
        without batch norm need none.
        """
        return self.recalibrate_graph(self.graph(architecture), batches)

    def extract(
        self, architecture: ArchitectureLike, statistics: Statistics | None = None
    ) -> Subnet:
        """The subnet as a plain module with its own copy of the weights, in eval mode.

        Args:
            architecture: The subnet.
            statistics: Its batch-norm statistics, required where it has batch norm.
        """
        return self.extract_graph(self.graph(architecture), statistics)

    def evaluator(self, data: ImageData) -> SupernetEvaluator:
        """Measures subnets of this supernet on a dataset's search-validation split."""
        from supernet.evaluation import SupernetEvaluator

        return SupernetEvaluator(self, data)


def layer_variants(space: SearchSpace) -> list[tuple[str, str, Sequence[Layer]]]:
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
