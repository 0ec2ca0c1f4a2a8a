"""The ledger's tables, and an observation as one of their rows."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa

from records.errors import CorruptFileError
from records.observation import Observation

SCHEMA_VERSION = 1

Row: TypeAlias = tuple[Any, ...]

metadata = sa.MetaData()

run_table = sa.Table(
    "hwnas_run",
    metadata,
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("header", sa.Text, nullable=False),  # JSON
)

observation_table = sa.Table(
    "hwnas_observation",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("recorded_at", sa.Text, nullable=False),  # ISO 8601, UTC
    sa.Column("genes", sa.Text, nullable=False),  # JSON list of integers
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("dispersion", sa.Double),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("weights_hash", sa.Text, nullable=False),
    sa.Column("space_hash", sa.Text, nullable=False),
    sa.Column("raw", sa.Text, nullable=False),  # JSON list of numbers
    sqlite_autoincrement=True,
)

note_table = sa.Table(
    "hwnas_note",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("recorded_at", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),  # JSON
    sqlite_autoincrement=True,
)

WRITTEN = tuple(column.name for column in observation_table.columns if column.name != "id")
"""The columns of a row as it is stored; the database numbers them."""


def create_tables(connection: sa.Connection) -> None:
    """Creates the tables; SQLite is told to refuse any change or removal of a row."""
    metadata.create_all(connection)
    if connection.dialect.name != "sqlite":
        return
    for table in metadata.tables:
        for verb in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
            )


def insert_statement(place: str) -> str:
    """The statement that stores the rows of `observation_row`, for a driver's `executemany`.

    Args:
        place: How the driver marks the place of a value: `?` or `%s`.
    """
    places = ", ".join([place] * len(WRITTEN))
    return f"INSERT INTO {observation_table.name} ({', '.join(WRITTEN)}) VALUES ({places})"


def observation_row(observation: Observation, recorded_at: str) -> Row:
    """Returns an observation as the values of one row, in the order of the columns after `id`."""
    return (
        recorded_at,
        _json_list(observation.genes),
        observation.metric,
        observation.target,
        observation.unit,
        observation.value,
        observation.dispersion,
        observation.status,
        observation.reason,
        observation.step,
        observation.seconds,
        observation.weights_hash,
        observation.space_hash,
        _json_list(observation.raw),
    )


def row_observation(row: Sequence[Any], location: str) -> Observation:
    """Returns the observation of a whole row, `id` first; the inverse of `observation_row`.

    Raises:
        CorruptFileError: The row holds what `append` never writes.
    """
    try:
        return Observation(
            genes=tuple(json.loads(row[2])),
            metric=row[3],
            target=row[4],
            unit=row[5],
            value=row[6],
            dispersion=row[7],
            status=row[8],
            reason=row[9],
            step=row[10],
            seconds=row[11],
            weights_hash=row[12],
            space_hash=row[13],
            raw=tuple(json.loads(row[14])) if row[14] != "[]" else (),
        )
    except (ValueError, TypeError) as error:
        raise CorruptFileError(
            f"observation {row[0]} of the ledger {location} is damaged: {error}"
        ) from error


def _json_list(numbers: Sequence[int] | Sequence[float]) -> str:
    """A JSON list of plain finite numbers, for which Python's `repr` is JSON."""
    return f"[{','.join(map(repr, numbers))}]"
