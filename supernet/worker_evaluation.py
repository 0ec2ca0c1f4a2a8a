"""Measuring subnets in another process: what is sent there, and what is made of it.

The weights, the images for recalibration and those that count are sent as arrays, which workers
may map from one place and never change. The test split stays where it is.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from records import CorruptFileError, Measured
from search_spaces import Genes, SearchSpace
from supernet.channels_last import channels_last
from supernet.data import Split
from supernet.evaluation import accuracy, standard_error
from supernet.subnet import Subnet
from supernet.supernet import ArchitectureLike, Supernet

if TYPE_CHECKING:
    from supernet.evaluation import SupernetEvaluator

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_WEIGHTS, _BATCH = "weights/", "calibration/"
_IMAGES, _LABELS = "validation/images", "validation/labels"


class WorkerEvaluator:
    """Measures subnets as `SupernetEvaluator` does, one after the other.

    Args:
        supernet: The supernet, in eval mode.
        batches: Training images for batch-norm statistics.
        validation: The images that count.
    """

    metric = "accuracy"

    def __init__(self, supernet: Supernet, batches: Sequence[Tensor], validation: Split) -> None:
        self.supernet = supernet
        self.validation = validation
        self.weights_hash = supernet.weights_hash()
        self._batches = batches

    def subnet(self, architecture: ArchitectureLike) -> Subnet:
        """The recalibrated subnet as a plain module."""
        graph = self.supernet.graph(architecture)
        return self.supernet.extract(graph, self.supernet.recalibrate(graph, self._batches))

    def evaluate(self, genes: Genes) -> list[Measured]:
        """Accuracy on the validation split with its standard error, for each row of genes."""
        return [self._evaluate(row) for row in genes]

    def _evaluate(self, row: Genes) -> Measured:
        start = time.perf_counter()
        value = accuracy(self.subnet(self.supernet.space.graph(row)), self.validation)
        error = standard_error(value, len(self.validation))
        return Measured(value=value, dispersion=error, seconds=time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class SupernetRecipe:
    """Makes a worker's evaluator of the arrays that `shipment` gave.

    Attributes:
        space: The search space.
        weights_hash: What the weights must be.
    """

    space: SearchSpace
    weights_hash: str

    def __call__(self, arrays: Arrays, threads: int) -> WorkerEvaluator:
        """Makes it; the weights stay where the arrays lie.

        Args:
            arrays: What was sent.
            threads: How many threads torch uses in this process from now on.

        Raises:
            CorruptFileError: The weights are not those that were sent.
        """
        torch.set_num_threads(threads)
        tensors = {name: _tensor(array) for name, array in arrays.items()}
        supernet = Supernet(self.space)
        weights = {
            name.removeprefix(_WEIGHTS): value
            for name, value in tensors.items()
            if name.startswith(_WEIGHTS)
        }
        supernet.load_state_dict(weights, assign=True)
        batches = [
            channels_last(value) for name, value in tensors.items() if name.startswith(_BATCH)
        ]
        validation = Split(tensors[_IMAGES], tensors[_LABELS])
        evaluator = WorkerEvaluator(supernet.eval(), batches, validation)
        if evaluator.weights_hash != self.weights_hash:
            raise CorruptFileError(
                f"the weights that arrived have hash {evaluator.weights_hash}, those sent have "
                f"{self.weights_hash}: they were changed on the way, or since they were sent"
            )
        return evaluator


def shipment(evaluator: SupernetEvaluator) -> tuple[SupernetRecipe, dict[str, Any]]:
    """The recipe and the arrays that a worker needs to measure what an evaluator measures."""
    supernet, validation = evaluator.supernet, evaluator.data.validation
    arrays = {f"{_WEIGHTS}{k}": _array(v) for k, v in supernet.state_dict().items()}
    arrays |= {f"{_BATCH}{i}": _array(b) for i, b in enumerate(evaluator.batches)}
    arrays |= {_IMAGES: _array(validation.images), _LABELS: _array(validation.labels)}
    return SupernetRecipe(supernet.space, evaluator.weights_hash), arrays


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)  # read only, and nothing here writes
