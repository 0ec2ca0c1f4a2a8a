"""Kernels told so fully that each can be rebuilt and timed by itself, in whatever space it occurs.

The kernel table's own columns say what a cost that is a formula needs; two kernels with equal
columns may still differ in stride, heads, the activation that went into them or the layout that
they read. `DescribedLowering` adds these, so that a row is a `KernelDescription`: the same numbers
always mean the same work, from any space, for one batch size and one channel block.

A kernel whose full description would depend on more combinations of genes than
`deployment.kernel_tables.rows.MOST_VARIANTS` is told without what was folded into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from deployment.kernel_tables.data_flow import combinations
from deployment.kernel_tables.fusion import Fusion, fusion_of
from deployment.kernel_tables.kernels import Lowering
from deployment.kernel_tables.rows import KINDS, MOST_VARIANTS, Kernel, kernels_of
from deployment.quantisation.kernel_precision import with_precision
from records import BadInputError
from search_spaces import Node
from search_spaces.expression import Condition, Dim, Expression, either, evaluate, where
from search_spaces.primitives import PRIMITIVES
from search_spaces.tabulate import simplify


@dataclass(frozen=True, slots=True, order=True)
class KernelDescription:
    """What a runtime runs as one kernel, in whole numbers.

    Attributes:
        kind: Position in `KINDS`.
        operator: Position of the main layer's primitive in `PRIMITIVES`.
        macs: Multiply-accumulates of a run of the whole batch, as all counts below.
        padded_macs: Those that the runtime computes.
        score_elements: Attention scores.
        read_elements: Values read.
        write_elements: Values written.
        weight_elements: Weights.
        in_channels: Of the main layer, as all sizes below.
        in_height: Of what it reads.
        in_width: Of what it reads.
        channels: Of what it writes.
        height: Of what it writes.
        width: Of what it writes.
        kernel: Side of its window; 0 where it has none.
        stride: Of its window.
        padding: Of its window.
        dilation: Of its window.
        groups: Of a convolution or a shuffle.
        heads: Of attention.
        qk_dim: Width of a query and key.
        v_dim: Width of a value.
        window: Side of attention's windows, 0 for none.
        mixing: Of attention, a position in `MIXINGS`.
        activation: A position in `ACTIVATIONS`, its own or the one folded into it; 0 for none.
        has_sum: 1 where a sum was folded into it.
        inputs: How many tensors the main layer reads.
        reads_plain: 1 where what it reads is not in blocks of channels.
        writes_plain: 1 where what it writes is not.
    """

    kind: int
    operator: int
    macs: int
    padded_macs: int
    score_elements: int
    read_elements: int
    write_elements: int
    weight_elements: int
    in_channels: int
    in_height: int
    in_width: int
    channels: int
    height: int
    width: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    groups: int
    heads: int
    qk_dim: int
    v_dim: int
    window: int
    mixing: int
    activation: int
    has_sum: int
    inputs: int
    reads_plain: int
    writes_plain: int

    @property
    def kind_name(self) -> str:
        return KINDS[self.kind]

    @property
    def operator_name(self) -> str:
        return list(PRIMITIVES)[self.operator]

    def describe(self) -> str:
        """A short text such as `depthwise 3x3 /2, 32 to 32 channels, 16x16`."""
        window = f" {self.kernel}x{self.kernel}" if self.kernel > 1 else ""
        step = f" /{self.stride}" if self.stride > 1 else ""
        size = f"{self.in_channels} to {self.channels} channels, {self.height}x{self.width}"
        return f"{self.kind_name}{window}{step}, {size}"


DESCRIPTION = tuple(field.name for field in fields(KernelDescription))
"""The columns that make a description, in its order."""

_ATTRIBUTES = (
    "in_height", "in_width", "height", "width", "stride", "padding", "dilation", "groups", "heads",
    "qk_dim", "v_dim", "window", "mixing", "activation",
)  # fmt: skip
"""Taken from the main layer as they are."""


class DescribedLowering(Lowering):
    """A lowering whose tabulation has the columns `DESCRIPTION` beside the usual ones."""

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels of the largest network, fully described."""
        fusion = fusion_of(self.space, self.channel_block)
        return with_precision(self.space, described(fusion, self.batch_size))

    @cached_property
    def _distinct(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        flat = self.tabulation.columns
        rows = np.stack([flat[name].astype(np.int64) for name in DESCRIPTION], axis=1)
        there = flat["active"] > 0
        place = np.full(len(rows), -1, np.intp)
        distinct, inverse = np.unique(rows[there], axis=0, return_inverse=True)
        place[there] = inverse.ravel()
        return distinct, place

    @property
    def descriptions(self) -> npt.NDArray[np.int64]:
        """The distinct kernels, an array `kernels x len(DESCRIPTION)`."""
        return self._distinct[0]

    @property
    def description_of_variant(self) -> npt.NDArray[np.intp]:
        """For every entry of the flat columns its row of `descriptions`; -1 where absent."""
        return self._distinct[1]


def described(fusion: Fusion, batch: int) -> tuple[Kernel, ...]:
    """All kernels of a network in the order in which they run, fully described."""
    folded = _folded(fusion)
    plain = fusion.plain
    return tuple(
        _described(fusion, kernel, plain, folded.get(kernel.nodes[0], ()))
        for kernel in kernels_of(fusion, batch)
    )


def one_network(
    nodes: Sequence[Node], *, batch_size: int, channel_block: int
) -> list[KernelDescription]:
    """The kernels of a network without choices, in the order in which they run.

    Raises:
        BadInputError: A network with choices.
    """
    for node in nodes:
        if any(isinstance(v, Expression) for v in (node.active, *node.attributes.values())):
            raise BadInputError(f"layer {node.name!r} depends on choices; fix all choices")
    fusion = Fusion(nodes, (), channel_block)
    found = []
    for kernel in described(fusion, batch_size):
        if kernel.row["active"]:
            found.append(KernelDescription(*(int(_value(kernel.row[n])) for n in DESCRIPTION)))
    return found


def as_descriptions(rows: npt.NDArray[np.int64]) -> list[KernelDescription]:
    """The rows of an array `kernels x len(DESCRIPTION)` as descriptions."""
    if rows.ndim != 2 or rows.shape[1] != len(DESCRIPTION):
        raise BadInputError(f"descriptions are n x {len(DESCRIPTION)}, got {rows.shape}")
    return [KernelDescription(*row) for row in rows.tolist()]


def _folded(fusion: Fusion) -> dict[int, list[tuple[int, Condition]]]:
    """For each main layer the sums and activations that may join its kernel, with conditions."""
    found: dict[int, list[tuple[int, Condition]]] = {}
    for index in range(len(fusion.nodes)):
        if fusion.nodes[index].operator in ("add", "activation"):
            for host, on in fusion.summands(index):
                found.setdefault(host, []).append((index, on))
    return found


def _described(
    fusion: Fusion,
    kernel: Kernel,
    plain: Sequence[Condition],
    folded: Sequence[tuple[int, Condition]],
) -> Kernel:
    node = fusion.nodes[kernel.nodes[0]]
    a = node.attributes
    more: dict[str, Dim] = {name: a[name] for name in _ATTRIBUTES}
    more["operator"] = list(PRIMITIVES).index(node.operator)
    more["inputs"] = len(node.inputs)
    more["has_sum"] = more["reads_plain"] = more["writes_plain"] = 0
    row = {**kernel.row, **more}
    summed: Condition = False
    for index, on in folded:
        if fusion.nodes[index].operator == "add":
            summed = either(summed, on)
        else:
            kind = fusion.nodes[index].attributes["activation"]
            more["activation"] = where(on, kind, more["activation"])
    more["has_sum"] = _number(summed)
    more["reads_plain"] = _number(plain[node.inputs[0]])
    more["writes_plain"] = _number(plain[kernel.nodes[0]])
    full = {name: simplify(fusion.choices, dim) for name, dim in {**kernel.row, **more}.items()}
    if combinations(fusion.choices, list(full.values())) <= MOST_VARIANTS:
        row = full
    return Kernel(name=kernel.name, nodes=kernel.nodes, inputs=kernel.inputs, row=row)


def _number(condition: Condition) -> Dim:
    return condition if isinstance(condition, Expression) else int(condition)


def _value(dim: Dim) -> float:
    """A number; an expression that reads no choice is worked out."""
    return float(evaluate(dim, {}, 1)[0]) if isinstance(dim, Expression) else dim
