"""Published tables as search problems: architectures, an accuracy and a latency that is measured.

Four spaces are known: `nb201`, `nb_macro`, `ofa` and `fbnet`. A table may hold all networks of its
space or a part of them. Any column of numbers may stand for latency, such as MACs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments import accuracy_tables, latency_tables
from experiments.table_files import column_names, numbers, read_columns
from records import BadInputError, CorruptFileError, unknown_name
from search_spaces import Genes, SearchSpace
from search_spaces.standard import FBNetSpace, NASBench201, NASBenchMacro, OFAMobileNetV3
from strategies.known_rows import row_keys

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchTable:
    """`n` architectures with what their evaluation would yield.

    Attributes:
        space: Their space.
        genes: An `n x d` array; rows may repeat.
        accuracy: An array of length `n`; NaN where an evaluation fails.
        latency_ms: An array of length `n`, in whatever unit the column has.
        rows_of: The rows of each network, by the key of its genes.
    """

    space: SearchSpace
    genes: Genes
    accuracy: Floats
    latency_ms: Floats
    rows_of: Mapping[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        rows: dict[int, list[int]] = {}
        for row, key in enumerate(row_keys(self.genes).tolist()):
            rows.setdefault(key, []).append(row)
        object.__setattr__(self, "rows_of", rows)

    def __len__(self) -> int:
        return len(self.genes)


def read_search_table(path: Path, space: str, accuracy: str, latency: str) -> SearchTable:
    """Reads the architectures and two columns of a table.

    Args:
        path: A parquet file.
        space: `nb201`, `nb_macro`, `ofa` or `fbnet`.
        accuracy: The column to be maximised; an empty value is an evaluation that fails.
        latency: The column to be minimised.

    Raises:
        UnknownNameError: No such space or column.
        BadInputError: A column that holds no numbers, a latency that is not finite or below 0.
        MissingFileError: There is no such file.
        CorruptFileError: No parquet file, no rows, or none of this space.
    """
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    known = column_names(path)
    for name in (accuracy, latency):
        if name not in known:
            raise unknown_name("column", name, known)
    kind = SPACES[space]
    wanted = next((c for c in kind.columns if set(c) <= set(known)), None)
    if wanted is None:
        needed = " or ".join(", ".join(c) for c in kind.columns)
        raise CorruptFileError(
            f"{path} does not describe networks of {space}: it needs the columns {needed}, and "
            f"has {', '.join(known)}"
        )
    table = read_columns(path, list(dict.fromkeys([*wanted, accuracy, latency])))
    if table.num_rows == 0:
        raise CorruptFileError(f"{path} has no rows")
    try:
        genes = kind.genes({name: table.column(name).to_pylist() for name in wanted})
    except (BadInputError, TypeError, ValueError, IndexError) as error:
        raise CorruptFileError(
            f"the columns {', '.join(wanted)} of {path} are no networks of {space}: {error}"
        ) from error
    return SearchTable(
        space=kind.space,
        genes=genes,
        accuracy=numbers(table, accuracy),
        latency_ms=_latencies(table, latency),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """How a table writes the networks of a space.

    Attributes:
        space: The space.
        columns: Sets of columns, any one of which says everything.
        genes: Makes genes of one of these.
    """

    space: SearchSpace
    columns: tuple[tuple[str, ...], ...]
    genes: Callable[[Mapping[str, list[Any]]], Genes]


def _of_latencies(name: str, space: SearchSpace) -> _Space:
    known = latency_tables.SPACES[name]
    return _Space(space=space, columns=known.columns, genes=known.genes)


def _of_layers() -> _Space:
    known = accuracy_tables.SPACES["nb_macro"]
    return _Space(
        space=NASBenchMacro(),
        columns=(("arch",),),
        genes=lambda columns: known.genes["arch"](columns["arch"]),
    )


SPACES: Mapping[str, _Space] = {
    "nb201": _of_latencies("nb201", NASBench201(cells=1)),  # genes are those of any number
    "nb_macro": _of_layers(),
    "ofa": _of_latencies("ofa", OFAMobileNetV3()),
    "fbnet": _of_latencies("fbnet", FBNetSpace.cifar100()),
}
"""The spaces whose tables are known."""


def _latencies(table: Any, name: str) -> Floats:
    latency = numbers(table, name)
    wrong = np.flatnonzero(~(np.isfinite(latency) & (latency >= 0)))
    if len(wrong):
        raise BadInputError(
            f"{name!r} of row {wrong[0]} is {latency[wrong[0]]:g}: it must be finite and at "
            "least 0; leave the row out"
        )
    return latency
