"""One writer at a time: a lock that the operating system drops when its process dies.

A POSIX record lock (`fcntl.lockf`) on a small file beside the data. It ends with the process that
took it, also by SIGKILL, and a forked child does not inherit it, so a data-loading worker that
outlives its killed parent does not keep the run locked. The lock is taken on a file of its own
because SQLite keeps locks of the same kind on the database, and closing any descriptor of a file
drops all of them.
"""

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from records.errors import LockedRunError, storage_error

_ATTEMPTS = 20

# Record locks do not exclude their own process; a second taker in it is refused by this set.
_held_here: set[Path] = set()


class FileLock:
    """The right to write to a file, taken at construction and held until `release`.

    Args:
        path: The file to protect; the lock is the file with `.lock` appended to its name.

    Raises:
        LockedRunError: Someone else holds it; the message says which process.
        StorageError: The lock file cannot be made, e.g. in a read-only folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.resolve().with_name(path.name + ".lock")
        if self._lock_path in _held_here:
            raise self._locked("this process")
        try:
            self._descriptor = self._acquire()
        except LockedRunError:
            raise
        except OSError as error:
            raise storage_error(path, error, doing="lock") from error
        self._owner = os.getpid()
        _held_here.add(self._lock_path)

    def release(self) -> None:
        """Gives the lock back and removes its file; does nothing twice or in a forked child."""
        if self._descriptor < 0 or os.getpid() != self._owner:
            return
        _held_here.discard(self._lock_path)
        with contextlib.suppress(OSError):
            self._lock_path.unlink()  # while it is still held: see _is_current
        os.close(self._descriptor)
        self._descriptor = -1

    def _acquire(self) -> int:
        for _ in range(_ATTEMPTS):
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(descriptor):
                    os.ftruncate(descriptor, 0)
                    os.write(
                        descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode()
                    )
                    return descriptor
            except (BlockingIOError, PermissionError):  # POSIX lets lockf say either
                holder = os.read(descriptor, 200).decode("utf-8", "replace")
                os.close(descriptor)
                raise self._locked(holder or "another process") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise self._locked("other processes, one after the other,")

    def _is_current(self, descriptor: int) -> bool:
        """Says whether the locked file still has the name; its last holder may have removed it."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._lock_path))
        except FileNotFoundError:
            return False

    def _locked(self, holder: str) -> LockedRunError:
        return LockedRunError(
            f"{self._path} is being written to by {holder}: wait until it ends, stop it, choose "
            "another folder, or open it read-only"
        )
