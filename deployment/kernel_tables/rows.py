"""The kernels of a space's largest network, each with its row of the kernel table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployment.kernel_tables.data_flow import combinations
from deployment.kernel_tables.fusion import Fusion
from search_spaces import Node
from search_spaces.expression import Condition, Dim, Expression, divide_up, is_equal, where
from search_spaces.primitives import MIXINGS, PRIMITIVES, keys

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
    "grouped",
    "window_attention",
    "linear_attention",
    "other",
)
"""`pointwise` is a 1x1 convolution, `grouped` one in groups of more than a channel; `pool` any
mean or maximum over positions, and a resizing; `layout` moves values only: between maps and
tokens, side by side, shuffled; `other` is a primitive of a user's."""

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
"""Per run of the whole batch, except sizes. `padded_macs` are those that the runtime computes:
with channels rounded up to its block, and the products of a resizing, which count as no MACs;
`score_elements` are the attention scores, which pass through a softmax."""

MOST_VARIANTS = 1 << 16
"""A kernel whose fusion would make its row depend on more combinations of genes is taken as a
kernel of its own."""

_KIND_OF = {
    "linear": "gemm",
    "layer_norm": "layer_norm",
    "activation": "elementwise",
    "add": "elementwise",
    "multiply": "elementwise",
    "scale": "elementwise",
    "position": "elementwise",
    "batch_norm": "elementwise",
    "global_pool": "pool",
    "squeeze": "pool",
    "avg_pool": "pool",
    "max_pool": "pool",
    "resize": "pool",
    "to_tokens": "layout",
    "to_map": "layout",
    "concat": "layout",
    "channel_shuffle": "layout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of the largest network.

    Attributes:
        name: The name of the last layer that it always covers.
        nodes: The declared layers that it always covers, where they are there.
        inputs: The declared layers that it reads.
        row: Its columns.
    """

    name: str
    nodes: tuple[int, ...]
    inputs: tuple[int, ...]
    row: Mapping[str, Dim]


def kernels_of(fusion: Fusion, batch: int) -> tuple[Kernel, ...]:
    """All kernels, in the order in which they run."""
    nodes = fusion.nodes
    groups: dict[int, list[int]] = {}
    sums: dict[int, list[tuple[int, Condition]]] = {}
    for index in range(1, len(nodes)):
        hosts = fusion.hosts[index]
        if nodes[index].operator == "add":
            for host, on in fusion.summands(index):
                sums.setdefault(host, []).append((index, on))
        if nodes[index].operator == "zeros":
            continue
        if fusion.alone[index] is False and len({host for host, _ in hosts}) == 1:
            groups[hosts[0][0]].append(index)
        else:
            groups[index] = [index]
    ordered = sorted(groups.values(), key=max)
    return tuple(_kernel(fusion, group, sums.get(group[0], []), batch) for group in ordered)


def _kernel(
    fusion: Fusion, group: Sequence[int], sums: Sequence[tuple[int, Condition]], batch: int
) -> Kernel:
    nodes, main = fusion.nodes, group[0]
    node = nodes[main]
    inputs = [i for g in group for i in nodes[g].inputs if i not in group]
    if len(group) > 1:
        inputs = list(dict.fromkeys(inputs))  # branches of one convolution read the same
    for add, _ in sums:
        if add not in group:
            inputs += [i for i in nodes[add].inputs if i < main and i not in inputs]
    row = _row(node, batch, fusion.block)
    affordable = {**row, "active": _number(fusion.alone[main])}
    for add, on in sums:
        a = nodes[add].attributes
        size = batch * (a["channels"] * a["height"] * a["width"])
        affordable["read_elements"] += where(on, size, 0)
    if combinations(fusion.choices, list(affordable.values())) > MOST_VARIANTS:
        affordable = row
    return Kernel(
        name=nodes[group[-1]].name, nodes=tuple(group), inputs=tuple(inputs), row=affordable
    )


def _row(node: Node, batch: int, block: int) -> dict[str, Dim]:
    """The columns of a kernel of one layer that is there wherever it is declared."""
    a = node.attributes
    cost = PRIMITIVES[node.operator]
    positions = a["height"] * a["width"]
    macs = batch * cost.macs(a)
    scores: Dim = 0
    if node.operator == "attention":
        is_linear = is_equal(a["mixing"], MIXINGS.index("linear"))
        scores = where(is_linear, 0, batch * a["heads"] * positions * keys(a))
    return {
        "kind": _kind(node),
        "active": _number(node.active),
        "macs": macs,
        "padded_macs": _padded_macs(node, batch, block, macs),
        "score_elements": scores,
        "read_elements": batch * _read(node),
        "write_elements": batch * (a["channels"] * positions),
        "weight_elements": cost.parameters(a),
        "in_channels": a["in_channels"],
        "channels": a["channels"],
        "positions": positions,
        "kernel": a["kernel"],
    }


def _number(condition: Condition) -> Dim:
    return condition if isinstance(condition, Expression) else int(condition)


def _read(node: Node) -> Dim:
    """The values that a layer reads for one image."""
    a = node.attributes
    first = a["in_channels"] * a["in_height"] * a["in_width"]
    written = a["channels"] * a["height"] * a["width"]
    match node.operator:
        case "multiply":
            return 2 * first + a["channels"]  # the enlarged gate, and the gate
        case "concat":
            return written
        case _:
            return len(node.inputs) * first


def _padded_macs(node: Node, batch: int, block: int, macs: Dim) -> Dim:
    """The products that the runtime computes.

    A blocked convolution's output channels are padded to whole blocks; a resizing is a product
    with a matrix along either axis.
    """
    a = node.attributes
    match node.operator:
        case "conv2d":
            per_output = (a["in_channels"] // a["groups"]) * a["kernel"] * a["kernel"]
            padded = divide_up(a["channels"], block) * block
            return batch * (padded * per_output * a["height"] * a["width"])
        case "resize":
            vertical = a["height"] * a["in_height"] * a["in_width"]
            horizontal = a["height"] * a["width"] * a["in_width"]
            return batch * a["channels"] * (vertical + horizontal)
    return macs


def _kind(node: Node) -> Dim:
    a = node.attributes
    number = {kind: place for place, kind in enumerate(KINDS)}
    match node.operator:
        case "conv2d":
            pointwise = is_equal(a["kernel"], 1)
            dense = where(pointwise, number["pointwise"], number["convolution"])
            each = is_equal(a["groups"], a["in_channels"])
            in_groups = where(each, number["depthwise"], number["grouped"])
            return where(is_equal(a["groups"], 1), dense, in_groups)
        case "attention":
            in_windows = where(
                is_equal(a["window"], 0), number["attention"], number["window_attention"]
            )
            is_linear = is_equal(a["mixing"], MIXINGS.index("linear"))
            return where(is_linear, number["linear_attention"], in_windows)
    return number[_KIND_OF.get(node.operator, "other")]
