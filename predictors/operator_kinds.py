"""Kinds of operators: what a person would call the same operation at another size.

A convolution's kind is its kernel, its stride, whether it is plain, grouped or depthwise, and how
many times it widens the channels; how many channels there are is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.primitives import PRIMITIVES, operator_index

COUNTED = ("conv2d", "linear", "attention", "avg_pool", "max_pool", "squeeze")
"""Operators that have a kind; all others accompany them."""

DEEP = ("conv2d", "linear", "attention")
"""Operators that make a network deeper: those with weights that mix channels or positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The kinds of all variants of all layers of a space.

    Attributes:
        names: The kinds' names, e.g. `conv3x3`; kind 0 is no operator.
        of_variant: For each entry of the flat layer table its kind.
        is_deep: For each kind whether it makes a network deeper.
    """

    names: tuple[str, ...]
    of_variant: npt.NDArray[np.intp]
    is_deep: npt.NDArray[np.bool_]

    @staticmethod
    def of(flat: Mapping[str, npt.NDArray[np.generic]]) -> Kinds:
        """The kinds of the variants in a flat layer table (`Tabulation.columns`)."""
        operator, groups = np.asarray(flat["operator"]), np.asarray(flat["groups"])
        inside, outside = np.asarray(flat["in_channels"]), np.asarray(flat["channels"])
        counted = np.isin(operator, [operator_index(name) for name in COUNTED])
        with np.errstate(divide="ignore", invalid="ignore"):
            widening = np.rint(2 * np.log2(outside / inside))
        widening = np.where(np.isfinite(widening), widening, 0)
        division = np.where(groups == inside, 2, 1) * (groups > 1)
        described = np.stack(
            [operator, flat["kernel"], flat["stride"], division, widening, flat["window"]], axis=1
        ).astype(np.int64)
        described[~counted] = -1
        rows, of_variant = np.unique(described, axis=0, return_inverse=True)
        names = [_name(row) for row in rows.tolist()]
        if rows[0, 0] != -1:
            names, of_variant = ["", *names], of_variant + 1
        deep = [name.split(" ")[0] in DEEP for name in names]
        return Kinds(names=tuple(names), of_variant=of_variant.reshape(-1), is_deep=np.array(deep))


def _name(described: list[int]) -> str:
    operator, kernel, stride, division, widening, window = described
    if operator == -1:
        return ""
    name = list(PRIMITIVES)[operator]
    if kernel:
        name += f" {kernel}x{kernel}"
    if stride > 1:
        name += f" /{stride}"
    if division:
        name += (" grouped", " depthwise")[division - 1]
    if widening:
        name += f" *{2 ** (widening / 2):.2g}"
    if window:
        name += f" in {window}"
    return name
