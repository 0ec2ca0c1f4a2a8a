"""Tensors and notes as the bytes of one safetensors file that carries its own hash.

The hash is the SHA-256 of all bytes of the file, in which its own 64 digits count as zeros. So a
file that was cut off, or in which a single bit is wrong, is told from a whole one. Files of before
there were hashes are read as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from records import CorruptFileError

_KEY = "sha256"
_BLANK = "0" * 64
_LENGTH = 8
"""Bytes of the header's length, with which a safetensors file begins."""


def to_bytes(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bytes:
    """The file's bytes.

    Args:
        tensors: Contiguous tensors by name.
        notes: What the header carries beside the hash.
    """
    data = save(dict(tensors), {**notes, _KEY: _BLANK})
    place = _place_of(data, _BLANK)
    digest = hashlib.sha256(data).hexdigest().encode()
    return b"".join((data[:place], digest, data[place + len(digest) :]))


def notes_of(data: bytes, where: str) -> dict[str, str]:
    """The notes of a file, after its hash was found to be right.

    Args:
        data: The file's bytes.
        where: How messages name the file.

    Raises:
        CorruptFileError: No safetensors file, or one that was cut off or damaged.
    """
    try:
        header = json.loads(data[_LENGTH : _LENGTH + _header_bytes(data)])
        notes = dict(header.get("__metadata__") or {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise CorruptFileError(
            f"{where} is not a readable checkpoint: it is no safetensors file, or its beginning "
            "was damaged"
        ) from error
    written = notes.pop(_KEY, None)
    if written is not None:
        found = _hash_of(data, str(written))
        if found != written:
            raise CorruptFileError(
                f"{where} is not a readable checkpoint: it was cut off or damaged, its content "
                f"has the hash {found[:16]} and was written with {str(written)[:16]!r}"
            )
    return notes


def tensors_of(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        CorruptFileError: They cannot be read.
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError) as error:
        raise CorruptFileError(f"{where} is not a readable checkpoint: {error}") from error


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:_LENGTH], "little")


def _place_of(data: bytes, digits: str) -> int:
    """Where the hash stands in the header; -1 for nowhere."""
    name = f'"{_KEY}":"'
    text = f'{name}{digits}"'.encode()
    place = data.find(text, _LENGTH, _LENGTH + _header_bytes(data))
    return place if place < 0 else place + len(name)


def _hash_of(data: bytes, written: str) -> str:
    """The hash of the bytes, with zeros where the written one stands."""
    place = _place_of(data, written)
    if place < 0 or len(written) != len(_BLANK):
        return "(none)"
    digest = hashlib.sha256()
    view = memoryview(data)
    for part in (view[:place], _BLANK.encode(), view[place + len(_BLANK) :]):
        digest.update(part)
    return digest.hexdigest()
