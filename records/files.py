"""Files that are either the old one or the new one, never half of one.

Everything is written under a temporary name in the same folder, flushed to the disk and moved over
the final name with one `os.replace`, which POSIX makes atomic. A failure leaves the old file as it
was and no temporary file; only a killed process can leave a hidden `.name.partial-...` behind.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from records.errors import CorruptFileError, ExistingRunError, MissingFileError, storage_error
from records.json_text import json_text, parse_json

# Inside a caller's block only these are surely about the disk being written to.
_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary name to write to, then moves it over `path`.

    For libraries that write to a path themselves (safetensors, ONNX, parquet). The temporary file
    exists (empty), stands in the same folder and has the same suffix. When the block raises, it is
    removed and `path` stays as it was. Missing parent folders are made.

    Raises:
        StorageError: The folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.partial-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with _disk_errors(path):
            yield temporary
        try:
            _flush_to_disk(temporary)
            os.replace(temporary, path)
        except OSError as error:
            raise storage_error(path, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling folder to fill, then renames it to `path`: all of it or nothing.

    When the block raises, the temporary folder and its content are removed.

    Raises:
        ExistingRunError: `path` is a file or a folder that is not empty.
        StorageError: The parent folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ExistingRunError(
                f"{path} already exists and is not an empty folder: choose another one"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except ExistingRunError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        with _disk_errors(path):
            yield temporary
        try:
            _flush_folder(temporary)
            os.replace(temporary, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise ExistingRunError(
                    f"{path} was made by someone else meanwhile: choose another one"
                ) from error
            raise storage_error(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_folder(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file atomically; an existing one is replaced.

    Raises:
        StorageError: The folder cannot be written to, or the disk is full; the old file stays.
    """
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text atomically, line ends unchanged; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: object) -> None:
    """Writes a value as indented JSON atomically, keys in the order given; see `write_bytes`.

    Raises:
        BadInputError: The value holds NaN, an infinity or something else that JSON cannot.
        StorageError: See `write_bytes`.
    """
    write_text(path, json_text(value, indent=1) + "\n")


def read_json(path: str | Path, *, kind: str) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        kind: What it should be, for the message, e.g. "bundle" or "calibration".

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is not JSON in UTF-8; the message gives the reason.
        StorageError: It cannot be read.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"cannot read the {kind} {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing=f"read the {kind}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CorruptFileError(
            f"cannot read the {kind} {path}: not valid JSON, {error}"
        ) from error


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Rewords a full or read-only disk; any other error of the caller's block is its own."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_REFUSES:
            raise storage_error(path, error) from error
        raise


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    """Makes a rename survive a power cut where the file system can; not all can sync a folder."""
    with contextlib.suppress(OSError):
        _flush_to_disk(path)
