"""Published accuracy tables: parquet files with an architecture a row and a column a training.

Two spaces are known: `nb201` (columns `arch` or `ops`) and `nb_macro` (`arch`). The accuracies may
be missing in rows that nobody asks for; no other column is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.table_files import column_names, numbers, read_columns
from records import (
    BadInputError,
    CorruptFileError,
    unknown_name,
)
from search_spaces import Genes, SearchSpace
from search_spaces.standard import NASBench201, NASBenchMacro


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccuracyTable:
    """`n` architectures and one accuracy.

    Attributes:
        space: Their space.
        genes: An `n x d` array.
        accuracy: An array of length `n`; NaN where the table has none.
    """

    space: SearchSpace
    genes: Genes
    accuracy: npt.NDArray[np.float64]


def read_accuracy_table(path: Path, space: str, column: str) -> AccuracyTable:
    """Reads the architectures and one accuracy of a table.

    Args:
        path: A parquet file.
        space: `nb201` or `nb_macro`.
        column: The name of the accuracy.

    Raises:
        UnknownNameError: No such space or column.
        BadInputError: The column does not hold numbers.
        MissingFileError: There is no such file.
        CorruptFileError: No parquet file, or one without the architectures of this space.
    """
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    known = column_names(path)
    if column not in known:
        raise unknown_name("column", column, known)
    written = next((name for name in SPACES[space].genes if name in known), None)
    if written is None:
        needed = " or ".join(SPACES[space].genes)
        raise CorruptFileError(
            f"{path} does not describe networks of {space}: it needs the column {needed}, and "
            f"has {', '.join(known)}"
        )
    table = read_columns(path, list(dict.fromkeys([written, column])))
    try:
        genes = SPACES[space].genes[written](table.column(written).to_pylist())
    except (BadInputError, TypeError, ValueError, IndexError) as error:
        raise CorruptFileError(
            f"the column {written} of {path} holds no networks of {space}: {error}"
        ) from error
    return AccuracyTable(space=SPACES[space].space, genes=genes, accuracy=numbers(table, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """How a table writes the networks of a space.

    Attributes:
        space: The space.
        genes: For each column that says everything, what makes genes of it.
    """

    space: SearchSpace
    genes: Mapping[str, Callable[[list[Any]], Genes]]


def _cells() -> _Space:
    space = NASBench201(cells=1)  # its genes are those of any number of cells
    return _Space(
        space=space,
        genes={
            "arch": space.genes_of,
            "ops": lambda rows: space.gene_space.check(np.array(rows, np.int64)),
        },
    )


def _layers() -> _Space:
    space = NASBenchMacro()
    return _Space(space=space, genes={"arch": space.genes_of})


SPACES: Mapping[str, _Space] = {"nb201": _cells(), "nb_macro": _layers()}
"""The spaces whose tables are known."""
