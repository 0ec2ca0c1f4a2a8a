"""The accuracy of a whole table of networks from a few that were trained.

`python -m experiments.accuracy_transfer --space nb201 --table T.parquet --accuracy COLUMN
--train-rows rows.json --out predictions.parquet` learns the accuracies of the rows named in
`rows.json`, a list of positions from 0, and writes what it expects of every row, with a 90 %
interval: the columns `row`, `accuracy`, `lower`, `upper`. Of the table it reads the architectures
and the accuracies of those rows, nothing else. The method is in `predictors.stacked`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.accuracy_tables import SPACES, read_accuracy_table
from experiments.table_files import write_rows
from predictors import StackedPredictor
from records import (
    BadInputError,
    CorruptFileError,
    HwnasError,
    MissingFileError,
    parse_json,
    storage_error,
)

COVERAGE = 0.9
LEAST_ROWS = 5
"""Fewer rows say too little about the errors for an interval."""


def predict(
    table: Path, space: str, column: str, train_rows: Path, out: Path, seed: int = 0
) -> None:
    """Writes `row, accuracy, lower, upper` of all rows as parquet."""
    known = read_accuracy_table(table, space, column)
    rows = read_rows(train_rows, len(known.genes))
    accuracy = known.accuracy[rows]
    missing = rows[~np.isfinite(accuracy)]
    if len(missing):
        raise BadInputError(
            f"{column!r} of row {missing[0]} is {known.accuracy[missing[0]]:g}, and {train_rows} "
            f"names it for training ({len(missing)} such rows): leave failed trainings out"
        )
    model = StackedPredictor(known.space, seed=seed).fit(known.genes[rows], accuracy)
    found = model.interval(known.genes, COVERAGE)
    write_rows(out, {"accuracy": found.mean, "lower": found.lower, "upper": found.upper})


def read_rows(path: Path, count: int) -> npt.NDArray[np.intp]:
    """The rows that a JSON file names, each from 0 to `count - 1`, at least `LEAST_ROWS`.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is not JSON in UTF-8.
        BadInputError: No list of whole numbers, one out of range or given twice, or too few.
    """
    try:
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingFileError(f"cannot read {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing="read the rows") from error
    except ValueError as error:
        raise CorruptFileError(f"cannot read {path}: no JSON in UTF-8, {error}") from error
    if not isinstance(rows, list):
        raise BadInputError(f"{path} must hold a list of rows such as [0, 7, 12]")
    seen: set[int] = set()
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, int):
            raise BadInputError(f"{path}: a row must be a whole number, got {row!r}")
        if not 0 <= row < count:
            raise BadInputError(f"{path}: rows go from 0 to {count - 1}, got {row}")
        if row in seen:
            raise BadInputError(f"{path}: row {row} is named twice: name it once")
        seen.add(row)
    if len(rows) < LEAST_ROWS:
        raise BadInputError(
            f"{path} names {len(rows)} rows: at least {LEAST_ROWS} must be trained"
        )
    return np.array(rows, np.intp)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.accuracy_transfer", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--space", required=True, help=", ".join(SPACES))
    parser.add_argument("--table", required=True, type=Path, help="a parquet table")
    parser.add_argument("--accuracy", required=True, metavar="COLUMN", help="what to learn")
    parser.add_argument("--train-rows", required=True, type=Path, help="JSON: a list of rows")
    parser.add_argument("--out", required=True, type=Path, help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="derives everything random")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; errors that a user can mend are one line and exit code 2."""
    given = _parser().parse_args(arguments)
    try:
        predict(given.table, given.space, given.accuracy, given.train_rows, given.out, given.seed)
    except HwnasError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
