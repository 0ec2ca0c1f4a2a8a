"""JSON text with one strict meaning, shared by files, hashes and the ledger.

Numpy scalars, arrays and tuples are accepted and become plain numbers and lists. What JSON cannot
hold without changing it (NaN, infinities, keys that are not text, other objects) is refused with
its place, so a bad number is found where it is written and not months later where it is read.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np

from records.errors import BadInputError

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None


def json_text(value: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Writes a value as JSON: compact on one line, or indented for people.

    Args:
        value: Mappings with text keys, sequences, text, numbers, booleans, None, numpy scalars and
            arrays, nested at will.
        indent: Spaces per level; None writes one line without spaces.
        sort_keys: Whether keys are sorted, which makes equal content equal text.

    Raises:
        BadInputError: The value holds something that JSON cannot; the message says where.

    >>> json_text({"kernel": (3, 5), "width": np.float64(0.5)})
    '{"kernel":[3,5],"width":0.5}'
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        _plain(value, "$"),
        indent=indent,
        sort_keys=sort_keys,
        separators=separators,
        ensure_ascii=False,
        allow_nan=False,
    )


def parse_json(text: str) -> Any:
    """Reads JSON text, refusing the NaN and Infinity that Python's reader would let through.

    Raises:
        ValueError: The text is not JSON (`json.JSONDecodeError` says where).
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"it contains {constant}, which is not JSON")


def _plain(value: object, place: str) -> Json:
    """Turns a value into what json writes unchanged; `place` is its path, such as $.a[2]."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value, place)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), place)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInputError(
                f"{place} is {value}, which JSON cannot hold; store None with a reason, or drop it"
            )
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadInputError(
                    f"{place} has the key {key!r} of type {type(key).__name__}; JSON keys are "
                    "text, so write str(key) and read it back as such"
                )
        return {
            _encodable(key, place): _plain(item, f"{place}.{key}") for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    raise BadInputError(
        f"{place} is a {type(value).__name__}, which JSON cannot hold; give dicts, lists, text, "
        "numbers, booleans or None (dataclasses.asdict turns a record into a dict)"
    )


def _encodable(text: str, place: str) -> str:
    """Refuses the lone surrogates that undecodable file names carry: no file can hold them."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInputError(
            f"{place} has the text {text!a}, which is not Unicode; decode it with errors='replace'"
        ) from None
    return text
