"""Where a ledger lies: a SQLite file, a run on a PostgreSQL server, or another database.

A store is made whole or not at all, and opened only if it is a ledger of this version. For one
that is written to, there is a single writer: a file by a lock beside it, a PostgreSQL run by a
lock of the server. Other databases are not locked: there, one driver a run is the user's promise.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from records import postgres
from records.database import database_errors, shown, sqlite_path, url_engine
from records.errors import (
    CorruptFileError,
    ExistingRunError,
    MissingFileError,
    storage_error,
)
from records.file_lock import FileLock
from records.files import replace_file
from records.json_text import parse_json
from records.ledger_tables import (
    SCHEMA_VERSION,
    Row,
    create_tables,
    insert_statement,
    metadata,
    run_table,
)
from records.sqlite_file import begin_log, end_log, sqlite_engine

_INSTEAD = "continue that run with --resume, or choose another "


@dataclass(slots=True, kw_only=True)
class Store:
    """An open database that holds a ledger.

    Attributes:
        engine: Its connections.
        location: Its name in messages.
        path: Its file, where it is one.
        schema: The schema of its tables, where they are in one.
        lock: The right to write to its file.
    """

    engine: sa.Engine
    location: str
    path: Path | None = None
    schema: str | None = None
    lock: FileLock | None = None
    _insert: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.schema is None:
            self._insert = insert_statement("?" if self.engine.name == "sqlite" else "%s")
        else:
            self._insert = postgres.insert_statement(self.schema)

    def insert(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Stores the rows of observations in their order, of which there is at least one."""
        if self.schema is None:
            connection.exec_driver_sql(self._insert, list(rows))
        else:
            connection.exec_driver_sql(self._insert, (postgres.rows_json(rows),))

    def begin_writing(self) -> None:
        """Gives a file its log; called before the first transaction that writes."""
        if self.lock is not None and self.path is not None:
            self.engine.dispose()  # the kind of journal changes for a file that nobody has open
            begin_log(self.path)

    def close(self) -> None:
        """Closes the connections and gives the right to write back."""
        self.engine.dispose()
        if self.lock is not None and self.path is not None:
            end_log(self.path)
            self.lock.release()

    def abandon(self) -> None:
        """Forgets the connections in a forked child, whose parent goes on with them."""
        self.engine.dispose(close=False)


def create_store(path_or_url: str | Path, header: str, created_at: str) -> Store:
    """Makes a ledger and opens it for writing; see `Ledger.create`.

    Args:
        path_or_url: The file or the database.
        header: The run's header, as JSON.
        created_at: The time, as the ledger writes it.
    """
    run = {"schema_version": SCHEMA_VERSION, "created_at": created_at, "header": header}
    path = sqlite_path(path_or_url)
    if path is not None:
        return _create_file(path, shown(path_or_url), run)
    store = _server(str(path_or_url), read_only=False)
    try:
        _create_tables(store, run)
    except BaseException:
        store.close()
        raise
    return store


def check_free(path_or_url: str | Path) -> None:
    """Says now what `create_store` would say: an existing file, a server out of reach.

    Raises:
        ExistingRunError: There is a file.
        BadInputError: The URL cannot be used, or its driver is not installed.
        StorageError: The server refuses.
    """
    path = sqlite_path(path_or_url)
    if path is not None:
        _refuse_existing(path)
        return
    store = _server(str(path_or_url), read_only=True)
    try:
        with database_errors(store.location, "reach"), store.engine.connect():
            pass
    finally:
        store.close()


def open_store(path_or_url: str | Path, *, read_only: bool) -> Store:
    """Opens the database of an existing ledger; see `Ledger.open`."""
    path = sqlite_path(path_or_url)
    if path is None:
        return _server(str(path_or_url), read_only=read_only)
    location = shown(path_or_url)
    if not path.exists():
        raise MissingFileError(f"cannot open the ledger {path}: there is no such file")
    if path.is_dir():
        raise CorruptFileError(f"cannot open the ledger {path}: it is a folder, not a file")
    if read_only:
        return Store(engine=sqlite_engine(path, read_only=True), location=location, path=path)
    if not os.access(path, os.W_OK):  # SQLite would find out only at the first append
        refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise storage_error(path, refusal)
    with _released_on_error(_lock(path)) as lock:
        engine = sqlite_engine(path, read_only=False)
        return Store(engine=engine, location=location, path=path, lock=lock)


