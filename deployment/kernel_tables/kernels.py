"""The kernel table: what onnxruntime really runs for a population of architectures.

The layer table says what is declared; a runtime fuses. Lowered for onnxruntime's CPU provider at
its highest optimisation level, on the graphs of `deployment.emission.emit`:

- a convolution with the norms, factors, sum and activation that go into it is one kernel
  (`deployment.kernel_tables.fusion` says which do, for which choices); so is a linear map with its
  bias;
- attention with its projections is one kernel, in windows with the cutting and joining of
  windows; linear attention counts as one kernel of a kind of its own, though it is a dozen;
- a gate with its enlargement to the map's size is one kernel, so is a resizing;
- going from feature maps to tokens and back is one change of layout each, and so are
  concatenations and shuffles, which move values only;
- reshapes move nothing and are not counted, zeros are not computed;
- a primitive of a user's is one kernel of the kind `other`.

A test compares the counts per kind with the optimised graph that onnxruntime saves. They are equal
wherever few choices decide what is folded. Where many do together, as behind the sums of
NAS-Bench-201's cells, a sum or activation may be counted that is folded, and cells whose edges are
cut may be off by several kernels. Not counted are the reorderings between blocks of channels and
plain order where a chain of convolutions is interrupted: around resizings, shuffles, ReLU6 that is
not folded, concatenations that do not fill their blocks or hold zeros, grouped convolutions whose
groups do not fill them; where a dense convolution reads fewer channels than a block holds or a
number that is no multiple of 4; and where the pooled map does not fill its blocks. Their time
falls to the kernels that cause them. Convolutions of nothing but zeros are counted, although
onnxruntime computes them when it opens the file. Networks that torch exports
(`deployment.emission.torch_export`) run other kernels.

Like the layer table it is tabulated over the few genes that each kernel reads, so that costs which
are sums over kernels are one gather and one sum for any number of candidates.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self, cast

import numpy as np
import numpy.typing as npt

from deployment.kernel_tables.fusion import fusion_of
from deployment.kernel_tables.rows import COLUMNS, KINDS, Kernel, kernels_of
from deployment.quantisation.kernel_precision import with_precision
from records import BadInputError, unknown_name
from search_spaces import Genes, SearchSpace, Tabulation, tabulate
from search_spaces.expression import Array

__all__ = ["COLUMNS", "KINDS", "RUNTIMES", "Kernel", "KernelTable", "Lowering"]

RUNTIMES = ("onnxruntime",)


@dataclass(frozen=True, slots=True)
class KernelTable:
    """The kernels of `n` architectures, a row a kernel.

    Attributes:
        codes: A `kernels x n` array of indices into the flat columns.
        flat: The columns over all variants of all kernels.
    """

    codes: npt.NDArray[np.intp]
    flat: Mapping[str, Array]

    def column(self, name: str) -> Array:
        """A column as an `n x kernels` array; 0 where a kernel is absent."""
        if name not in self.flat:
            raise unknown_name("column", name, COLUMNS)
        return self.flat[name][self.codes].T

    def total(self, name: str) -> npt.NDArray[np.int64]:
        """The sum of a column over the kernels, an array of length `n`."""
        if name not in self.flat:
            raise unknown_name("column", name, COLUMNS)
        return np.asarray(self.flat[name][self.codes].sum(axis=0))


class Lowering:
    """A space lowered to the kernels of a runtime, for one batch size.

    Args:
        space: The search space.
        batch_size: Images a run.
        channel_block: Channels that the runtime's convolutions handle together: 8 with AVX2 and
            NEON, 16 with AVX-512.
        runtime: The runtime; onnxruntime.

    Raises:
        BadInputError: A batch size or block below 1, a network that cannot be lowered.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch_size: int = 1,
        channel_block: int = 8,
        runtime: str = "onnxruntime",
    ) -> None:
        if runtime not in RUNTIMES:
            raise unknown_name("runtime", runtime, RUNTIMES)
        if batch_size < 1 or channel_block < 1:
            raise BadInputError(
                f"batch_size and channel_block must be >= 1, got {batch_size}, {channel_block}"
            )
        self.space = space
        self.batch_size = batch_size
        self.channel_block = channel_block
        self.runtime = runtime

    @classmethod
    def of(cls, space: SearchSpace, *, batch_size: int = 1, channel_block: int = 8) -> Self:
        """The lowering for onnxruntime, made once for equal arguments.

        Models of several devices and costs share its tables. Spaces whose parameters have no hash
        are lowered anew.
        """
        try:
            hash(space)
        except TypeError:
            return cls(space, batch_size=batch_size, channel_block=channel_block)
        shared = _lowering(cast(Hashable, cls), space, batch_size, channel_block)
        assert isinstance(shared, cls)
        return shared

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels of the largest network, in the order in which they run."""
        fusion = fusion_of(self.space, self.channel_block)
        return with_precision(self.space, kernels_of(fusion, self.batch_size))

    @cached_property
    def tabulation(self) -> Tabulation:
        """All kernels for all combinations of the genes that each reads."""
        table = tabulate(self.space.choices, [kernel.row for kernel in self.kernels])
        there = table.columns["active"]
        columns = {name: column * there for name, column in table.columns.items()}
        return Tabulation(strides=table.strides, offsets=table.offsets, columns=columns)

    def table(self, genes: Genes) -> KernelTable:
        """The kernels of an `n x d` array of genes."""
        return KernelTable(self.tabulation.codes(genes), self.tabulation.columns)


@lru_cache(maxsize=16)
def _lowering(
    kind: type[Lowering], space: SearchSpace, batch_size: int, channel_block: int
) -> Lowering:
    return kind(space, batch_size=batch_size, channel_block=channel_block)
