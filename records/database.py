"""Which database a ledger's location names, and a database's errors in words."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import pool

from records.errors import BadInputError, CorruptFileError, HwnasError, StorageError

_SECRETS = ("password", "sslpassword", "passfile", "sslkey")

_ALMOST_URL = re.compile(r"(postgres|postgresql|mysql|sqlite|oracle|mssql)(\+\w+)?(//|:/?[^/])")
"""A path that was meant to be a URL."""

_REFUSALS = {
    "SQLITE_FULL": "free some space or choose another folder",
    "SQLITE_READONLY": "make the file and its folder writable, or open it read-only",
    "SQLITE_IOERR": "check the disk and its free space",
    "SQLITE_CANTOPEN": "check the folder and its permissions",
    "SQLITE_PERM": "check the file's permissions",
    "SQLITE_AUTH": "check the file's permissions",
    "SQLITE_BUSY": "another program holds the file: close it",
    "SQLITE_LOCKED": "another program holds the file: close it",
}


def sqlite_path(location: str | Path) -> Path | None:
    """Returns the file that a path or a `sqlite:///` URL names; None for any other URL.

    Raises:
        BadInputError: The URL is malformed, or almost one, or a SQLite URL has options, which
            would be ignored.
    """
    if isinstance(location, Path) or "://" not in location:
        if _ALMOST_URL.match(str(location)):
            raise BadInputError(
                f"{location} is neither a path nor a URL: a database's URL begins like "
                "postgresql://"
            )
        return Path(location)
    url = parse_url(location)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    if url.query:
        raise BadInputError(f"{location}: a SQLite ledger takes no options; give its path alone")
    return Path(str(url.database))


def shown(location: str | Path) -> str:
    """Returns a location as messages may show it: without the password of a URL."""
    if isinstance(location, Path) or "://" not in location:
        return str(location)
    url = parse_url(location)
    hidden = {name: "***" for name in _SECRETS if name in url.query}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def without_secrets(location: str) -> str:
    """Returns a location as files may keep it: a URL without its password, a path as it is.

    Whoever opens it later gives the password to the driver in another way (`PGPASSWORD`,
    `~/.pgpass`), or the URL anew.
    """
    if "://" not in location:
        return location
    url = parse_url(location)
    bare = url._replace(password=None).difference_update_query(_SECRETS)
    return bare.render_as_string(hide_password=False)


def parse_url(url: str) -> sa.URL:
    """Reads a database URL.

    Raises:
        BadInputError: It is malformed; the message leaves it out, for it may hold a password.
    """
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise BadInputError(
            "the database URL is malformed; give a path or dialect://user:password@host/name"
        ) from None


def url_engine(url: str) -> sa.Engine:
    """Connects lazily to a database server, or to a SQLite database in memory (`sqlite://`).

    Raises:
        BadInputError: The URL names an unknown database or one whose driver is not installed.
    """
    try:
        if parse_url(url).get_backend_name() == "sqlite":
            return sa.create_engine(
                url, poolclass=pool.StaticPool, connect_args={"check_same_thread": False}
            )
        return sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise BadInputError(f"cannot use the database {shown(url)}: {error}") from error


@contextlib.contextmanager
def database_errors(location: str, doing: str) -> Iterator[None]:
    """Turns a database's errors into ours; nothing is retried.

    Args:
        location: The database, as messages show it.
        doing: The verb of the sentence, e.g. "append to".

    Raises:
        StorageError: The disk, the permissions or the server refuse.
        CorruptFileError: The content is damaged or is no ledger.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise _reworded(error, f"cannot {doing} the ledger {location}") from error


def _reworded(error: sa.exc.DBAPIError, sentence: str) -> HwnasError:
    code = getattr(error.orig, "sqlite_errorname", None)
    if code is None:  # a database server: whatever went wrong, the observations are not stored
        reason = " ".join(str(error.orig).split())
        return StorageError(f"{sentence}: {reason}; check the server and the URL")
    for prefix, advice in _REFUSALS.items():
        if code.startswith(prefix):
            return StorageError(f"{sentence}: {error.orig} ({code}); {advice}")
    if code == "SQLITE_NOTADB":
        return CorruptFileError(f"{sentence}: it is not a SQLite file")
    return CorruptFileError(f"{sentence}: {error.orig} ({code}); it is damaged or no ledger")