def checked_header(store: Store) -> str:
    """Checks that a database is a ledger of this version; returns the run's header as JSON."""
    with database_errors(store.location, "open"), store.engine.begin() as connection:
        _check_tables(connection, store)
        rows = connection.execute(sa.select(run_table)).all()
    if len(rows) != 1:
        raise CorruptFileError(f"{store.location} has {len(rows)} headers instead of one")
    if rows[0].schema_version != SCHEMA_VERSION:
        raise CorruptFileError(
            f"the ledger {store.location} has schema version {rows[0].schema_version}, "
            f"this hwnas reads {SCHEMA_VERSION}: open it with the version that wrote it"
        )
    if not isinstance(_parsed(rows[0].header), dict):
        raise CorruptFileError(f"the header of the ledger {store.location} is damaged")
    return str(rows[0].header)


def _check_tables(connection: sa.Connection, store: Store) -> None:
    present = set(sa.inspect(connection).get_table_names(schema=store.schema))
    missing = sorted(set(metadata.tables) - present)
    if not missing:
        return
    if store.schema is not None and not present:
        there = ", ".join(postgres.runs(connection)) or "none"
        raise MissingFileError(
            f"cannot open the ledger {store.location}: the database has no such run; name one "
            f"with ?run=NAME, there is: {there}"
        )
    raise CorruptFileError(
        f"{store.location} is a database but not a ledger: it has no table {', '.join(missing)}"
    )


def _server(url: str, *, read_only: bool) -> Store:
    location = shown(url)
    if not postgres.is_postgres(url):
        return Store(engine=url_engine(url), location=location)
    store = Store(
        engine=postgres.postgres_engine(url, read_only=read_only),
        location=location,
        schema=postgres.schema_of(url),
    )
    if not read_only:
        try:
            postgres.take_lock(store.engine, str(store.schema), location)
        except BaseException:
            store.close()
            raise
    return store


def _create_file(path: Path, location: str, run: Mapping[str, Any]) -> Store:
    _refuse_existing(path)
    with _released_on_error(_lock(path)) as lock:
        _refuse_existing(path)
        with replace_file(path) as temporary:  # killed meanwhile, no half-made ledger stays
            engine = sqlite_engine(temporary, read_only=False)
            try:
                _create_tables(Store(engine=engine, location=location), run)
            finally:
                engine.dispose()
        engine = sqlite_engine(path, read_only=False)
        return Store(engine=engine, location=location, path=path, lock=lock)


def _create_tables(store: Store, run: Mapping[str, Any]) -> None:
    with database_errors(store.location, "create"), store.engine.begin() as connection:
        present = set(sa.inspect(connection).get_table_names(schema=store.schema))
        if present & set(metadata.tables):
            other = "folder" if store.schema is None else "name with ?run=NAME"
            raise ExistingRunError(f"{store.location} already holds a ledger: {_INSTEAD}{other}")
        if store.schema is not None:
            postgres.make_schema(connection, store.schema)
        create_tables(connection)
        if store.schema is not None:
            postgres.refuse_changes(connection, store.schema, list(metadata.tables))
        connection.execute(sa.insert(run_table), [dict(run)])


def _refuse_existing(path: Path) -> None:
    # SQLite would roll the journal of a removed ledger back into the new one.
    for name in (path.name, f"{path.name}-journal", f"{path.name}-wal"):
        if path.with_name(name).exists():
            raise ExistingRunError(f"{path.with_name(name)} already exists: {_INSTEAD}folder")


def _lock(path: Path) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, error, doing="make the folder") from error
    return FileLock(path)


@contextlib.contextmanager
def _released_on_error(lock: FileLock) -> Iterator[FileLock]:
    try:
        yield lock
    except BaseException:
        lock.release()
        raise


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None
