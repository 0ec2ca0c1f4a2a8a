"""Short hashes that say whether two things are the same, on any machine and in any process.

All are the first 16 hexadecimal digits (64 bits) of a SHA-256: enough to tell apart the few
thousand spaces, weights and tables of a project, and short enough to read. They are no
protection against someone who wants a collision.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import BadInputError, MissingFileError, storage_error
from records.json_text import json_text

_DIGITS = 16
_BLOCK_BYTES = 1 << 20


def content_hash(value: object) -> str:
    """Hashes JSON-like content by its canonical text: sorted keys, no spaces, tuples as lists.

    The order of keys does not matter; 1 and 1.0 differ, as they do in JSON text.

    Raises:
        BadInputError: The value holds NaN or something else that JSON cannot.

    >>> content_hash({"a": 1, "b": (2, 3)}) == content_hash({"b": [2, 3], "a": 1})
    True
    """
    return _short(hashlib.sha256(json_text(value, sort_keys=True).encode("utf-8")))


def array_hash(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Hashes named arrays: names, dtypes, shapes and bytes, whatever the order of the names.

    Memory layout and byte order do not matter; NaNs are hashed by their bits.

    Raises:
        BadInputError: An array holds Python objects, which have no bytes of their own.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.hasobject:
            raise BadInputError(
                f"array {name!r} has dtype {array.dtype}: only numbers, booleans and text hash"
            )
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        # The header is JSON with a length before it, so no two lists of arrays share their bytes.
        header = json_text([name, array.dtype.str, array.shape]).encode("utf-8")
        digest.update(len(header).to_bytes(8, "little"))
        digest.update(header)
        digest.update(array.tobytes())  # C order, whatever the layout in memory
    return _short(digest)


def file_hash(path: str | Path) -> str:
    """Hashes the bytes of a file: the first 16 digits that `sha256sum` prints.

    Raises:
        MissingFileError: There is no such file.
        StorageError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError:
        raise MissingFileError(f"cannot hash {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing="read") from error
    return _short(digest)


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:_DIGITS]
