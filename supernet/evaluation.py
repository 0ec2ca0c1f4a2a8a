"""How good a subnet is on inherited weights: recalibrate its batch norm, read its accuracy."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from records import Measured
from search_spaces import Architecture, Genes, Graph
from supernet.alone import calibration
from supernet.channels_last import channels_last
from supernet.data import ImageData, Split
from supernet.network import Statistics
from supernet.subnet import Subnet
from supernet.supernet import ArchitectureLike, Supernet
from supernet.threads import intra_op_threads, threads_each
from supernet.training import check_data

if TYPE_CHECKING:
    from supernet.worker_evaluation import SupernetRecipe


@torch.no_grad()
def accuracy(network: nn.Module, split: Split, batch_size: int = 512) -> float:
    """The share of images whose class a network in eval mode predicts."""
    right = 0
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size]
        images = channels_last(images)
        labels = split.labels[start : start + batch_size]
        right += int((network(images).argmax(1) == labels).sum())
    return right / len(split)


def standard_error(share: float, n: int) -> float:
    """The standard error of a share counted on `n` images, at least that of half an error."""
    share = min(max(share, 0.5 / n), 1 - 0.5 / n)
    return float((share * (1 - share) / n) ** 0.5)


MOST_REMEMBERED = 64
"""Subnets whose batch-norm statistics an evaluator keeps."""


class SupernetEvaluator:
    """Measures subnets of a trained supernet on the search-validation split.

    The supernet's weights must stay as they are while the evaluator is in use.

    Args:
        supernet: The trained supernet; it is not changed.
        data: `train` gives the images for recalibration, `validation` those that count.
        batches: Batches for recalibration.
        batch_size: Images in each.
        threads: Subnets that are measured at the same time.

    Raises:
        BadInputError: Data that do not fit the space.
    """

    metric = "accuracy"

    def __init__(
        self,
        supernet: Supernet,
        data: ImageData,
        *,
        batches: int = 4,
        batch_size: int = 128,
        threads: int = 2,
    ) -> None:
        check_data(supernet.space, data)
        self.supernet = supernet.eval()
        self.data = data
        self.threads = threads
        self.weights_hash = supernet.weights_hash()
        self._lock = Lock()
        self._statistics: OrderedDict[Graph, Statistics] = OrderedDict()
        self.batches = calibration(data, batches, batch_size)

    def statistics(self, architecture: ArchitectureLike) -> Statistics:
        """The subnet's batch-norm statistics on training images; recent ones are remembered."""
        graph = self.supernet.graph(architecture)
        with self._lock:
            known = self._statistics.get(graph)
        if known is None:
            known = self.supernet.recalibrate(graph, self.batches)
            with self._lock:
                self._statistics[graph] = known
                while len(self._statistics) > MOST_REMEMBERED:
                    self._statistics.popitem(last=False)
        return known

    def subnet(self, architecture: ArchitectureLike) -> Subnet:
        """The recalibrated subnet as a plain module."""
        return self.supernet.extract(architecture, self.statistics(architecture))

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Accuracy on the validation split with its standard error, for each row of genes."""
        each = threads_each(self.threads)
        with intra_op_threads(each), ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self._evaluate, genes))

    def _evaluate(self, row: Genes) -> Measured:
        start = time.perf_counter()
        value = accuracy(self.subnet(self.supernet.space.graph(row)), self.data.validation)
        error = standard_error(value, len(self.data.validation))
        return Measured(value=value, dispersion=error, seconds=time.perf_counter() - start)

    def shipment(self) -> tuple[SupernetRecipe, dict[str, Any]]:
        """A recipe and the arrays it needs, for workers in other processes."""
        from supernet.worker_evaluation import shipment

        return shipment(self)

    def test_accuracy(self, architecture: Architecture | Subnet) -> float:
        """Accuracy on the test split: for chosen subnets, after the search."""
        network = architecture if isinstance(architecture, Subnet) else self.subnet(architecture)
        return accuracy(network, self.data.test)
