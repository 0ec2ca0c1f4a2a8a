"""Values of ordered choices as columns of their own, for they need not act in their order.

As one column, a kernel size of 5 can only lie between 3 and 7. Here every value has a column that
is 1 where it is chosen, and every value of choices that share their last name has columns that
count it: `*.kernel=5` over the whole network, `stage1.*.kernel=5` within a part of it. The counts
carry over what is learned in one place to others, where few rows say much about each place alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces import Genes, SearchSpace

Table: TypeAlias = dict[str, npt.NDArray[Any]]
"""Columns by name, each an array of length `n`."""


def choice_values(space: SearchSpace, genes: Genes) -> Table:
    """For each value of each ordered choice whether it is chosen, in canonical rows of genes.

    >>> from search_spaces import CNNSpace
    >>> space = CNNSpace()
    >>> largest = choice_values(space, space.extremes("largest"))
    >>> [name for name, chosen in largest.items() if chosen[0]][:2]
    ['stem.width=16', 'stage0.depth=3']
    """
    active = space.active(genes)
    return {
        f"{choice.name}={value}": active[:, j] & (genes[:, j] == g)
        for j, choice in enumerate(space.choices)
        if not choice.is_categorical
        for g, value in enumerate(choice.values)
    }


def pooled_values(space: SearchSpace, genes: Genes) -> Table:
    """How often each value is chosen in the whole network and in each of its parts.

    Choices belong together where their names end alike: `stage0.layer1.kernel` counts in
    `*.kernel` and in `stage0.*.kernel`.
    """
    active = space.active(genes)
    totals: Table = {}
    for j, choice in enumerate(space.choices):
        *parts, last = choice.name.split(".")
        for value in () if choice.is_categorical else range(len(choice.values)):
            chosen = active[:, j] & (genes[:, j] == value)
            for depth in range(len(parts)):
                pool = f"{'.'.join([*parts[:depth], '*', last])}={choice.values[value]}"
                totals[pool] = totals.get(pool, np.zeros(len(genes))) + chosen
    return totals
