"""Latency on a new device from a handful of measured networks.

`python -m experiments.latency_transfer select` names the networks to measure, from architectures
and other devices' tables alone; `predict` makes of their latencies those of the whole table, with
a 90 % interval. A row is named by its position in the table, from 0. The method is in
`latency_models.transfer`.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.latency_tables import SPACES, LatencyTable, read_latency_table
from experiments.table_files import write_rows
from latency_models.transfer import LEAST_SAMPLES, LatencyTransfer
from records import (
    BadInputError,
    CorruptFileError,
    HwnasError,
    MissingFileError,
    storage_error,
    write_json,
)

COVERAGE = 0.9
FIELDS = ("row", "latency_ms")


def select(
    table: Path, space: str, source_columns: Sequence[str], samples: int, seed: int
) -> list[int]:
    """The rows to measure, most telling first."""
    transfer = _transfer(read_latency_table(table, space, source_columns))
    return [int(row) for row in transfer.choose(samples, seed)]


def predict(
    table: Path, space: str, source_columns: Sequence[str], measured: Path, out: Path
) -> None:
    """Writes `row, latency_ms, lower, upper` of all rows as parquet."""
    rows, latency_ms = read_measured(measured)
    known = read_latency_table(table, space, source_columns)
    found = _transfer(known).predict(rows, latency_ms, coverage=COVERAGE)
    columns = {"latency_ms": found.latency_ms, "lower": found.lower_ms, "upper": found.upper_ms}
    write_rows(out, columns)


def read_measured(path: Path) -> tuple[list[int], list[float]]:
    """Rows and latencies of a file with the columns `row` and `latency_ms`.

    Raises:
        BadInputError: A column is missing, or a line does not hold a whole number and a positive
            latency; the line is named.
        MissingFileError: There is no such file.
        CorruptFileError: It is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingFileError(f"cannot read {path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"cannot read {path}: not UTF-8 text, {error}") from error
    except OSError as error:
        raise storage_error(path, error, doing="read the measurements") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in FIELDS if name not in (reader.fieldnames or ())]
    if missing:
        raise BadInputError(
            f"{path} has no column {missing[0]!r}: its first line must name row and latency_ms, "
            f"and is {','.join(reader.fieldnames or ())!r}"
        )
    rows: list[int] = []
    latency_ms: list[float] = []
    for line in reader:
        where = f"{path}, line {reader.line_num}"
        rows.append(_whole(line["row"], where))
        latency_ms.append(_latency(line["latency_ms"], where))
    return rows, latency_ms


def _whole(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise BadInputError(f"{where}: row must be a whole number, got {text!r}") from None


def _latency(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise BadInputError(f"{where}: latency_ms must be a number, got {text!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise BadInputError(f"{where}: latency_ms must be positive and finite, got {text!r}")
    return value


def _transfer(table: LatencyTable) -> LatencyTransfer:
    return LatencyTransfer(table.features, table.genes, table.latency_ms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.latency_transfer", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("select", "name the rows to measure"),
        ("predict", "predict all rows from the measured ones"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--space", required=True, help=", ".join(SPACES))
        command.add_argument("--sources", required=True, type=Path, help="a parquet table")
        command.add_argument(
            "--source-columns", required=True, help="lat_a,lat_b,... ; '' for none"
        )
        command.add_argument("--out", required=True, type=Path, help="the file to write")
    select_command, predict_command = commands.choices["select"], commands.choices["predict"]
    select_command.add_argument(
        "--samples", type=int, default=10, help=f"rows to measure, at least {LEAST_SAMPLES}"
    )
    select_command.add_argument("--seed", type=int, default=0, help="derives everything random")
    predict_command.add_argument(
        "--measured", required=True, type=Path, help="csv with the columns row,latency_ms"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; errors that a user can mend are one line and exit code 2."""
    given = _parser().parse_args(arguments)
    columns = [name.strip() for name in given.source_columns.split(",") if name.strip()]
    try:
        if given.command == "select":
            rows = select(given.sources, given.space, columns, given.samples, given.seed)
            write_json(given.out, rows)
        else:
            predict(given.sources, given.space, columns, given.measured, given.out)
    except HwnasError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
