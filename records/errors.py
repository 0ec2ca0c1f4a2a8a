"""The errors of the project: one root, a few families, each also the built-in it specialises.

A message says what was got, what is allowed and what to do. Rooms derive their own errors from
these.
"""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class HwnasError(Exception):
    """The root: everything that hwnas raises on purpose."""


class BadInputError(HwnasError, ValueError):
    """An argument, option or configuration that cannot be used."""


class UnknownNameError(BadInputError, KeyError):
    """A name that is not among the known ones; `unknown_name` words it."""

    def __str__(self) -> str:
        """Returns the plain message; `KeyError` alone would show its quoted repr."""
        return str(self.args[0]) if self.args else ""


class CorruptFileError(HwnasError, ValueError):
    """A file that is not what it should be: damaged, foreign or of another version."""


class MissingFileError(CorruptFileError, FileNotFoundError):
    """A file that should be read and is not there."""


class ExistingRunError(HwnasError, FileExistsError):
    """Something already stands where a run would be written; nothing is ever overwritten."""


class StorageError(HwnasError, OSError):
    """The disk or database refuses: read-only, full, not permitted, failing."""


class LockedRunError(StorageError):
    """Another process is writing to the same run."""


_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EROFS: "choose a folder on a writable disk",
    errno.EACCES: "make it writable or choose another folder",
    errno.EPERM: "make it writable or choose another folder",
    errno.EEXIST: "a part of the path is a file: choose another folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EISDIR: "the path is a folder: choose another name",
}


def unknown_name(kind: str, got: str, allowed: Iterable[str]) -> UnknownNameError:
    """Makes the error for a misspelt name, with a suggestion and every valid name.

    Args:
        kind: What is named, in the singular, e.g. "device".
        got: The name received.
        allowed: The valid names, in any order.

    >>> print(unknown_name("metric", "acuracy", ["latency_ms", "accuracy"]))
    unknown metric 'acuracy'; did you mean 'accuracy'? Known: accuracy, latency_ms
    """
    names = sorted(set(allowed))
    close = difflib.get_close_matches(got, names, n=1)
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    known = f"Known: {', '.join(names)}" if names else "None is known"
    return UnknownNameError(f"unknown {kind} {got!r}; {suggestion}{known}")


def storage_error(path: str | Path, cause: OSError, *, doing: str = "write") -> StorageError:
    """Makes the error for a disk that refuses, with the path and what to do.

    Args:
        path: The file or folder that was asked for (not a temporary name).
        cause: The operating system's error; its `errno` is kept.
        doing: The verb of the sentence, e.g. "write" or "read".
    """
    reason = cause.strerror or str(cause) or type(cause).__name__
    advice = _ADVICE.get(cause.errno or 0, "check the path and the disk")
    error = StorageError(f"cannot {doing} {path}: {reason}; {advice}")
    error.errno = cause.errno
    return error
