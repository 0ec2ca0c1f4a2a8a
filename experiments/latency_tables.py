"""Published latency tables: parquet files with an architecture a row and a column a device.

Three spaces are known: `nb201` (columns `ops` or `arch`), `fbnet` (`op_idx`) and `ofa`
(`resolution`, `depth_1` to `depth_5`, `kernel`, `expand`). Other columns than these and the
devices asked for are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.table_files import column_names, numbers, read_columns
from latency_models.transfer import ArchitectureFeatures, cell_features, space_features
from records import BadInputError, CorruptFileError, unknown_name
from search_spaces import Genes
from search_spaces.standard import FBNetSpace, NASBench201, OFAMobileNetV3, OFASettings

Columns = Mapping[str, list[Any]]

STAGES = 5

_NAS_BENCH_201 = NASBench201(cells=1)  # its genes are those of any number of cells
_FBNET = FBNetSpace.cifar100()
_OFA = OFAMobileNetV3()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatencyTable:
    """`n` architectures and what is known of them.

    Attributes:
        genes: An `n x d` array.
        features: Their features.
        columns: The names of the devices' columns.
        latency_ms: An `n x devices` array.
    """

    genes: Genes
    features: ArchitectureFeatures
    columns: tuple[str, ...]
    latency_ms: npt.NDArray[np.float64]


def read_latency_table(path: Path, space: str, columns: Sequence[str]) -> LatencyTable:
    """Reads the architectures and some devices of a table.

    Args:
        path: A parquet file.
        space: `nb201`, `fbnet` or `ofa`.
        columns: The devices' columns, none or more.

    Raises:
        UnknownNameError: No such space or column.
        BadInputError: A column given twice, or a latency that is no number of at least 0, with
            its row and column.
        CorruptFileError: No parquet file, or one without the architectures of this space.
    """
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    known = column_names(path)
    for name in columns:
        if name not in known:
            devices = [other for other in known if other.startswith("lat_")]
            raise unknown_name("column", name, devices or known)
        if columns.count(name) > 1:
            raise BadInputError(f"column {name!r} is named twice: name it once")
    alternatives = SPACES[space].columns
    wanted = next((c for c in alternatives if set(c) <= set(known)), None)
    if wanted is None:
        needed = " or ".join(", ".join(c) for c in alternatives)
        raise CorruptFileError(
            f"{path} does not describe networks of {space}: it needs the columns {needed}, and "
            f"has {', '.join(known)}"
        )
    table = read_columns(path, list(dict.fromkeys([*wanted, *columns])))
    try:
        genes = SPACES[space].genes({name: table.column(name).to_pylist() for name in wanted})
    except (BadInputError, TypeError, ValueError, IndexError) as error:
        raise CorruptFileError(
            f"the columns {', '.join(wanted)} of {path} are no networks of {space}: {error}"
        ) from error
    latency = [_latencies(table, name) for name in columns]
    return LatencyTable(
        genes=genes,
        features=SPACES[space].features(genes),
        columns=tuple(columns),
        latency_ms=np.stack(latency, axis=1) if latency else np.zeros((len(genes), 0)),
    )


def device_columns(path: Path) -> tuple[str, ...]:
    """The names of all columns of devices: those that begin with `lat_`."""
    return tuple(name for name in column_names(path) if name.startswith("lat_"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """How a table writes the networks of a space.

    Attributes:
        columns: Sets of columns, any one of which says everything.
        genes: Makes genes of one of these.
        features: Makes features of genes.
    """

    columns: tuple[tuple[str, ...], ...]
    genes: Callable[[Columns], Genes]
    features: Callable[[Genes], ArchitectureFeatures]


def _nas_bench_201(columns: Columns) -> Genes:
    space = _NAS_BENCH_201
    if "arch" in columns:
        return space.genes_of(columns["arch"])
    return space.gene_space.check(_matrix(columns["ops"]))


def _fbnet(columns: Columns) -> Genes:
    return _FBNET.gene_space.check(_matrix(columns["op_idx"]))


def _ofa(columns: Columns) -> Genes:
    depths = [columns[f"depth_{stage}"] for stage in range(1, STAGES + 1)]
    return _OFA.genes_of(
        OFASettings(
            resolutions=np.array(columns["resolution"], np.int64),
            depths=np.array(depths, np.int64).T,
            kernels=_matrix(columns["kernel"]),
            expansions=_matrix(columns["expand"]),
        )
    )


def _matrix(rows: list[Any]) -> npt.NDArray[np.int64]:
    return np.array(rows, np.int64)


SPACES: Mapping[str, _Space] = {
    "nb201": _Space(columns=(("ops",), ("arch",)), genes=_nas_bench_201, features=cell_features),
    "fbnet": _Space(
        columns=(("op_idx",),),
        genes=_fbnet,
        features=lambda genes: space_features(_FBNET, genes),
    ),
    "ofa": _Space(
        columns=(
            (
                "resolution",
                *(f"depth_{stage}" for stage in range(1, STAGES + 1)),
                "kernel",
                "expand",
            ),
        ),
        genes=_ofa,
        features=lambda genes: space_features(_OFA, genes),
    ),
}


def _latencies(table: Any, name: str) -> npt.NDArray[np.float64]:
    """A device's column; every value finite and at least 0, not all of them 0."""
    latency = numbers(table, name)
    wrong = np.flatnonzero(~(np.isfinite(latency) & (latency >= 0)))
    if len(wrong):
        raise BadInputError(
            f"{name!r} of row {wrong[0]} is {latency[wrong[0]]:g}: latencies of known devices "
            "must be finite and at least 0; leave the column or the row out"
        )
    if not (latency > 0).any():
        raise BadInputError(f"column {name!r} is 0 in every row: leave it out")
    return latency
