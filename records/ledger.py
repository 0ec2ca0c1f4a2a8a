"""The ledger: every observation of a run, committed before it counts, and never changed.

The one source of a run's results. It holds what was observed, in the order it was observed;
fronts, reports, predictors and the Optuna mirror are recomputed from it. It is a SQLite file by
default (any database SQLAlchemy knows by URL), written by the driver alone, in groups: one group
is one transaction, so a killed run has whole groups and nothing else.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from records.database import database_errors, shown, sqlite_engine, sqlite_path, url_engine
from records.errors import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    MissingFileError,
    storage_error,
)
from records.file_lock import FileLock
from records.files import replace_file
from records.json_text import Json, json_text, parse_json
from records.ledger_tables import (
    SCHEMA_VERSION,
    create_tables,
    metadata,
    note_table,
    observation_row,
    observation_table,
    row_observation,
    run_table,
)
from records.observation import Observation

_APPEND = "append to"
_INSTEAD = "continue that run with --resume, or choose another folder"


class Ledger:
    """An open ledger; made by `Ledger.create` or `Ledger.open`, closed by `close` or `with`.

    A SQLite ledger open for writing is locked against a second writer until it is closed or its
    process dies; read-only ledgers may be open beside it. A database server's ledger is not
    locked: there, one driver a run is the user's promise.

    >>> with Ledger.create("sqlite://", {"seed": 0}) as ledger:  # a database in memory
    ...     ledger.append([Observation(genes=(2, 0, 1), metric="accuracy", value=0.9)])
    ...     [observation.value for observation in ledger.observations("accuracy")]
    [0.9]
    """

    def __init__(
        self, engine: sa.Engine, location: str, lock: FileLock | None, *, read_only: bool = False
    ) -> None:
        """Reads the header of an open database; use `create` or `open` instead."""
        self.location = location
        self._engine = engine
        self._lock = lock
        self._is_read_only = read_only
        self._is_closed = False
        self._run = self._read_header()

    @classmethod
    def create(cls, path_or_url: str | Path, run: Mapping[str, Any]) -> Self:
        """Makes a new ledger and opens it for writing.

        Args:
            path_or_url: A file that does not exist yet, or a database URL.
            run: The run's header, kept unchanged for good: configuration, seed, versions, hashes.

        Raises:
            ExistingRunError: A file, or a ledger in the database, is already there.
            LockedRunError: Another process is making it.
            BadInputError: The header cannot be JSON, or the URL cannot be used.
            StorageError: The disk or the server refuses.
        """
        header = {
            "schema_version": SCHEMA_VERSION,
            "created_at": _now(),
            "header": json_text(dict(run)),
        }
        location = shown(path_or_url)
        path = sqlite_path(path_or_url)
        if path is None:
            engine = url_engine(str(path_or_url))
            try:
                _create_tables(engine, location, header)
                return cls(engine, location, lock=None)
            except BaseException:
                engine.dispose()
                raise
        _refuse_existing(path)
        with _released_on_error(_lock(path)) as lock:
            _refuse_existing(path)
            with replace_file(path) as temporary:  # killed meanwhile, no half-made ledger stays
                _create_sqlite(temporary, location, header)
            return cls(sqlite_engine(path, read_only=False), location, lock)

    @classmethod
    def open(cls, path_or_url: str | Path, *, read_only: bool = False) -> Self:
        """Opens an existing ledger, to continue its run or to read it.

        Args:
            path_or_url: The ledger's file or database URL.
            read_only: Takes no lock and cannot append; works beside a running writer.

        Raises:
            MissingFileError: There is no such file.
            CorruptFileError: It is not a ledger, is damaged, or has another schema version.
            LockedRunError: Another process is writing to it.
            StorageError: The disk or the server refuses.
        """
        location = shown(path_or_url)
        path = sqlite_path(path_or_url)
        if path is None:
            engine = url_engine(str(path_or_url))
            return cls(engine, location, lock=None, read_only=read_only)
        if not path.exists():
            raise MissingFileError(f"cannot open the ledger {path}: there is no such file")
        if path.is_dir():
            raise CorruptFileError(f"cannot open the ledger {path}: it is a folder, not a file")
        if read_only:
            engine = sqlite_engine(path, read_only=True)
            return cls(engine, location, lock=None, read_only=True)
        if not os.access(path, os.W_OK):  # SQLite would find out only at the first append
            refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise storage_error(path, refusal)
        with _released_on_error(_lock(path)) as lock:
            return cls(sqlite_engine(path, read_only=False), location, lock)

    @property
    def run(self) -> dict[str, Any]:
        """A copy of the header given at creation, as JSON holds it (tuples are lists)."""
        return dict(parse_json(self._run))

    def append(self, observations: Sequence[Observation]) -> None:
        """Commits observations in one transaction: when this returns, they are on the disk.

        When it raises, none of them is stored, and what was stored before is untouched.

        Raises:
            StorageError: The disk is full or read-only, or the server refuses.
        """
        if not observations:
            return
        recorded_at = _now()
        rows = [observation_row(observation, recorded_at) for observation in observations]
        with self._transaction(_APPEND) as connection:
            connection.execute(sa.insert(observation_table), rows)

    def observations(
        self, metric: str | None = None, target: str | None = None, status: str | None = None
    ) -> list[Observation]:
        """Returns the observations in the order they were appended.

        Args:
            metric: Only this metric; None for all.
            target: Only this target ("" for those that belong to none); None for all.
            status: Only "ok" or only "failed"; None for both.
        """
        dated = self.dated_observations(metric, target, status)
        return [observation for _, observation in dated]

    def dated_observations(
        self, metric: str | None = None, target: str | None = None, status: str | None = None
    ) -> list[tuple[datetime, Observation]]:
        """Returns the observations as `observations` does, each with its time of commit (UTC)."""
        query = sa.select(observation_table).order_by(observation_table.c.id)
        for column, wanted in (("metric", metric), ("target", target), ("status", status)):
            if wanted is not None:
                query = query.where(observation_table.c[column] == wanted)
        with self._transaction("read") as connection:
            rows = connection.execute(query).mappings().all()
        return [
            (
                datetime.fromisoformat(row["recorded_at"]),
                row_observation({str(name): item for name, item in row.items()}, self.location),
            )
            for row in rows
        ]

    def __len__(self) -> int:
        """Returns the number of observations, failed ones included."""
        with self._transaction("read") as connection:
            count = sa.select(sa.func.count()).select_from(observation_table)
            return int(connection.execute(count).scalar_one())

    def note(self, name: str, value: Json) -> None:
        """Appends an event of the run, e.g. `note("phase finished", "supernet")`.

        Raises:
            BadInputError: The value cannot be JSON.
            StorageError: As `append`.
        """
        row = {"recorded_at": _now(), "name": name, "value": json_text(value)}
        with self._transaction(_APPEND) as connection:
            connection.execute(sa.insert(note_table), [row])

    def notes(self, name: str) -> list[Any]:
        """Returns the values noted under a name, in the order they were noted; empty if none."""
        query = sa.select(note_table.c.value).where(note_table.c.name == name)
        with self._transaction("read") as connection:
            values = connection.execute(query.order_by(note_table.c.id)).scalars().all()
        return [parse_json(value) for value in values]

    def close(self) -> None:
        """Closes the database and gives the lock back; a second call does nothing."""
        self._is_closed = True
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self, doing: str) -> Iterator[sa.Connection]:
        if self._is_closed:
            raise BadInputError(f"the ledger {self.location} is closed: open it again")
        if self._is_read_only and doing == _APPEND:
            raise BadInputError(f"the ledger {self.location} was opened read-only")
        with database_errors(self.location, doing), self._engine.begin() as connection:
            yield connection

    def _read_header(self) -> str:
        """Checks that the database is a ledger of this version, and returns the run's JSON."""
        try:
            with self._transaction("open") as connection:
                present = set(sa.inspect(connection).get_table_names())
                missing = sorted(set(metadata.tables) - present)
                if missing:
                    raise CorruptFileError(
                        f"{self.location} is a database but not a ledger: it has no table "
                        f"{', '.join(missing)}"
                    )
                rows = connection.execute(sa.select(run_table)).all()
            if len(rows) != 1:
                raise CorruptFileError(f"{self.location} has {len(rows)} headers instead of one")
            if rows[0].schema_version != SCHEMA_VERSION:
                raise CorruptFileError(
                    f"the ledger {self.location} has schema version {rows[0].schema_version}, "
                    f"this hwnas reads {SCHEMA_VERSION}: open it with the version that wrote it"
                )
            if not isinstance(_parsed(rows[0].header), dict):
                raise CorruptFileError(f"the header of the ledger {self.location} is damaged")
            return str(rows[0].header)
        except BaseException:
            self._engine.dispose()
            raise


def _create_sqlite(path: Path, location: str, header: Mapping[str, Any]) -> None:
    engine = sqlite_engine(path, read_only=False)
    try:
        _create_tables(engine, location, header)
    finally:
        engine.dispose()


def _create_tables(engine: sa.Engine, location: str, header: Mapping[str, Any]) -> None:
    with database_errors(location, "create"), engine.begin() as connection:
        present = set(sa.inspect(connection).get_table_names())
        if present & set(metadata.tables):
            raise ExistingRunError(f"{location} already holds a ledger: {_INSTEAD}")
        create_tables(connection)
        connection.execute(sa.insert(run_table), [dict(header)])


def _refuse_existing(path: Path) -> None:
    # SQLite would roll the journal of a removed ledger back into the new one.
    for name in (path.name, f"{path.name}-journal", f"{path.name}-wal"):
        if path.with_name(name).exists():
            raise ExistingRunError(f"{path.with_name(name)} already exists: {_INSTEAD}")


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
