"""Tables of everything that depends on few genes: what makes costing millions of candidates cheap.

A row of the layer table (one layer's channels, size, kernel, MACs ...) depends on a handful of
genes: its own and those that set its input. All combinations of these few genes are evaluated
once, when the space is made. For a population `genes` the row's variant is then a mixed-radix
number,

    code[row, i] = offset[row] + sum_j stride[row, j] * genes[i, j],

one small matrix product for all rows and candidates, and any column of the table is one gather
`column[code]`. The result is exact, not an approximation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.choice import Choice
from search_spaces.expression import Array, Dim, Expression, choices_of, evaluate

MAX_VARIANTS = 1 << 20
"""A row with more combinations of genes than this is refused: its codes and columns would no
longer fit a cache, and float32 counts exactly only up to 2^24."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabulation:
    """Rows of expressions, tabulated over the genes that each reads.

    Attributes:
        strides: A `rows x d` array, the place value of each gene in a row's code.
        offsets: An array of length `rows`, where each row's variants begin in the flat columns.
        columns: For each name an array over all variants of all rows.
    """

    strides: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    columns: Mapping[str, Array]

    @property
    def rows(self) -> int:
        return len(self.offsets)

    @property
    def variants(self) -> int:
        """The number of entries of a flat column."""
        return len(next(iter(self.columns.values())))

    def codes(self, genes: Array) -> npt.NDArray[np.intp]:
        """For an `n x d` array of genes the `rows x n` array of indices into the flat columns."""
        codes = self.strides @ genes.T.astype(np.float32)
        return codes.astype(np.intp) + self.offsets[:, None]

    def row_of_variant(self) -> npt.NDArray[np.intp]:
        """For every entry of the flat columns, the row that it belongs to."""
        sizes = np.diff(np.append(self.offsets, self.variants))
        return np.repeat(np.arange(self.rows), sizes)


def tabulate(
    choices: Sequence[Choice], rows: Sequence[Mapping[str, Dim]], dtype: Any = np.int64
) -> Tabulation:
    """Evaluates every row for every combination of the genes that it reads.

    Args:
        choices: All choices of the space, in the order of the genes.
        rows: For each row its columns: numbers or expressions. Every row has the same columns.
        dtype: The type of the columns.

    Raises:
        BadInputError: A row depends on so many genes that it cannot be tabulated, or has
            fractions where integers are asked for.
    """
    position = {choice.name: j for j, choice in enumerate(choices)}
    names = list(rows[0]) if rows else []
    strides = np.zeros((len(rows), len(choices)), np.float32)
    offsets = np.zeros(len(rows), np.int64)
    parts: dict[str, list[Array]] = {name: [] for name in names}
    total = 0
    for r, row in enumerate(rows):
        read = sorted(
            frozenset[str]().union(*(choices_of(dim) for dim in row.values())),
            key=position.__getitem__,
        )
        sizes = [len(choices[position[name]].values) for name in read]
        count = int(np.prod(sizes, dtype=np.int64)) if sizes else 1
        if count > MAX_VARIANTS:
            raise BadInputError(
                f"row {r} depends on {len(read)} choices with {count} combinations, more than "
                f"{MAX_VARIANTS}: {', '.join(read)}; give these choices fewer values, or fix a "
                "shape in between (for example one width at the start of a stage)"
            )
        values = _grid(choices, [position[name] for name in read], sizes, count)
        known: dict[int, Array] = {}
        for name in names:
            with np.errstate(divide="ignore"):  # sizes of 0 are refused with a message later
                column = evaluate(row[name], values, count, known)
            if dtype is np.int64 and column.dtype.kind == "f" and (column % 1 != 0).any():
                raise BadInputError(
                    f"row {r} has a {name} of {column[column % 1 != 0][0]:g}, which must be an "
                    f"integer (it depends on: {', '.join(read)}); use round_to"
                )
            parts[name].append(column.astype(dtype))
        place = 1
        for name, size in zip(read, sizes, strict=True):
            strides[r, position[name]] = place
            place *= size
        offsets[r] = total
        total += count
    columns = {name: np.concatenate(part) for name, part in parts.items()}
    return Tabulation(strides=strides, offsets=offsets, columns=columns)


def _grid(
    choices: Sequence[Choice], read: Sequence[int], sizes: Sequence[int], count: int
) -> dict[str, Array]:
    """The values of the choices that are read, for all combinations; the first varies fastest."""
    values: dict[str, Array] = {}
    place = 1
    for j, size in zip(read, sizes, strict=True):
        genes = (np.arange(count) // place) % size
        values[choices[j].name] = np.asarray(choices[j].values)[genes]
        place *= size
    return values


def simplify(choices: Sequence[Choice], dim: Any, most: int = 1 << 16) -> Any:
    """An equal expression that reads only the choices on which its value depends.

    A padded convolution's output size, for example, is written with its kernel size and does not
    depend on it. What depends on nothing becomes a plain value. Expressions with more than `most`
    combinations of choices are left as they are.
    """
    if not isinstance(dim, Expression):
        return dim
    position = {choice.name: j for j, choice in enumerate(choices)}
    read = sorted(dim.choices, key=position.__getitem__)
    sizes = [len(choices[position[name]].values) for name in read]
    count = int(np.prod(sizes, dtype=np.int64))
    if count > most:
        return dim
    with np.errstate(divide="ignore"):
        grid = _grid(choices, [position[name] for name in read], sizes, count)
        values = evaluate(dim, grid, count).reshape(sizes[::-1])  # the first varies fastest
    fixed = {}
    for axis, name in enumerate(reversed(read)):
        if (values == values.take([0], axis=axis)).all():
            fixed[name] = choices[position[name]].values[0]
    return dim.substitute(fixed) if fixed else dim


def all_genes(sizes: Sequence[int]) -> npt.NDArray[np.int16]:
    """All combinations of genes with the given numbers of values, a `prod(sizes) x d` array."""
    rows = list(itertools.product(*map(range, sizes)))
    return np.array(rows, np.int16).reshape(len(rows), len(sizes))


def an_example(
    choices: Sequence[Choice], condition: bool | Expression, most: int = 1 << 18
) -> dict[str, Any] | None:
    """A setting of the choices for which the condition holds; None where there is none.

    A condition on more than `most` combinations is not looked at: None.
    """
    if isinstance(condition, bool):
        return {} if condition else None
    position = {choice.name: j for j, choice in enumerate(choices)}
    read = sorted(condition.choices, key=position.__getitem__)
    sizes = [len(choices[position[name]].values) for name in read]
    count = int(np.prod(sizes, dtype=np.int64))
    if count > most:
        return None
    with np.errstate(divide="ignore"):
        grid = _grid(choices, [position[name] for name in read], sizes, count)
        holds = np.flatnonzero(evaluate(condition, grid, count))
    if len(holds) == 0:
        return None
    return {name: values[holds[0]].item() for name, values in grid.items()}
