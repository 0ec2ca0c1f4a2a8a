"""A distribution over the architectures of a space: every choice drawn on its own.

A choice has one probability for each value. An architecture is drawn by drawing the choices that
are active, so that the probability of an architecture is the product over these; choices that
another one switches off have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from search_spaces.additive import activity_factors
from supernet.expected_sum import expectation

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = npt.NDArray[np.float64]

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceDistribution:
    """Probabilities of all values of all choices of a space.

    Attributes:
        space: The space.
        probabilities: For each choice, in the order of the genes, one number for each value.

    Raises:
        BadInputError: Another number of choices or values than the space's, or numbers that are
            no probabilities: negative, or with another sum than 1.
    """

    space: SearchSpace
    probabilities: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        choices = self.space.choices
        if len(self.probabilities) != len(choices):
            raise BadInputError(
                f"{self.space.name} has {len(choices)} choices, got probabilities of "
                f"{len(self.probabilities)}"
            )
        for choice, shares in zip(choices, self.probabilities, strict=True):
            fits = len(shares) == len(choice.values) and all(0 <= p <= 1 for p in shares)
            if not fits or abs(sum(shares) - 1) > _TOLERANCE:
                raise BadInputError(
                    f"choice {choice.name!r} needs {len(choice.values)} probabilities of sum 1, "
                    f"got {shares}"
                )

    @classmethod
    def uniform(cls, space: SearchSpace) -> Self:
        """Every value of a choice as probable as the others."""
        sizes = [int(s) for s in space.gene_space.sizes]
        return cls(space=space, probabilities=tuple((1 / s,) * s for s in sizes))

    @classmethod
    def from_table(cls, space: SearchSpace, table: Matrix) -> Self:
        """The distribution of a `d x (most values)` array, filled up with any numbers."""
        sizes = [int(s) for s in space.gene_space.sizes]
        rows = [row[:size] / row[:size].sum() for row, size in zip(table, sizes, strict=True)]
        return cls(space=space, probabilities=tuple(tuple(row.tolist()) for row in rows))

    @property
    def arrays(self) -> list[Vector]:
        """The probabilities of each choice as an array."""
        return [np.array(shares) for shares in self.probabilities]

    @property
    def table(self) -> Matrix:
        """The probabilities as a `d x (most values)` array, filled up with 0."""
        table = np.zeros((len(self.probabilities), int(self.space.gene_space.sizes.max())))
        for row, shares in zip(table, self.probabilities, strict=True):
            row[: len(shares)] = shares
        return table

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draws `n` canonical architectures, an `n x d` array; repeats are possible."""
        ends = self.table.cumsum(axis=1)
        for row, shares in zip(ends, self.probabilities, strict=True):
            row[np.flatnonzero(shares)[-1] :] = np.inf  # rounding leaves no gap before 1
        drawn = rng.random((len(ends), n))
        genes = (drawn[:, :, None] >= ends[:, None, :]).sum(axis=2).T
        return self.space.canonical(genes.astype(np.int16))

    def most_likely(self) -> Genes:
        """The row in which every active choice has its most probable value; of equal ones the
        first.

        Where some choices switch others on, another architecture may be more probable as a whole:
        few choices have a larger product than many.
        """
        row = self.table.argmax(axis=1).astype(np.int16)
        mode: Genes = self.space.canonical(row[None])[0]
        return mode

    def log_probability(self, genes: Genes) -> Vector:
        """The logarithm of the probability of each row of an `n x d` array; -inf for never."""
        with np.errstate(divide="ignore"):
            logarithms = np.log(self.table)[np.arange(genes.shape[1]), genes]
        total: Vector = np.where(self.space.active(genes), logarithms, 0.0).sum(axis=1)
        return total

    @property
    def choice_entropies(self) -> Mapping[str, float]:
        """The entropy of each choice in nats, from 0 to the logarithm of the number of values."""
        entropies = [_entropy(p) for p in self.arrays]
        return dict(zip((c.name for c in self.space.choices), entropies, strict=True))

    @property
    def active_share(self) -> Vector:
        """With which probability each choice is active, an array of length `d`."""
        shares = np.ones(len(self.probabilities))
        for gene, factor in activity_factors(self.space.gene_space).items():
            shares[gene] = expectation([factor], self.arrays)[0]
        return shares

    @property
    def entropy(self) -> float:
        """The entropy of the architectures in nats: 0 where one only can be drawn."""
        entropies = np.array(list(self.choice_entropies.values()))
        return float(self.active_share @ entropies)

    def to_json(self) -> dict[str, Any]:
        """The probabilities by choice and value, with the space's name and hash."""
        shares = {
            choice.name: [[value, p] for value, p in zip(choice.values, row, strict=True)]
            for choice, row in zip(self.space.choices, self.probabilities, strict=True)
        }
        return {
            "space": self.space.name,
            "space_hash": self.space.hash,
            "probabilities": shares,
        }

    @classmethod
    def from_json(cls, space: SearchSpace, value: Mapping[str, Any]) -> Self:
        """The distribution that `to_json` wrote.

        Raises:
            BadInputError: It is of another space, or none at all.
        """
        if value.get("space_hash") != space.hash:
            raise BadInputError(
                f"this distribution is of {value.get('space')!r} with other parameters or "
                f"another version than the {space.name!r} given"
            )
        try:
            given = value["probabilities"]
            rows = [tuple(float(p) for _, p in given[c.name]) for c in space.choices]
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                "a distribution has pairs of value and probability for each choice"
            ) from error
        return cls(space=space, probabilities=tuple(rows))


def _entropy(probabilities: Vector) -> float:
    there = probabilities[probabilities > 0]
    return max(0.0, float(-(there * np.log(there)).sum()))
