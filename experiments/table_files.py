"""Columns of parquet files: those that users bring, with errors that name the file and the column,
and those that are written for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from records import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    replace_file,
    storage_error,
)


def column_names(path: Path) -> tuple[str, ...]:
    """The columns that a file has.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is no parquet file.
        StorageError: It cannot be read.
    """
    try:
        return tuple(pq.read_schema(path).names)
    except FileNotFoundError:
        raise MissingFileError(f"cannot read the table {path}: there is no such file") from None
    except pa.ArrowInvalid as error:
        raise CorruptFileError(f"cannot read the table {path}: {error}") from error
    except OSError as error:
        raise storage_error(path, error, doing="read the table") from error


def read_columns(path: Path, columns: Sequence[str]) -> Any:
    """Some columns of a file, as an arrow table.

    Raises:
        CorruptFileError: The file is damaged.
    """
    try:
        return pq.read_table(path, columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFileError(f"cannot read the table {path}: {error}") from error


def numbers(table: Any, name: str) -> npt.NDArray[np.float64]:
    """A column of an arrow table as numbers, NaN where it is empty.

    Raises:
        BadInputError: It holds something else.
    """
    kind = table.schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise BadInputError(f"column {name!r} does not hold numbers, but {kind}")
    values = table.column(name).to_pylist()
    return np.array([np.nan if v is None else v for v in values], np.float64)


def write_rows(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes columns of one length, with the number of each row, `row`, before them.

    Raises:
        StorageError: The disk refuses.
    """
    count = len(next(iter(columns.values())))
    table = pa.table({"row": pa.array(range(count), pa.int64()), **columns})
    with replace_file(path) as temporary:
        pq.write_table(table, temporary)
