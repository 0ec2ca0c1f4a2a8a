"""The ledger's tables, and an observation as one of their rows."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from records.errors import CorruptFileError
from records.observation import Observation

SCHEMA_VERSION = 1

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


def observation_row(observation: Observation, recorded_at: str) -> dict[str, Any]:
    """Returns an observation as the values of one row."""
    return {
        "recorded_at": recorded_at,
        "genes": json.dumps(observation.genes, separators=(",", ":")),
        "metric": observation.metric,
        "target": observation.target,
        "unit": observation.unit,
        "value": observation.value,
        "dispersion": observation.dispersion,
        "status": observation.status,
        "reason": observation.reason,
        "step": observation.step,
        "seconds": observation.seconds,
        "weights_hash": observation.weights_hash,
        "space_hash": observation.space_hash,
        "raw": json.dumps(observation.raw, separators=(",", ":"), allow_nan=False),
    }


def row_observation(row: Mapping[str, Any], location: str) -> Observation:
    """Returns the observation of a row; the inverse of `observation_row`.

    Raises:
        CorruptFileError: The row holds what `append` never writes.
    """
    try:
        fields = {name: row[name] for name in row if name not in ("id", "recorded_at")}
        fields["genes"] = tuple(json.loads(row["genes"]))
        fields["raw"] = tuple(json.loads(row["raw"]))
        return Observation(**fields)
    except (ValueError, TypeError) as error:
        raise CorruptFileError(
            f"observation {row['id']} of the ledger {location} is damaged: {error}"
        ) from error
