"""Measuring int8 files in another process: what is sent there, and what is made of it.

Sent are what the wrapped evaluator sends, which makes fp32 networks there, and the images that set
the scales and those that count, unless they are among its arrays already. Files are made by the
worker. The test split stays where it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from deployment.quantisation.accuracy import Int8Evaluator, NetworkSource
from records import CorruptFileError
from records.shared_arrays import add_arrays, named_arrays
from search_spaces import SearchSpace
from supernet import Split

if TYPE_CHECKING:
    from deployment.quantisation.accuracy import QuantisedEvaluator

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_SCALING, _IMAGES, _LABELS = "scaling/images", "validation/images", "validation/labels"


class SourceRecipe(Protocol):
    """Makes what hands out networks in a worker, of its arrays and the number of threads."""

    def __call__(self, arrays: Arrays, threads: int) -> NetworkSource: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedRecipe:
    """Makes a worker's evaluator of the arrays that `shipment` gave.

    Attributes:
        source: Makes the evaluator that hands out the networks.
        source_names: By the names that it knows, the names that were sent.
        names: The same for the images that set the scales and those that count.
        space: The search space.
        mode: How files are quantised, "static" or "dynamic".
        batch_size: Images a run.
        weights_hash: What the weights and the images that set the scales must be.
    """

    source: SourceRecipe
    source_names: Mapping[str, str]
    names: Mapping[str, str]
    space: SearchSpace
    mode: str
    batch_size: int
    weights_hash: str

    def __call__(self, arrays: Arrays, threads: int) -> Int8Evaluator:
        """Makes it.

        Args:
            arrays: What was sent.
            threads: Threads inside an operator, of torch and of onnxruntime.

        Raises:
            CorruptFileError: Weights or images are not those that were sent.
        """
        source = self.source(named_arrays(arrays, self.source_names), threads)
        own = named_arrays(arrays, self.names)
        evaluator = Int8Evaluator(
            source,
            self.space,
            _split(own[_IMAGES], own[_LABELS]),
            mode=self.mode,
            scaling=own.get(_SCALING),
            batch_size=self.batch_size,
            threads=threads,
        )
        if evaluator.weights_hash != self.weights_hash:
            raise CorruptFileError(
                "the weights, or the images that set the scales of int8 files, arrived with hash "
                f"{evaluator.weights_hash}, those sent have {self.weights_hash}: they were "
                "changed on the way, or since they were sent"
            )
        return evaluator


@dataclass(frozen=True, slots=True)
class Whole:
    """The recipe of an evaluator whose networks come from one that has no `shipment`."""

    evaluator: QuantisedEvaluator

    def __call__(self, arrays: Arrays, threads: int) -> QuantisedEvaluator:
        return self.evaluator


def shipment(
    evaluator: QuantisedEvaluator,
) -> tuple[QuantisedRecipe | Whole, dict[str, Any]]:
    """The recipe and the arrays that a worker needs to measure what an evaluator measures."""
    ship = getattr(evaluator.evaluator, "shipment", None)
    if ship is None:
        return Whole(evaluator), {}
    source, arrays = ship()
    sent: dict[str, npt.NDArray[Any]] = {}
    source_names = add_arrays(sent, arrays, "evaluator/")
    validation = evaluator.validation
    own = {_IMAGES: _array(validation.images), _LABELS: _array(validation.labels)}
    if evaluator.scaling is not None:
        own[_SCALING] = evaluator.scaling
    recipe = QuantisedRecipe(
        source=source,
        source_names=source_names,
        names=add_arrays(sent, own, "int8/"),
        space=evaluator.space,
        mode=evaluator.mode,
        batch_size=evaluator.batch_size,
        weights_hash=evaluator.weights_hash,
    )
    return recipe, sent


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tensor.numpy())


def _split(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Split:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return Split(torch.from_numpy(images), torch.from_numpy(labels))  # nothing writes there
