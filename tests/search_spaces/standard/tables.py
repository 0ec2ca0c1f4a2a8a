"""The published tables, where they are at hand beside the repository."""

from pathlib import Path

import numpy as np
import pytest

BENCHDATA = Path(__file__).parents[4] / "shared" / "benchdata"


def published(name, *columns):
    """The columns of a table as arrays, lists as rows of a matrix; skips where it is absent."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = BENCHDATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    table = parquet.read_table(path, columns=list(columns))
    return {c: np.array(table.column(c).to_pylist()) for c in columns}


def assert_equals_float32(exact, rounded):
    """Whole numbers equal a table's column, which holds millions in 32 bits."""
    np.testing.assert_array_equal((exact / 1e6).astype(np.float32), rounded.astype(np.float32))
