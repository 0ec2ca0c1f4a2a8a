"""What the architectures of a population execute: a table with a row a layer, for all at once.

The table is kept encoded: for every layer and candidate the index of the layer's variant
(`search_spaces.tabulate`). A column, or any function of a layer's sizes, is one gather; a metric
that is a sum over layers is a gather and a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import unknown_name
from search_spaces.builder import Node
from search_spaces.choice import Choice
from search_spaces.expression import Array, Dim
from search_spaces.primitives import ATTRIBUTES, PRIMITIVES, operator_index
from search_spaces.tabulate import Tabulation, tabulate

COLUMNS = ("operator", "active", *ATTRIBUTES, "macs", "parameters", "elements")
"""`elements` is the number of output values for one image."""


def tabulate_layers(choices: Sequence[Choice], nodes: Sequence[Node]) -> Tabulation:
    """The layer table of a space: every layer for all combinations of the genes that it reads.

    Skipped layers are rows of zeros (their operator too, so `active` tells them from the input).
    """
    rows: list[dict[str, Dim]] = []
    for node in nodes:
        row: dict[str, Dim] = {"operator": operator_index(node.operator)}
        row["active"] = int(node.active) if isinstance(node.active, bool) else node.active
        row.update(node.attributes)
        cost = PRIMITIVES[node.operator]
        row["macs"] = cost.macs(node.attributes)
        row["parameters"] = cost.parameters(node.attributes)
        a = node.attributes
        row["elements"] = a["channels"] * a["height"] * a["width"]
        rows.append(row)
    table = tabulate(choices, rows)
    there = table.columns["active"]
    columns = {name: column * there for name, column in table.columns.items()}
    return Tabulation(strides=table.strides, offsets=table.offsets, columns=columns)


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The layers of `n` architectures.

    Attributes:
        names: The layers' names, in the order in which they run.
        edges: For each layer the layers whose output it reads. A skipped layer passes on the
            output of its first.
        codes: A `layers x n` array of indices into the flat columns.
        flat: The columns over all variants of all layers.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, ...], ...]
    codes: npt.NDArray[np.intp]
    flat: Mapping[str, Array]

    def column(self, name: str) -> Array:
        """A column of the table as an `n x layers` array; 0 where a layer is skipped.

        Raises:
            UnknownNameError: No such column.
        """
        if name not in self.flat:
            raise unknown_name("column", name, COLUMNS)
        return self.flat[name][self.codes].T

    def total(self, name: str) -> npt.NDArray[np.int64]:
        """The sum of a column over the layers, an array of length `n`."""
        if name not in self.flat:
            raise unknown_name("column", name, COLUMNS)
        return np.asarray(self.flat[name][self.codes].sum(axis=0))

    @property
    def macs(self) -> npt.NDArray[np.int64]:
        """Multiply-accumulates for one image."""
        return self.total("macs")

    @property
    def parameters(self) -> npt.NDArray[np.int64]:
        """Trainable parameters."""
        return self.total("parameters")

    def activation_bytes(self, bytes_per_value: int = 4) -> npt.NDArray[np.int64]:
        """What all layers write for one image, in bytes."""
        return self.total("elements") * bytes_per_value

    def peak_activation_bytes(self, bytes_per_value: int = 4) -> npt.NDArray[np.int64]:
        """The most that is alive at once for one image; every layer writes its own tensor."""
        sizes = self.flat["elements"][self.codes] * bytes_per_value
        active = self.flat["active"][self.codes] > 0
        return peak_alive(sizes, active, self.edges)


def peak_alive(
    sizes: npt.NDArray[np.int64], active: npt.NDArray[np.bool_], edges: Sequence[Sequence[int]]
) -> npt.NDArray[np.int64]:
    """The largest sum of the sizes of tensors that are alive at the same step.

    A tensor lives from the step that writes it to the last step that reads it, directly or through
    skipped steps that pass it on. The last step's output is read by nobody and counts at its step.

    Args:
        sizes: A `steps x n` array; 0 for a skipped step.
        active: A `steps x n` mask of the steps that run.
        edges: For each step the earlier steps that it reads; a skipped step passes on its first.

    Returns:
        An array of length `n`.
    """
    steps, n = sizes.shape
    own = np.where(active, np.arange(steps, dtype=np.int32)[:, None], np.int32(0))
    last = own.copy()
    for step in range(steps - 1, -1, -1):
        for k, source in enumerate(edges[step]):
            passed_on = k == 0
            reads = np.where(active[step], own[step], last[step]) if passed_on else own[step]
            np.maximum(last[source], reads, out=last[source])
    # where among the flat changes each tensor is no longer alive
    after = (last + 1).astype(np.intp) * n + np.arange(n)
    freed = np.bincount(after.ravel(), weights=sizes.ravel(), minlength=(steps + 1) * n)
    change = -freed.reshape(steps + 1, n).astype(np.int64)  # exact below 2^53 bytes
    change[:steps] += sizes
    return np.asarray(np.cumsum(change, axis=0).max(axis=0, initial=0))
