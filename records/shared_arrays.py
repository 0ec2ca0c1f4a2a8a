"""Arrays of several owners that are sent together, each once.

An evaluator that wraps others sends what they need and what it needs itself. Names get a prefix,
so that they do not collide, and an array that is there already is not sent again: its owner is
told the name that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

_HEAD = 64
"""Bytes that are compared before all are: most arrays of one shape differ there."""


def add_arrays(sent: dict[str, Array], arrays: Mapping[str, Array], prefix: str) -> dict[str, str]:
    """Adds an owner's arrays to those that are sent, but for those that other owners sent.

    Args:
        sent: The arrays so far; it grows.
        arrays: The owner's, by its own names.
        prefix: What stands before its names, different for each owner.

    Returns:
        For each of the owner's names, in its order, the name among those sent.
    """
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, array in sent.items():
        alike.setdefault(_kind(array), []).append(name)
    names = {}
    for name, array in arrays.items():
        there = {other: sent[other] for other in alike.get(_kind(array), ())}
        found = next((o for o, a in there.items() if _same_memory(a, array)), None)
        if found is None:
            found = next((o for o, a in there.items() if _same_bits(a, array)), None)
        if found is None:
            sent[found := f"{prefix}{name}"] = array
        names[name] = found
    return names


def named_arrays(sent: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    """An owner's arrays by its own names, where `names` is what `add_arrays` returned."""
    return {name: sent[place] for name, place in names.items()}


def _kind(array: Array) -> tuple[str, tuple[int, ...]]:
    return array.dtype.str, array.shape


def _same_memory(a: Array, b: Array) -> bool:
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides


def _same_bits(a: Array, b: Array) -> bool:
    """Whether arrays of one type and shape are equal; zeros of different sign are not."""
    first, second = _bytes(a), _bytes(b)
    heads = np.array_equal(first[:_HEAD], second[:_HEAD])
    return heads and np.array_equal(first, second)


def _bytes(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
