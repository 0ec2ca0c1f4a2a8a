"""The kernel table: what onnxruntime really runs for a population of architectures.

The layer table says what is declared; a runtime fuses. Lowered for onnxruntime's CPU provider at
its highest optimisation level, on the graphs of `deployment.emit`:

- convolution, batch norm, ReLU and the addition of the shortcut are one NCHWc convolution;
- attention with its projections is one kernel; a linear map with its bias is one `Gemm`;
- going from feature maps to tokens and back is one change of layout each;
- reshapes move nothing and are not counted.

A test compares the counts per kind with the optimised graph that onnxruntime saves. Not counted
are the reorderings that interrupt a chain of convolutions where a dense one reads fewer channels
than a block holds or a number that is no multiple of 4, or where the pooled map does not fill its
blocks; spaces of widths that are multiples of 16 have none.

Like the layer table it is tabulated over the few genes that each kernel reads, so that costs which
are sums over kernels are one gather and one sum for any number of candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from records import BadInputError, unknown_name
from search_spaces import Genes, Node, SearchSpace, Tabulation, peak_alive, tabulate
from search_spaces.expression import Array, Dim, divide_up, is_equal, same, where
from search_spaces.primitives import ACTIVATIONS, PRIMITIVES

KINDS = (
    "convolution",
    "pointwise",
    "depthwise",
    "gemm",
    "attention",
    "layer_norm",
    "elementwise",
    "pool",
    "layout",
)
"""`pointwise` is a 1x1 convolution, `layout` a reordering between maps and tokens."""

COLUMNS = (
    "kind",
    "active",
    "macs",
    "padded_macs",
    "score_elements",
    "read_elements",
    "write_elements",
    "weight_elements",
    "in_channels",
    "channels",
    "positions",
    "kernel",
)
"""Per run of the whole batch, except sizes. `padded_macs` counts channels rounded up to the
runtime's block; `score_elements` are the attention scores, which pass through a softmax."""

RUNTIMES = ("onnxruntime",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of the largest network: the declared layers that it covers."""

    name: str
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    row: Mapping[str, Dim]


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

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels of the largest network, in the order in which they run."""
        groups = _fuse(self.space.nodes)
        return tuple(
            _kernel(self.space.nodes, group, self.batch_size, self.channel_block)
            for group in groups
        )

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

    def peak_activation_bytes(self, genes: Genes, bytes_per_value: int = 4) -> Array:
        """The most that is alive at once between kernels, for the whole batch, length `n`.

        Every kernel writes a tensor of its own; scratch space inside kernels and copies in another
        layout come on top.
        """
        table = self.table(genes)
        sizes = table.flat["write_elements"][table.codes] * bytes_per_value
        first = self.space.nodes[0].attributes
        images = first["channels"] * first["height"] * first["width"] * self.batch_size
        n = len(genes)
        sizes = np.concatenate([np.full((1, n), images * bytes_per_value), sizes])
        active = np.concatenate([np.ones((1, n), bool), table.flat["active"][table.codes] > 0])
        return peak_alive(sizes, active, self._edges)

    @cached_property
    def _edges(self) -> list[tuple[int, ...]]:
        """For each kernel (behind the images, step 0) the steps that it reads."""
        step_of = {0: 0}
        for step, kernel in enumerate(self.kernels, start=1):
            step_of.update(dict.fromkeys(kernel.nodes, step))
        return [(), *(tuple(step_of[i] for i in kernel.inputs) for kernel in self.kernels)]


def _fuse(nodes: Sequence[Node]) -> list[list[int]]:
    """Groups of declared layers that run as one kernel, the main layer first."""
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for source in node.inputs:
            readers.setdefault(source, []).append(index)
    taken: set[int] = set()
    groups: list[list[int]] = []
    for index, node in enumerate(nodes):
        if index == 0 or index in taken:
            continue
        group = [index]
        if node.operator == "conv2d":
            group += _fused_after(nodes, readers, index)
        taken.update(group)
        groups.append(group)
    return sorted(groups, key=max)


def _fused_after(nodes: Sequence[Node], readers: dict[int, list[int]], conv: int) -> list[int]:
    """The layers that run inside a convolution: batch norm, a shortcut's addition, then ReLU."""
    fused: list[int] = []
    last = conv
    for operator in ("batch_norm", "add", "activation"):
        after = readers.get(last, [])
        if len(after) != 1:
            break
        node = nodes[after[0]]
        fits = node.operator == operator and same(node.active, nodes[conv].active)
        if operator == "add":
            fits = fits and node.inputs[1] == last
        if operator == "activation":
            fits = fits and same(node.attributes["activation"], ACTIVATIONS.index("relu"))
        if fits:
            fused.append(after[0])
            last = after[0]
    return fused


def _kernel(nodes: Sequence[Node], group: Sequence[int], batch: int, block: int) -> Kernel:
    main = nodes[group[0]]
    a = main.attributes
    inside = set(group)
    inputs = [i for g in group for i in nodes[g].inputs if i not in inside]
    cost = PRIMITIVES[main.operator]
    positions = a["height"] * a["width"]
    read = batch * (a["in_channels"] * a["in_height"] * a["in_width"])
    if len(inputs) > 1:
        read = read + batch * (a["channels"] * positions)  # the shortcut
    macs = batch * cost.macs(a)
    row: dict[str, Dim] = {
        "kind": _kind(main),
        "active": int(main.active) if isinstance(main.active, bool) else main.active,
        "macs": macs,
        "padded_macs": macs if main.operator != "conv2d" else _padded_macs(a, batch, block),
        "score_elements": batch * a["heads"] * positions * positions,
        "read_elements": read,
        "write_elements": batch * (a["channels"] * positions),
        "weight_elements": cost.parameters(a),
        "in_channels": a["in_channels"],
        "channels": a["channels"],
        "positions": positions,
        "kernel": a["kernel"],
    }
    return Kernel(name=nodes[group[-1]].name, nodes=tuple(group), inputs=tuple(inputs), row=row)


def _padded_macs(a: Mapping[str, Dim], batch: int, block: int) -> Dim:
    """MACs of a blocked convolution, whose output channels are padded to whole blocks."""
    per_output = (a["in_channels"] // a["groups"]) * a["kernel"] * a["kernel"]
    return batch * (
        divide_up(a["channels"], block) * block * per_output * a["height"] * a["width"]
    )


def _kind(node: Node) -> Dim:
    a = node.attributes
    match node.operator:
        case "conv2d":
            if not same(a["groups"], 1):
                return KINDS.index("depthwise")
            pointwise = is_equal(a["kernel"], 1)
            return where(pointwise, KINDS.index("pointwise"), KINDS.index("convolution"))
        case "linear":
            return KINDS.index("gemm")
        case "attention" | "layer_norm":
            return KINDS.index(node.operator)
        case "activation" | "add" | "position" | "batch_norm":
            return KINDS.index("elementwise")
        case "global_pool":
            return KINDS.index("pool")
        case "to_tokens" | "to_map":
            return KINDS.index("layout")
    raise unknown_name("primitive that can be lowered", node.operator, PRIMITIVES)
