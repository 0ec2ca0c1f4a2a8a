"""Which kernels run in 8 bits where the precision of each stage or block is a choice.

For a space with such choices (`search_spaces.WithBlockPrecision`) the kernel table has a further
column, which reads the choice of the kernel's stage or block. Only what the quantiser touches is
ever in 8 bits: convolutions and linear maps, and with static quantisation linear attention, whose
products stand in the file one by one. Packed attention, norms, sums and whatever else stands alone
stay in fp32, which is what onnxruntime's files hold.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deployment.kernel_tables.rows import KINDS, Kernel
from records import BadInputError
from search_spaces import SearchSpace, Tabulation, WithBlockPrecision
from search_spaces.expression import Dim, both, is_equal, where

IN_INT8 = "in_int8"
"""The column: 1 where a kernel runs in 8 bits."""

INT8_KINDS = ("convolution", "pointwise", "depthwise", "grouped", "gemm", "linear_attention")
"""Kinds of kernels that can be in 8 bits."""


def with_precision(space: SearchSpace, kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """The kernels of a space, with the column where the space chooses precisions by block.

    Raises:
        BadInputError: Such a space inside another one, where its choices cannot be found.
    """
    if isinstance(space, WithBlockPrecision):
        return tuple(
            replace(kernel, row={**kernel.row, IN_INT8: _in_int8(space, kernel)})
            for kernel in kernels
        )
    if isinstance(getattr(space, "base", None), WithBlockPrecision):
        raise BadInputError(
            f"{space.name} stands around a space with precision by block; restrict or extend the "
            "space of networks first, then WithBlockPrecision(base=...)"
        )
    return kernels


def in_int8(table: Tabulation) -> npt.NDArray[np.bool_] | None:
    """For every variant whether it runs in 8 bits; None where that is no choice."""
    column = table.columns.get(IN_INT8)
    return None if column is None else np.asarray(column > 0)


def _in_int8(space: WithBlockPrecision, kernel: Kernel) -> Dim:
    main = space.nodes[kernel.nodes[0]]
    gene = space.precision_gene(main.name)
    if gene is None:
        return 0
    chosen = is_equal(gene, "int8")
    if main.operator == "attention" and space.quantisation == "static":
        is_linear = is_equal(kernel.row["kind"], KINDS.index("linear_attention"))
        return where(both(chosen, is_linear), 1, 0)
    return where(chosen, 1, 0) if space.is_quantised(main) else 0
