"""Arrays and JSON metadata in one safetensors file, which says itself whether it is whole.

No pickle, no library's own format: what a version writes, a later one reads. The metadata names
the kind and the format's version, and a hash over metadata and arrays finds damage anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from records import (
    CorruptFileError,
    MissingFileError,
    array_hash,
    content_hash,
    json_text,
    parse_json,
    replace_file,
    storage_error,
)

_KEY = "hwnas"


def write_arrays(
    path: str | Path,
    kind: str,
    version: int,
    content: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Writes a file atomically; an existing one is replaced.

    Args:
        path: The file.
        kind: What it holds, e.g. "boosted trees".
        version: The version of this kind's format.
        content: JSON-ready values.
        arrays: Named arrays of numbers.

    Raises:
        BadInputError: The content holds NaN or something else that JSON cannot.
        StorageError: The folder cannot be written to, or the disk is full; the old file stays.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {"kind": kind, "format": version, "content": content}
    text = json_text({**header, "hash": _hash(header, plain)})
    with replace_file(path) as temporary:
        save_file(plain, temporary, {_KEY: text})


def read_arrays(
    path: str | Path, kind: str, version: int
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Reads the content and the arrays that `write_arrays` wrote.

    Raises:
        MissingFileError: There is no such file.
        CorruptFileError: It is damaged, of another kind, or of a newer format.
        StorageError: It cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise MissingFileError(f"cannot read the {kind} {path}: there is no such file") from None
    except OSError as error:
        raise storage_error(path, error, doing=f"read the {kind}") from error
    except SafetensorError as error:
        raise CorruptFileError(f"{path} is not {kind}: no whole safetensors, {error}") from error
    if text is None:
        raise CorruptFileError(f"{path} is not {kind}: a safetensors file of something else")
    try:
        header = parse_json(text)
        found = header.pop("hash")
        got = (header["kind"], header["format"])
        content = dict(header["content"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} is not {kind}: damaged metadata") from error
    if got != (kind, version):
        raise CorruptFileError(
            f"{path} holds {got[0]!r} in format {got[1]!r}; this version reads {kind!r} in format "
            f"{version}: fit and save it again"
        )
    if found != _hash(header, arrays):
        raise CorruptFileError(f"{path} is damaged: its content does not match its hash")
    return content, arrays


def _hash(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    return content_hash([header, array_hash(arrays)])
