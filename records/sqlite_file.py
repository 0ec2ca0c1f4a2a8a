"""A ledger's SQLite file: how it is opened, and the log beside it while it is written to.

A commit has to be on the disk before anybody hears of it, and waiting for the disk is nearly all
that a commit costs. With SQLite's usual rollback journal it waits three times: the journal, the
folder and the database are flushed one after the other. With a write-ahead log
(https://www.sqlite.org/wal.html) and `synchronous=FULL` it waits once, for the log: whole groups
survive a kill and a power cut just the same, and the commit takes a third of the time. Readers and
the writer do not wait for each other either. The log is a second file, `NAME-wal`, with an index
beside it, `NAME-shm`. Closing a ledger puts the log into the database and makes it a plain file
again, so a finished run can be copied, and read in a folder where nothing can be written. That
needs the file for itself, so readers hold it only while they read. After a kill both files stay;
whoever opens the ledger next finds every committed group in them.

Both also stay where the writer closes while somebody reads who may not write to the file: SQLite
lets only who may write put a log into its database. Nothing is lost, the log has everything; the
next who opens the ledger for writing, or reads it with the right to write, removes them.

The log's index is memory that processes of one machine share. On a network's disk, which other
machines may read at the same time, the rollback journal is kept.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import psutil
import sqlalchemy as sa
from sqlalchemy import pool

# A reader holds a SQLite file for milliseconds; a writer that waits this long has a stuck reader.
_BUSY_SECONDS = 30.0

_NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "virtiofs", "vboxsf",
                  "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "gfs2", "ocfs2",
                  "orangefs", "pvfs2", "panfs", "webdav")  # fmt: skip


def sqlite_engine(path: Path, *, read_only: bool) -> sa.Engine:
    """Opens an existing SQLite file; nothing is created.

    A committed transaction is on the disk (`synchronous=FULL`) and holds exactly the statements
    between its begin and its commit: Python's driver is told not to begin transactions itself, as
    SQLAlchemy's documentation of the pysqlite dialect advises.

    A read-only engine refuses every statement that writes, yet it may finish the rollback of a
    transaction that a killed writer left half done: SQLite shows no content before that. It keeps
    no connection from one transaction to the next.
    """
    kind = pool.NullPool if read_only else pool.QueuePool
    engine = sa.create_engine(
        "sqlite://", creator=lambda: _connect(path, read_only), poolclass=kind
    )
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def begin_log(path: Path) -> None:
    """Lets commits go to a log beside the file; as before where that cannot be."""
    _keep_journal(path, "DELETE" if _is_on_network(path) else "WAL", _BUSY_SECONDS)


def end_log(path: Path) -> None:
    """Puts the log into the file, which is then a plain one; where a reader holds it, it stays."""
    if _wants_log(path):
        _keep_journal(path, "DELETE", 0.0)


def _wants_log(path: Path) -> bool:
    """Whether a file has, or had, a log beside it: byte 18 of SQLite's header says so."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(19)[18:] == b"\2"
    return False


def _keep_journal(path: Path, kind: str, patience_s: float) -> None:
    """Changes the kind of journal, if it can be; the next append finds what is wrong if not."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(_open(path, "mode=rw", patience_s)) as connection,
    ):
        connection.execute(f"PRAGMA journal_mode={kind}")


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    connection = _open(path, "mode=rw", _BUSY_SECONDS)  # rw: never create; falls back to ro
    if not read_only:
        connection.execute("PRAGMA synchronous=FULL")
        return connection
    if _lacks_its_log(connection, path):
        connection.close()
        connection = _open(path, "immutable=1", _BUSY_SECONDS)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _open(path: Path, how: str, patience_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{how}",
        uri=True,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,  # the pool hands a connection to one thread at a time
    )


def _lacks_its_log(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a file wants a log where none is and none can be made: in a read-only folder.

    A reader kept it from becoming a plain file when its writer closed it. All is in the file then.
    """
    log = path.with_name(path.name + "-wal")
    if log.exists() or os.access(path.parent, os.W_OK):
        return False
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorname in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY")
    return False


def _is_on_network(path: Path) -> bool:
    """Whether other machines may have the same disk; unknown kinds of disks count as local."""
    place = path.resolve()
    best, kind = -1, ""
    for disk in psutil.disk_partitions(all=True):
        mount = Path(disk.mountpoint)
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), disk.fstype
    return kind in _NETWORK_DISKS or kind.startswith("fuse.")
