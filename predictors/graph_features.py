"""Networks as graphs in numbers: what lies on live paths, how often, and how deep.

Genes name a network by how it is written down. In a cell, edges may lead nowhere, and different
rows of genes may be one network. These features are taken from what reaches the output, segment by
segment (`predictors.segments`, `predictors.live_layers`), and are equal for equal networks. They
need nothing but the layer table of a space, and come in groups:

- *choices*: the genes one-hot (choices of names) or as a share of the largest; where a space is
  small enough to be listed, the mean over all rows of genes of the same network in the same
  numerics;
- *paths*: how many live paths run through which sequence of operators (the path encoding of White
  et al., BANANAS, 2021, arXiv 1910.11858, per segment), in the network and at each resolution;
- *counts*: how many live layers of each kind, likewise;
- *shape*: the number of paths, their greatest, least and mean depth, segments that are cut off;
- *sizes*: logarithms of multiply-accumulates, parameters and values written by live layers, in
  the network and at each resolution;
- *values*: whether each value of an ordered choice is chosen (`predictors.choice_values`), since
  values need not act in their order; averaged as the choices are;
- *pools*: how often it is in the network and in each of its parts, likewise;
- *numerics*: what stands beside a network in an `Extended` space, its precision or its training
  recipe, with the values of ordered choices. A group of its own is not lost among the many
  columns of the network.

Columns that are the same for all networks, or follow from an earlier one, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from predictors.choice_values import Table, choice_values, pooled_values
from predictors.live_layers import Hashes, mix
from predictors.segment_groups import SegmentGroup, segment_groups
from search_spaces import Genes, SearchSpace
from search_spaces.extended import Extended

Matrix = npt.NDArray[np.float64]

GROUPS = ("choices", "paths", "counts", "shape", "sizes", "values", "pools", "numerics")

_MOST_LISTED = 1 << 16
"""A space with more rows of genes is not listed."""
_SAMPLE = 2000
"""How many rows decide which columns say nothing, in a space that is not listed."""
_EQUAL = 1 - 1e-9


class GraphFeatures:
    """Describes the architectures of one space.

    >>> from search_spaces.standard import NASBench201
    >>> describe = GraphFeatures(NASBench201(cells=1))
    >>> one, same = describe([[3, 1, 0, 0, 0, 2], [0, 3, 0, 0, 0, 2]])
    >>> bool((one == same).all())
    False
    >>> one, same = describe([[3, 0, 1, 0, 0, 2], [0, 3, 0, 0, 0, 2]])
    >>> bool((one == same).all())
    True
    """

    def __init__(self, space: SearchSpace) -> None:
        """Lists what columns there are; takes a second for a space of 15,625 cells."""
        self.space = space
        self._base = described(space.base) if isinstance(space, Extended) else None
        self._groups = [] if self._base else segment_groups(space)
        self._mean_choices: tuple[Hashes, Matrix] | None = None
        if self._base is None and space.cardinality <= _MOST_LISTED:
            rows = space.enumerate(_MOST_LISTED)
            written = _matrix(_written(space, rows).values())
            self._mean_choices = _means(self._hashes(rows), written)
        else:
            rows = space.sample(_SAMPLE, np.random.default_rng(0))
        names, groups, columns = self._all(rows)
        self._kept = _telling(columns)
        self.names: tuple[str, ...] = tuple(names[j] for j in self._kept)
        """What the columns are."""
        self.group: npt.NDArray[np.str_] = np.array(groups)[self._kept]
        """Of which of `GROUPS` each column is."""

    def __call__(self, genes: npt.ArrayLike) -> Matrix:
        """Describes `n` rows of genes, an `n x d` array, by an `n x f` array without NaN.

        Raises:
            BadInputError: The genes are not of this space.
        """
        rows = self.space.canonical(self.space.gene_space.check(genes))
        described: Matrix = self._all(rows)[2][:, self._kept]
        return described

    def network_hashes(self, genes: npt.ArrayLike) -> Hashes:
        """For each of `n` rows of genes a hash of the network: equal for equal networks.

        Rows are equal networks where their live layers are the same and are joined in the same
        way, in the order of segments; the order of a sum's terms is of no account.
        """
        rows = self.space.canonical(self.space.gene_space.check(genes))
        if self._base is not None:
            return self._base.network_hashes(rows[:, : len(self._base.space.choices)])
        total = np.zeros(len(rows), np.uint64)
        for group in self._groups:
            found, inverse = group.describe(rows)
            for _ in group.copies:
                total = mix(total + found.network[inverse])
        return total

    def _hashes(self, rows: Genes) -> Hashes:
        """Equal for equal networks in equal numerics: precisions of one graph are not the same."""
        found = self.network_hashes(rows)
        for j, choice in enumerate(self.space.choices):
            if choice.scope == "numerics":
                found = mix(found + rows[:, j].astype(np.uint64))
        return found

    def _all(self, rows: Genes) -> tuple[list[str], list[str], Matrix]:
        """All columns of canonical rows, whether they say something or not."""
        if self._base is not None:
            return self._beside(self._base, rows)
        written = _written(self.space, rows)
        if self._mean_choices is not None:
            known, means = self._mean_choices
            found = means[np.searchsorted(known, self._hashes(rows))]
            ends = np.cumsum([len(table) for table in written.values()])[:-1]
            for kind, columns in zip(written, np.split(found, ends, axis=1), strict=True):
                written[kind] = dict(zip(written[kind], columns.T, strict=True))
        beside: Table = {}
        tables = {**_tables(self._groups, rows), **written, "numerics": beside}
        names = [name for kind in GROUPS for name in tables[kind]]
        kinds = [kind for kind in GROUPS for _ in tables[kind]]
        return names, kinds, _matrix(tables[kind] for kind in GROUPS)

    def _beside(self, base: GraphFeatures, rows: Genes) -> tuple[list[str], list[str], Matrix]:
        """The columns of the base, and the choices that stand beside its networks."""
        added = {c.name for c in self.space.choices if c.scope == "numerics"}
        added -= {c.name for c in base.space.choices}
        tables = _written(self.space, rows)
        own = {
            kind: {n: column for n, column in tables[kind].items() if n.partition("=")[0] in added}
            for kind in ("choices", "values")
        }
        names = [*base.names, *(name for table in own.values() for name in table)]
        kinds = [*base.group, *("numerics" for table in own.values() for _ in table)]
        networks = base(rows[:, : len(base.space.choices)])
        columns = [networks, *(c[:, None] for table in own.values() for c in table.values())]
        return names, kinds, np.concatenate(columns, axis=1).astype(np.float64)


@lru_cache(maxsize=16)
def described(space: SearchSpace) -> GraphFeatures:
    """The features of a space, made once."""
    return GraphFeatures(space)


def graph_features(space: SearchSpace, genes: npt.ArrayLike) -> Matrix:
    """Describes architectures by their live graph; equal networks have equal rows.

    Args:
        space: The search space.
        genes: An `n x d` array.

    Returns:
        An `n x f` array without NaN; `graph_feature_names` says what the columns are.

    Raises:
        BadInputError: The genes are not of this space.
    """
    return described(space)(genes)


def graph_feature_names(space: SearchSpace) -> tuple[str, ...]:
    """The names of the columns of `graph_features`."""
    return described(space).names


def graph_feature_groups(space: SearchSpace) -> Mapping[str, npt.NDArray[np.intp]]:
    """The columns of each of `GROUPS`, for kernels and models that treat them apart."""
    group = described(space).group
    return {name: np.flatnonzero(group == name) for name in GROUPS}


def network_hashes(space: SearchSpace, genes: npt.ArrayLike) -> Hashes:
    """For each row of genes a hash that is equal for equal networks, an array of length `n`."""
    return described(space).network_hashes(genes)


def _written(space: SearchSpace, rows: Genes) -> dict[str, Table]:
    """The groups that say how a network is written down: for each, columns by name."""
    active = space.active(rows)
    choices: Table = {}
    for j, choice in enumerate(space.choices):
        gene, on = rows[:, j], active[:, j]
        if choice.is_categorical:
            choices |= {
                f"{choice.name}={v}": on & (gene == g) for g, v in enumerate(choice.values)
            }
        else:
            choices[choice.name] = np.where(on, gene / max(len(choice.values) - 1, 1), -1.0)
    return {
        "choices": choices,
        "values": choice_values(space, rows),
        "pools": pooled_values(space, rows),
    }


def _matrix(tables: Iterable[Table]) -> Matrix:
    """The columns of several tables side by side."""
    columns = [column for table in tables for column in table.values()]
    return np.stack(columns, axis=1).astype(np.float64)


def _means(hashes: Hashes, columns: Matrix) -> tuple[Hashes, Matrix]:
    """The distinct hashes, ascending, and the mean of the rows of each."""
    known, inverse = np.unique(hashes, return_inverse=True)
    total = np.zeros((len(known), columns.shape[1]))
    np.add.at(total, inverse.reshape(-1), columns)
    return known, total / np.bincount(inverse.reshape(-1))[:, None]


def _tables(groups: list[SegmentGroup], rows: Genes) -> dict[str, Table]:
    """Paths, counts, shape and sizes: for each, columns by name."""
    n = len(rows)
    paths: Table = {}
    counts: Table = {}
    shape: Table = {}
    sizes: Table = {}

    def add(table: Table, name: str, values: Matrix) -> None:
        table[name] = table.get(name, np.zeros(n)) + values

    for group in groups:
        found, inverse = group.describe(rows)
        levels, times = np.unique(group.levels, return_counts=True)
        for table, part, what in (
            (paths, found.paths, "paths"),
            (counts, found.counts, "layers"),
        ):
            for kind, values in part.items():
                name = f"{what}({kind})"
                add(table, name, len(group.copies) * values[inverse])
                for level, often in zip(levels, times, strict=True):
                    add(table, f"{name} @{level}", often * values[inverse])
        for name, values in found.shape.items():
            add(shape, name, len(group.copies) * values[inverse])
        for (name, level), values in found.sizes.items():
            add(sizes, f"log {name}", values[inverse])
            add(sizes, f"log {name} @{level}", values[inverse])
    logs = {name: np.log(np.maximum(values, 1)) for name, values in sizes.items()}
    return {"paths": paths, "counts": counts, "shape": shape, "sizes": logs}


def _telling(columns: Matrix) -> npt.NDArray[np.intp]:
    """The columns that vary and do not follow from an earlier one by scale and shift."""
    centred = columns - columns.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    varies = norm > 1e-9 * np.sqrt(len(columns)) * np.maximum(abs(columns).max(axis=0), 1e-9)
    unit = centred / np.where(varies, norm, 1.0)
    alike = np.abs(unit.T @ unit) >= _EQUAL
    kept: list[int] = []
    for j in np.flatnonzero(varies):
        if not alike[j, kept].any():
            kept.append(int(j))
    return np.array(kept, np.intp)
