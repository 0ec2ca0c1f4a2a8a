"""Values that add up over rows of few genes each, merged into as few rows as possible.

Rows that read the same genes become one, and a row whose genes another row reads as well is added
to that one's variants. The sums stay the same, and looking them up takes fewer steps
(`search_spaces.tabulate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from search_spaces import Tabulation
from search_spaces.choice import Choice

Values = npt.NDArray[np.float64]


def merge_rows(
    choices: Sequence[Choice], rows: Sequence[tuple[tuple[int, ...], Mapping[str, Values]]]
) -> Tabulation:
    """One tabulation of values that are summed over rows.

    Args:
        choices: All choices of the space, in the order of the genes.
        rows: For each row the genes that it reads in ascending order, and for each column its
            values for all combinations, the first gene varying fastest.
    """
    merged: dict[tuple[int, ...], dict[str, Values]] = {}
    names = list(rows[0][1])
    for genes, values in sorted(rows, key=lambda row: -len(row[0])):
        home = next((other for other in merged if set(genes) <= set(other)), genes)
        sizes = [len(choices[g].values) for g in home]
        if home not in merged:
            merged[home] = {name: np.zeros(sizes[::-1]) for name in names}
        shape = [n if g in genes else 1 for g, n in zip(home, sizes, strict=True)]
        for name in names:
            merged[home][name] += values[name].reshape(shape[::-1])
    strides = np.zeros((len(merged), len(choices)), np.float32)
    counts = []
    for r, genes in enumerate(merged):
        sizes = [len(choices[g].values) for g in genes]
        strides[r, list(genes)] = np.cumprod([1, *sizes])[:-1]
        counts.append(int(np.prod(sizes, dtype=np.int64)))
    return Tabulation(
        strides=strides,
        offsets=np.cumsum([0, *counts])[:-1].astype(np.int64),
        columns={
            name: np.concatenate([table[name].ravel() for table in merged.values()])
            for name in names
        },
    )
