"""The rows among which a round of a Bayesian search chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from predictors.kernels import Groups
from search_spaces import Genes
from strategies.protocols import Floats


class Believes(Protocol):
    """What tells means and standard deviations at rows."""

    def predict(self, features: Groups) -> tuple[Floats, Floats]:
        """Those at rows that were made for once."""

    def predict_list(self, features: Groups) -> tuple[Floats, Floats]:
        """Those at the rows of a list that is asked for again and again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """`n` candidates, of a list that stays or made for one round.

    Attributes:
        genes: Their genes.
        latency_ms: Their latencies that count; None where these are learned.
        features: The groups of features of the candidates, or of all rows of the list.
        places: Where the candidates are in the list; None where there is no list.
    """

    genes: Genes
    latency_ms: Floats | None
    features: Groups
    places: npt.NDArray[np.intp] | None

    def part(self, rows: npt.NDArray[np.intp]) -> Pool:
        """Some of the candidates."""
        listed = self.places is not None
        return Pool(
            genes=self.genes[rows],
            latency_ms=None if self.latency_ms is None else self.latency_ms[rows],
            features=self.features if listed else tuple(g[rows] for g in self.features),
            places=None if self.places is None else self.places[rows],
        )

    def described(self) -> Groups:
        """The groups of features of the candidates."""
        if self.places is None:
            return self.features
        return tuple(group[self.places] for group in self.features)

    def alone(self) -> Pool:
        """The candidates without their list."""
        return replace(self, features=self.described(), places=None)

    def predict(self, belief: Believes) -> tuple[Floats, Floats]:
        """Means and standard deviations at the candidates."""
        if self.places is None:
            return belief.predict(self.features)
        mean, std = belief.predict_list(self.features)
        return mean[self.places], std[self.places]

    def joined(self, other: Pool) -> Pool:
        """These candidates and others, none of them of a list."""
        latency_ms = None
        if self.latency_ms is not None and other.latency_ms is not None:
            latency_ms = np.concatenate([self.latency_ms, other.latency_ms])
        return Pool(
            genes=np.concatenate([self.genes, other.genes]),
            latency_ms=latency_ms,
            features=joined(self.described(), other.described()),
            places=None,
        )


def joined(first: Groups, second: Groups) -> Groups:
    """The groups of features of some rows and of others."""
    return tuple(np.concatenate(parts) for parts in zip(first, second, strict=True))
