"""Ledgers on a PostgreSQL server: one schema a run, one writer a run, rows that cannot change.

`postgresql://user@host/database?run=NAME` is the ledger of the run NAME (`main` where none is
named); its tables stand in the schema `hwnas_NAME`, so a database holds any number of runs.

The right to write is a session's advisory lock (section 13.3.5 of PostgreSQL's documentation), and
the session that holds it is the only one that writes: a ledger open for writing has a single
connection and never makes a second. The server drops the lock with the session, so a killed driver
leaves none behind; and a driver that lost its session, because the server was restarted or the
network was cut, cannot write any more, whoever has the lock by then. A pooler between them must
keep sessions (PgBouncer: `pool_mode = session`).
"""

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from records.database import database_errors, parse_url, shown
from records.errors import BadInputError, LockedRunError, StorageError
from records.ledger_tables import WRITTEN, Row, observation_table

DRIVERS = ("psycopg", "psycopg2")
"""Python's drivers for PostgreSQL, the one to prefer first."""

_DEFAULT_RUN = "main"
_PREFIX = "hwnas_"
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,56}")  # a name has at most 63 bytes

# A dead network is noticed within a minute or two instead of hours; the URL may say otherwise.
_PATIENCE = {
    "connect_timeout": 15,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def is_postgres(url: str) -> bool:
    """Whether a URL names a PostgreSQL server, `postgres://` included."""
    return parse_url(url).get_backend_name() in ("postgresql", "postgres")


def with_run(url: str, run: str) -> str:
    """Names the run in a PostgreSQL URL that names none; leaves any other URL as it is.

    Raises:
        BadInputError: The URL is malformed.
    """
    if not is_postgres(url) or "run" in parse_url(url).query:
        return url
    named = parse_url(url).update_query_dict({"run": run})
    return named.render_as_string(hide_password=False)


def schema_of(url: str) -> str:
    """The schema of the run that a URL names.

    Raises:
        BadInputError: `run` cannot be the name of a run.
    """
    run = parse_url(url).query.get("run", _DEFAULT_RUN)
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise BadInputError(
            "?run= must name one run with at most 57 letters, digits, '_', '-' and '.', got "
            f"{run!r}"
        )
    return _PREFIX + run


def postgres_engine(url: str, *, read_only: bool) -> sa.Engine:
    """Connects lazily; an engine that writes has one connection in its life.

    Raises:
        BadInputError: No driver is installed, or the URL cannot be used.
    """
    parsed = _with_driver(parse_url(url))
    options: dict[str, Any] = {"application_name": f"hwnas process {os.getpid()} on {_host()}"}
    if parsed.get_driver_name() in DRIVERS:
        options |= {name: s for name, s in _PATIENCE.items() if name not in parsed.query}
    schema = schema_of(url)
    parsed = parsed.difference_update_query(["run"])
    try:
        if read_only:
            engine = sa.create_engine(parsed, connect_args=options, pool_pre_ping=True)
        else:
            engine = sa.create_engine(parsed, connect_args=options, pool_size=1, max_overflow=0)
            _connect_once(engine, shown(url))
    except (sa.exc.ArgumentError, ImportError) as error:
        raise BadInputError(f"cannot use the database {shown(url)}: {error}") from error
    return engine.execution_options(
        schema_translate_map={None: schema}, postgresql_readonly=read_only
    )


def take_lock(engine: sa.Engine, schema: str, location: str) -> None:
    """Takes the right to write a run, which ends with the engine's connection.

    Raises:
        LockedRunError: Another session has it; the message says which where the server tells.
        StorageError: The server refuses.
    """
    key = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:8], "big", signed=True)
    with database_errors(location, "lock"), engine.begin() as connection:
        _keep_commits(connection)
        if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
            return
        holder = connection.scalar(
            sa.text(
                "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
                "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND (classid::bigint << 32) | objid::bigint = :key"
            ),
            {"key": key},
        )
    raise LockedRunError(
        f"{location} is being written to by {holder or 'another process'}: wait until it ends, "
        "stop it, choose another run with ?run=NAME, or open it read-only"
    )


def make_schema(connection: sa.Connection, schema: str) -> None:
    """Makes a run's schema, unless somebody with the right to do so has made it before."""
    if not sa.inspect(connection).has_schema(schema):
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')


def refuse_changes(connection: sa.Connection, schema: str, tables: list[str]) -> None:
    """Has the server refuse any change or removal of a row."""
    connection.exec_driver_sql(
        f'CREATE FUNCTION "{schema}".hwnas_refuse() RETURNS trigger LANGUAGE plpgsql AS '
        "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$"
    )
    for table in tables:
        connection.exec_driver_sql(
            f'CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON "{schema}".'
            f'{table} FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".hwnas_refuse()'
        )


def insert_statement(schema: str) -> str:
    """The statement that stores a group of observations, given as `rows_json` writes it.

    One statement for a group of 32 takes a third of the time that one for each row takes.
    """
    kinds = {sa.Text: "text", sa.Double: "float8", sa.BigInteger: "int8"}
    columns = observation_table.columns
    typed = ", ".join(f"{name} {kinds[type(columns[name].type)]}" for name in WRITTEN)
    names = ", ".join(WRITTEN)
    return (
        f'INSERT INTO "{schema}".{observation_table.name} ({names}) SELECT {names} FROM '
        f"ROWS FROM (json_to_recordset(%s::json) AS ({typed})) WITH ORDINALITY "
        f"AS new ({names}, place) ORDER BY place"
    )


def rows_json(rows: Sequence[Row]) -> str:
    """A group of rows as a JSON list of objects; Python writes floats such that they come back."""
    return json.dumps([dict(zip(WRITTEN, row, strict=True)) for row in rows], allow_nan=False)


def runs(connection: sa.Connection) -> list[str]:
    """The names of the runs in a database."""
    names = sa.inspect(connection).get_schema_names()
    return sorted(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def _with_driver(url: sa.URL) -> sa.URL:
    """Names the driver that is there, where the URL leaves it open or it is another one."""
    _, _, asked = url.drivername.partition("+")
    if asked not in ("", *DRIVERS):
        return url
    for name in (asked,) if asked else DRIVERS:
        with contextlib.suppress(ImportError):
            import_module(name)
            return url.set(drivername=f"postgresql+{name}")
    package = "psycopg2-binary" if asked == "psycopg2" else "hwnas[postgres]"
    raise BadInputError(
        f"cannot use the database {shown(url.render_as_string(hide_password=False))}: no driver "
        f"for PostgreSQL is installed; run: pip install '{package}'"
    )


def _connect_once(engine: sa.Engine, location: str) -> None:
    """Forbids an engine to connect again when it has lost its connection, and the lock with it."""
    connected: list[None] = []

    @sa.event.listens_for(engine, "do_connect")
    def refuse_second(*_: object) -> None:
        if connected:
            raise StorageError(
                f"cannot append to the ledger {location}: the connection to the server was lost, "
                "and with it the right to write; open it again (--resume), what was committed is "
                "there"
            )

    @sa.event.listens_for(engine, "connect")
    def count(*_: object) -> None:
        connected.append(None)


def _keep_commits(connection: sa.Connection) -> None:
    """Has this session wait for the disk, also on a server that otherwise does not."""
    if connection.scalar(sa.text("SHOW synchronous_commit")) == "off":
        connection.exec_driver_sql("SET synchronous_commit = on")


def _host() -> str:
    return socket.gethostname()[:30]  # the server cuts names off at 63 bytes
