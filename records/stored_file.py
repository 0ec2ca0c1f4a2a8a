"""A file by its path or URL, read and written whole: on a disk, in a bucket, where fsspec reaches.

A disk's file is replaced as `records.files` does it. Elsewhere it depends on the kind of storage.
An object store (S3, Google Cloud Storage, Azure ...) shows an object when all of it has arrived,
so one put is enough. Other file systems get the data under a temporary name, which is then moved.
In both cases the size that has arrived is compared before anything counts as written.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from records.errors import (
    BadInputError,
    CorruptFileError,
    MissingFileError,
    StorageError,
    storage_error,
    unknown_name,
)
from records.files import replace_file, write_bytes

OBJECT_STORES = frozenset({
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "tos", "tosfs", "obs",
    "cos", "r2", "b2", "swift", "hf",
})  # fmt: skip
"""Protocols whose puts are whole or not at all."""

_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)


class StoredFile(ABC):
    """A file that is either the old one or the new one, never half of one.

    Attributes:
        where: How messages name it: its path or URL.
    """

    where: str

    @abstractmethod
    def exists(self) -> bool:
        """Whether it is there.

        Raises:
            StorageError: The storage cannot be asked.
        """

    @abstractmethod
    def read(self) -> bytes:
        """All of it.

        Raises:
            MissingFileError: It is not there.
            CorruptFileError: It is a folder.
            StorageError: It cannot be read.
        """

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Replaces it; on a failure the old one stays.

        Raises:
            StorageError: It cannot be written.
        """

    @abstractmethod
    def copy_to(self, other: StoredFile) -> None:
        """Makes another name of the same storage hold what this one holds.

        Raises:
            StorageError: It cannot be copied.
        """

    @abstractmethod
    def remove(self) -> None:
        """Removes it, if it is there and can be removed."""

    @abstractmethod
    def beside(self, name: str) -> StoredFile:
        """The file of another name in the same folder."""

    @property
    def name(self) -> str:
        """Its name in its folder."""
        return PurePosixPath(self.where).name

    def __str__(self) -> str:
        return self.where


def stored_file(where: str | Path) -> StoredFile:
    """The file of a path or of any URL that fsspec knows: `s3://`, `gs://`, `file://` ...

    Raises:
        BadInputError: No such protocol, or the package that it needs is not installed; says how to
            install it.
    """
    found = _URL.fullmatch(where) if isinstance(where, str) else None
    if found is None:
        return _OnDisk(Path(where))
    protocol, rest = found["protocol"].lower(), found["rest"]
    if protocol in ("file", "local"):
        return _OnDisk(Path(unquote(rest.removeprefix("localhost"))))
    if not rest.strip("/"):
        raise BadInputError(f"{where} names no file: write {protocol}://FOLDER/NAME")
    system, path = _file_system(str(where), protocol)
    return _Remote(str(where), system, path, puts_whole=protocol in OBJECT_STORES)


def absolute(where: str | Path) -> str:
    """A path that means the same file in another folder; a URL stays as it is."""
    if isinstance(where, str) and _URL.fullmatch(where):
        return where
    return str(Path(where).absolute())


class _OnDisk(StoredFile):
    """A file of a disk that is mounted here."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path

    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            raise MissingFileError(f"cannot read {self}: there is no such file") from None
        except IsADirectoryError:
            raise CorruptFileError(f"cannot read {self}: it is a folder") from None
        except OSError as error:
            raise storage_error(self._path, error, doing="read") from error

    def write(self, data: bytes) -> None:
        write_bytes(self._path, data)

    def copy_to(self, other: StoredFile) -> None:
        with replace_file(other.where) as temporary:
            try:
                temporary.unlink()
                os.link(self._path, temporary)  # files are replaced, never changed in place
            except OSError:
                shutil.copyfile(self._path, temporary)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()

    def beside(self, name: str) -> StoredFile:
        return _OnDisk(self._path.with_name(name))


class _Remote(StoredFile):
    """A file that fsspec reaches."""

    def __init__(self, where: str, system: Any, path: str, *, puts_whole: bool) -> None:
        self.where = where
        self._system = system
        self._path = path
        self._puts_whole = puts_whole

    def exists(self) -> bool:
        with self._errors("look for"):
            self._system.invalidate_cache()  # others write there, too
            return bool(self._system.exists(self._path))

    def read(self) -> bytes:
        with self._errors("read"):
            self._system.invalidate_cache()
            try:
                return bytes(self._system.cat_file(self._path))
            except FileNotFoundError:
                raise MissingFileError(f"cannot read {self}: there is no such file") from None
            except IsADirectoryError:
                raise CorruptFileError(f"cannot read {self}: it is a folder") from None

    def write(self, data: bytes) -> None:
        with self._errors("write"):
            if self._puts_whole:
                self._put(self._path, data)
                return
            folder, _, name = self._path.rpartition("/")
            temporary = f"{folder}/.{name}.partial-{secrets.token_hex(4)}"
            try:
                if folder:
                    self._system.makedirs(folder, exist_ok=True)
                self._put(temporary, data)
                self._move(temporary)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._system.rm_file(temporary)
                raise

    def copy_to(self, other: StoredFile) -> None:
        assert isinstance(other, _Remote)
        with self._errors("copy"):
            self._system.copy(self._path, other._path)

    def remove(self) -> None:
        with contextlib.suppress(Exception):
            self._system.rm_file(self._path)

    def beside(self, name: str) -> StoredFile:
        where, path = (f"{text.rpartition('/')[0]}/{name}" for text in (self.where, self._path))
        return _Remote(where, self._system, path, puts_whole=self._puts_whole)

    def _put(self, path: str, data: bytes) -> None:
        self._system.pipe_file(path, data)
        self._system.invalidate_cache()
        arrived = self._system.info(path)["size"]
        if arrived != len(data):
            raise OSError(f"{arrived} of {len(data)} bytes arrived")

    def _move(self, temporary: str) -> None:
        try:
            self._system.mv(temporary, self._path)
        except Exception:
            if not self._system.exists(self._path):
                raise
            self._system.rm_file(self._path)  # some file systems move over nothing
            self._system.mv(temporary, self._path)

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Rewords what storage raises, which is of any class."""
        try:
            yield
        except (StorageError, CorruptFileError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip(": ")
            raise StorageError(
                f"cannot {doing} {self}: {reason}; check the address, the credentials and the "
                "network"
            ) from error


def _file_system(url: str, protocol: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations, registry
    except ImportError as error:
        raise BadInputError(f"{url} needs fsspec ({error}): pip install fsspec") from error
    if protocol not in known_implementations and protocol not in registry:
        raise unknown_name("protocol", protocol, known_implementations)
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        known = known_implementations.get(protocol, {}).get("class", protocol).split(".")[0]
        package = getattr(error.__cause__ or error, "name", None) or known
        raise BadInputError(
            f"{url} needs a package that is not installed ({error}): pip install {package}"
        ) from error
    except Exception as error:
        raise StorageError(
            f"cannot reach {url}: {type(error).__name__}: {error}; check the address and the "
            "credentials"
        ) from error
    return system, path
