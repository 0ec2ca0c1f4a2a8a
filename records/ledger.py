"""The ledger: every observation of a run, committed before it counts, and never changed.

The one source of a run's results. It holds what was observed, in the order it was observed;
fronts, reports, predictors and the Optuna mirror are recomputed from it. It is a SQLite file by
default, or a run in a PostgreSQL database by URL, written by the driver alone, in groups: one
group is one transaction, so a killed run has whole groups and nothing else.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from records.database import database_errors
from records.errors import BadInputError
from records.json_text import Json, json_text, parse_json
from records.ledger_store import Store, check_free, checked_header, create_store, open_store
from records.ledger_tables import (
    note_table,
    observation_row,
    observation_table,
    row_observation,
)
from records.observation import Observation

_APPEND = "append to"


class Ledger:
    """An open ledger; made by `Ledger.create` or `Ledger.open`, closed by `close` or `with`.

    A ledger open for writing is locked against a second writer until it is closed or its process
    dies; read-only ledgers may be open beside it. Databases other than SQLite files and PostgreSQL
    are not locked: there, one driver a run is the user's promise.

    >>> with Ledger.create("sqlite://", {"seed": 0}) as ledger:  # a database in memory
    ...     ledger.append([Observation(genes=(2, 0, 1), metric="accuracy", value=0.9)])
    ...     [observation.value for observation in ledger.observations("accuracy")]
    [0.9]
    """

    def __init__(self, store: Store, *, read_only: bool = False) -> None:
        """Checks the header of an open database; use `create` or `open` instead."""
        self.location = store.location
        self._store = store
        self._engine = store.engine
        self._is_read_only = read_only
        self._is_writing = False
        self._is_closed = False
        self._owner = os.getpid()
        try:
            self._run = checked_header(store)
        except BaseException:
            store.close()
            raise

    @classmethod
    def create(cls, path_or_url: str | Path, run: Mapping[str, Any]) -> Self:
        """Makes a new ledger and opens it for writing.

        Args:
            path_or_url: A file that does not exist yet, or a database URL
                (`postgresql://user@host/database?run=NAME`).
            run: The run's header, kept unchanged for good: configuration, seed, versions, hashes.

        Raises:
            ExistingRunError: A file, or a ledger in the database, is already there.
            LockedRunError: Another process is making it.
            BadInputError: The header cannot be JSON, the URL cannot be used, or its driver is not
                installed.
            StorageError: The disk or the server refuses.
        """
        return cls(create_store(path_or_url, json_text(dict(run)), _now()))

    @staticmethod
    def check_free(path_or_url: str | Path) -> None:
        """Says at once what `create` would refuse later: an existing file, a server out of reach.

        Args:
            path_or_url: Where the ledger is to be.

        Raises:
            ExistingRunError: There is a file.
            BadInputError: The URL cannot be used, or its driver is not installed.
            StorageError: The server refuses.
        """
        check_free(path_or_url)

    @classmethod
    def open(cls, path_or_url: str | Path, *, read_only: bool = False) -> Self:
        """Opens an existing ledger, to continue its run or to read it.

        Args:
            path_or_url: The ledger's file or database URL.
            read_only: Takes no lock and cannot append; works beside a running writer.

        Raises:
            MissingFileError: There is no such file, or no such run in the database.
            CorruptFileError: It is not a ledger, is damaged, or has another schema version.
            LockedRunError: Another process is writing to it.
            BadInputError: The URL cannot be used, or its driver is not installed.
            StorageError: The disk or the server refuses.
        """
        return cls(open_store(path_or_url, read_only=read_only), read_only=read_only)

    @property
    def run(self) -> dict[str, Any]:
        """A copy of the header given at creation, as JSON holds it (tuples are lists)."""
        return dict(parse_json(self._run))

    def append(self, observations: Sequence[Observation]) -> None:
        """Commits observations in one transaction: when this returns, they are on the disk.

        When it raises, none of them is stored, and what was stored before is untouched; only a
        server that is lost in the middle of the commit may have stored all of them.

        Raises:
            StorageError: The disk is full or read-only, or the server refuses or is lost.
        """
        if not observations:
            return
        recorded_at = _now()
        rows = [observation_row(observation, recorded_at) for observation in observations]
        with self._transaction(_APPEND) as connection:
            self._store.insert(connection, rows)

    def observations(
        self, metric: str | None = None, target: str | None = None, status: str | None = None
    ) -> list[Observation]:
        """Returns the observations in the order they were appended.

        Args:
            metric: Only this metric; None for all.
            target: Only this target ("" for those that belong to none); None for all.
            status: Only "ok" or only "failed"; None for both.
        """
        rows = self._rows(metric, target, status)
        return [row_observation(row, self.location) for row in rows]

    def dated_observations(
        self, metric: str | None = None, target: str | None = None, status: str | None = None
    ) -> list[tuple[datetime, Observation]]:
        """Returns the observations as `observations` does, each with its time of commit (UTC).

        The order is that of the commits, also where the clock was set back between them.
        """
        return [
            (datetime.fromisoformat(row[1]), row_observation(row, self.location))
            for row in self._rows(metric, target, status)
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
        if self._is_closed:
            return
        self._is_closed = True
        if os.getpid() == self._owner:
            self._store.close()
        else:
            self._store.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _rows(
        self, metric: str | None, target: str | None, status: str | None
    ) -> Sequence[Sequence[Any]]:
        query = sa.select(observation_table).order_by(observation_table.c.id)
        for column, wanted in (("metric", metric), ("target", target), ("status", status)):
            if wanted is not None:
                query = query.where(observation_table.c[column] == wanted)
        with self._transaction("read") as connection:
            return connection.execute(query).all()

    @contextlib.contextmanager
    def _transaction(self, doing: str) -> Iterator[sa.Connection]:
        if self._is_closed:
            raise BadInputError(f"the ledger {self.location} is closed: open it again")
        if self._is_read_only and doing == _APPEND:
            raise BadInputError(f"the ledger {self.location} was opened read-only")
        if doing == _APPEND and not self._is_writing:
            self._store.begin_writing()
            self._is_writing = True
        with database_errors(self.location, doing), self._engine.begin() as connection:
            yield connection


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
