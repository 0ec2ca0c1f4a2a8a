"""Architectures as publications tabulate them, a column of values a choice, as genes and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.choice import Value
from search_spaces.expression import Array
from search_spaces.genes import Genes
from search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """What a table says of one choice.

    Attributes:
        values: The values of `n` architectures.
        allowed: Those that the space has; a single one is no gene.
        matters: Where a value means something, an array of length `n`, or everywhere.
    """

    values: npt.ArrayLike
    allowed: Sequence[Value]
    matters: npt.NDArray[np.bool_] | bool = True


def genes_from_columns(space: SearchSpace, columns: Mapping[str, Column]) -> Genes:
    """The canonical genes of `n` architectures, an `n x d` array.

    Args:
        space: Their space.
        columns: For each choice by name its column, also for those of a single value.

    Raises:
        BadInputError: A value that matters and that the space does not have.
    """
    n = len(np.asarray(next(iter(columns.values())).values))
    position = {choice.name: j for j, choice in enumerate(space.choices)}
    genes = np.zeros((n, len(position)), np.int16)
    for name, column in columns.items():
        given = np.asarray(column.values)
        equal = given[:, None] == np.asarray(column.allowed)
        wrong = np.flatnonzero(~equal.any(axis=1) & column.matters)
        if len(wrong):
            raise BadInputError(
                f"{name!r} of row {wrong[0]} is {given[wrong[0]]}; "
                f"allowed: {tuple(column.allowed)}"
            )
        if name in position:
            genes[:, position[name]] = equal.argmax(axis=1)
    return space.canonical(genes)


def values_of_choice(
    space: SearchSpace, genes: Genes, name: str, allowed: Sequence[Value]
) -> Array:
    """The values of one choice for `n` rows of genes, whether they matter or not."""
    names = [choice.name for choice in space.choices]
    if name not in names:
        return np.full(len(genes), allowed[0])
    return np.asarray(allowed)[genes[:, names.index(name)]]
