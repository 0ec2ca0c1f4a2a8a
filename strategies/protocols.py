"""What a search is given: something that measures accuracy, models of cost, perhaps a predictor.

Users bring these; any object with the attributes and methods below will do. Strategies know
nothing else about networks, devices or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from records import Measured
from search_spaces import Architecture, Genes

Floats: TypeAlias = npt.NDArray[np.float64]
Extreme: TypeAlias = tuple[float, Genes]

LATENCY = "latency_ms"
"""The cost that is an objective on every target."""


class Evaluator(Protocol):
    """Measures accuracy, which is expensive, and hands out the networks it measures."""

    @property
    def metric(self) -> str:
        """The name of what is measured: a share in 0..1, to be maximised, e.g. "accuracy"."""
        ...

    @property
    def weights_hash(self) -> str:
        """Identifies the shared weights that the values belong to."""
        ...

    def evaluate(self, genes: Genes) -> Sequence[Measured]:
        """Measures the architectures of an `n x d` array; one result a row, in order."""
        ...

    def subnet(self, architecture: Architecture) -> Any:
        """The plain network of one architecture, to be deployed."""
        ...


class CostModel(Protocol):
    """Tells what architectures cost on one target, quickly and for whole populations."""

    @property
    def target_name(self) -> str:
        """The target that the costs belong to."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the costs, all minimised; `latency_ms` is among them."""
        ...

    def predict(self, genes: Genes) -> Mapping[str, Floats]:
        """The expected value of each metric, arrays of length `n`, for an `n x d` array."""
        ...

    def bound(self, metric: str, genes: Genes, probability: float = 0.95) -> Floats:
        """The values that the measured ones stay below with the given probability."""
        ...

    def extremes(self, metric: str) -> tuple[Extreme, Extreme] | None:
        """The exact (lowest, genes) and (highest, genes) of `predict`; None where unknown."""
        ...

    def deploy(
        self, subnet: Any, architecture: Architecture, folder: Path, facts: Mapping[str, Any]
    ) -> Any:
        """Writes a network for the target into a folder, with facts to be kept beside it."""
        ...


@runtime_checkable
class SelectiveCostModel(Protocol):
    """What a cost model has beside, if its target does not run every network."""

    def runs(self, genes: Genes) -> npt.NDArray[np.bool_]:
        """Which networks the target runs, an array of length `n`; costs are finite for all."""
        ...


class Prediction(Protocol):
    """Predicted values with their uncertainty."""

    @property
    def mean(self) -> Floats:
        """The expected values, an array of length `n`."""
        ...

    @property
    def std(self) -> Floats:
        """Their standard deviations, an array of length `n`."""
        ...


class Predictor(Protocol):
    """Learns the expensive objective from what was measured."""

    def fit(self, genes: Genes, values: Floats) -> object:
        """Learns from `n` measured values, forgetting what it learned before."""
        ...

    def predict(self, genes: Genes) -> Prediction:
        """Predicts the values of an `n x d` array of genes."""
        ...
