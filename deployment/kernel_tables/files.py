"""Small ONNX files that hold one kernel as the runtime fuses it, in surroundings as in a network.

A kernel alone in a file is not what it is in a network: a convolution would first reorder its
input into blocks of channels, and a kernel of a few microseconds drowns in what any run costs. So
a file is a little network,

    images of one channel -> 1x1 convolution -> (tokens) -> copies of the kernel -> mean,

in which the kernel reads the layout that it reads inside networks, with the sum and activation
that go into it. Copies follow each other where the shape allows, else they read the same tensor
side by side. What else runs in the file is known too, by the same lowering as for any network: a
`KernelFile` lists all its kernels, and its latency is an observation of their sum
(`latency_models.kernel_costs`).

nn-Meter (Zhang et al., MobiSys 2021) times kernels as single-operator files instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from deployment.emission.emit import emit
from deployment.kernel_tables.descriptions import KernelDescription, one_network
from records import BadInputError, HwnasError
from search_spaces import Graph, Layer, Node
from search_spaces.builder import MAP, VECTOR
from search_spaces.expression import same
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.primitives import ACTIVATIONS, ATTRIBUTES, MIXINGS, PRIMITIVES
from supernet import Subnet

COPIES = 4
"""More copies drown less in what a run costs, but take longer to build."""

IMAGE_CHANNELS = 4
"""Plain maps of at most so many channels are taken for images, others come from tokens."""

CERTAIN_BLOCK = 16
"""Channels in multiples of this fill blocks on every processor; then maps are joined in blocks."""

Build: TypeAlias = Callable[[NetworkBuilder, Tensor, KernelDescription, str], Tensor]


class KernelFileError(HwnasError, ValueError):
    """A kernel that no file can be built for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFile:
    """A file around a kernel.

    Attributes:
        model: The serialised ONNX model.
        kernels: All kernels that run in it, in their order.
        copies: How many of them are the kernel that was asked for; 0 where the runtime runs it
            only in a slightly different form here (then `kernels` has that form).
    """

    model: bytes
    kernels: tuple[KernelDescription, ...]
    copies: int


def kernel_file(
    description: KernelDescription,
    *,
    batch_size: int = 1,
    channel_block: int = 8,
    copies: int = COPIES,
) -> KernelFile:
    """Builds the file for a kernel.

    Args:
        description: The kernel, for the batch size below.
        batch_size: Images a run.
        channel_block: Channels that convolutions handle together, as in the lowering.
        copies: How often the kernel is to run, where it can run more than once.

    Raises:
        KernelFileError: A primitive that no file can be built for, or sizes that do not fit each
            other.
        BadInputError: Fewer than one copy.
    """
    if copies < 1:
        raise BadInputError(f"copies must be >= 1, got {copies}")
    nodes = kernel_network(description, copies)
    kernels = one_network(nodes, batch_size=batch_size, channel_block=channel_block)
    subnet = Subnet(plain_graph(nodes)).eval()
    return KernelFile(
        model=emit(subnet, batch_size, name="kernel").SerializeToString(),
        kernels=tuple(kernels),
        copies=sum(kernel == description for kernel in kernels),
    )


def kernel_network(description: KernelDescription, copies: int = COPIES) -> tuple[Node, ...]:
    """The declared layers of the little network around a kernel; see `kernel_file`."""
    d = description
    if not 0 <= d.operator < len(PRIMITIVES) or d.operator_name not in _BUILDS:
        name = d.operator_name if 0 <= d.operator < len(PRIMITIVES) else str(d.operator)
        raise KernelFileError(
            f"no file can be built for a kernel of the primitive {name!r}; its cost falls back to "
            "the roofline, or is learned from whole networks"
        )
    net = NetworkBuilder()
    try:
        x = _surroundings(net, d)
        y = _copies(net, x, d, copies)
        if d.operator_name == "to_map":  # read by a convolution, as in networks
            y = net.conv2d(y, 8, kernel=1, name="after")
        if y.form != VECTOR:
            net.global_pool(y, name="mean")
    except BadInputError as error:
        raise KernelFileError(f"no file can be built for {d.describe()}: {error}") from error
    return tuple(net.nodes)


def plain_graph(nodes: Sequence[Node]) -> Graph:
    """The graph of a network that was declared without choices."""
    layers = []
    for node in nodes:
        cost = PRIMITIVES[node.operator]
        sizes = {name: _whole(node.attributes[name]) for name in ATTRIBUTES}
        layers.append(
            Layer(
                name=node.name,
                operator=node.operator,
                inputs=node.inputs,
                macs=_whole(cost.macs(node.attributes)),
                parameters=_whole(cost.parameters(node.attributes)),
                **sizes,
            )
        )
    return Graph(layers=tuple(layers))


def _whole(dim: object) -> int:
    if not isinstance(dim, int | float) or dim != int(dim):
        raise BadInputError(f"a network without choices has whole sizes, got {dim!r}")
    return int(dim)


def _surroundings(net: NetworkBuilder, d: KernelDescription) -> Tensor:
    """What the kernel reads: images, a map in blocks, tokens, or one vector an image."""
    operator = d.operator_name
    on_map = operator not in _ON_TOKENS and not (operator in _ON_EITHER and d.reads_plain)
    if on_map and d.reads_plain and (operator == "resize" or d.in_channels <= IMAGE_CHANNELS):
        return net.input(d.in_channels, d.in_height, d.in_width)
    images = net.input(1, d.in_height, d.in_width)
    x = net.conv2d(images, d.in_channels, kernel=1, name="stem")
    if operator in _AFTER_ACTIVATION and on_map:  # so that they do not go into the stem
        x = net.activation(x, "relu", name="stem_relu")
    if on_map and not d.reads_plain:
        return x
    if not on_map and d.in_height * d.in_width == 1:
        return net.global_pool(x, name="vector")
    x = net.to_tokens(x, name="stem_tokens") if operator != "to_tokens" else x
    if operator == "to_map" or (on_map and operator != "to_tokens"):
        x = net.layer_norm(x, name="stem_norm")  # else going there and back cancels out
    if on_map and operator != "to_tokens":
        x = net.to_map(x, name="stem_map")
    return x


def _copies(net: NetworkBuilder, x: Tensor, d: KernelDescription, copies: int) -> Tensor:
    """The kernel as often as it can run: in a row, side by side with sums, or side by side."""
    build = _BUILDS[d.operator_name]
    if d.operator_name in _ONCE:
        return _side_by_side(net, x, d, copies)
    repeats = (d.in_channels, d.in_height, d.in_width) == (d.channels, d.height, d.width)
    if repeats:
        y = x
        for copy in range(copies):
            y = build(net, y, d, f"kernel{copy}")
        return y
    if d.has_sum:
        other = net.activation(x, "relu", name="other")  # convolutions of one input add up to one
        y = _activated(net, _main(net, other, d, "kernel0"), d, "kernel0")
        for copy in range(1, max(copies, 2)):
            name = f"kernel{copy}"
            y = _activated(net, net.add(y, _main(net, x, d, name), name=f"{name}_sum"), d, name)
        return y
    if copies == 1 or (d.operator_name == "conv2d" and d.channels % CERTAIN_BLOCK):
        return build(net, x, d, "kernel")
    return _joined(net, [build(net, x, d, f"kernel{copy}") for copy in range(copies)])


def _side_by_side(net: NetworkBuilder, x: Tensor, d: KernelDescription, copies: int) -> Tensor:
    """Kernels that undo each other or are computed once: each behind a kernel of its own.

    What stands in between, a 1x1 convolution or a layer norm, is timed by other files in a row.
    """
    build = _BUILDS[d.operator_name]
    if copies == 1 or d.operator_name not in _BEHIND_OTHERS or x.form == VECTOR:
        return build(net, x, d, "kernel")
    if x.form == MAP and (d.reads_plain or d.in_channels % CERTAIN_BLOCK):
        return build(net, x, d, "kernel")
    ends = []
    for copy in range(copies):
        if x.form == MAP:
            y = net.conv2d(x, d.in_channels, kernel=1, bias=True, name=f"before{copy}")
        else:
            y = net.layer_norm(x, name=f"before{copy}")
        ends.append(build(net, y, d, f"kernel{copy}"))
    return _joined(net, ends)


def _joined(net: NetworkBuilder, ends: Sequence[Tensor]) -> Tensor:
    """The means of several tensors as one, so that all are computed."""
    pooled = []
    for copy, y in enumerate(ends):
        if y.form == VECTOR or (y.form == MAP and same(y.height * y.width, 1)):
            pooled.append(y)
        else:
            mean = net.squeeze if y.form == MAP else net.global_pool
            pooled.append(mean(y, name=f"mean{copy}"))
    return net.concat(*pooled, name="ends") if len(pooled) > 1 else pooled[0]


# ---- the kernels themselves --------------------------------------------------------------------


def _main(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    """The main layer of a kernel that may take in others."""
    if d.operator_name == "linear":
        biased = d.weight_elements > d.in_channels * d.channels
        return net.linear(x, d.channels, bias=biased, name=name)
    weights = d.channels * (d.in_channels // d.groups) * d.kernel * d.kernel
    return net.conv2d(
        x,
        d.channels,
        kernel=d.kernel,
        stride=d.stride,
        groups=d.groups,
        padding=d.padding,
        dilation=d.dilation,
        bias=d.weight_elements > weights,
        name=name,
    )


def _activated(net: NetworkBuilder, y: Tensor, d: KernelDescription, name: str) -> Tensor:
    if not d.activation:
        return y
    return net.activation(y, ACTIVATIONS[d.activation], name=f"{name}_activation")


def _fused(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    y = _main(net, x, d, name)
    if d.has_sum:
        y = net.add(x, y, name=f"{name}_sum")
    return _activated(net, y, d, name)


def _attention(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    return net.attention(
        x,
        heads=d.heads,
        qk_dim=d.qk_dim,
        v_dim=d.v_dim,
        window=d.window,
        mixing=MIXINGS[d.mixing],
        name=name,
    )


def _normed(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    operator = d.operator_name
    y = net.batch_norm(x, name=name) if operator == "batch_norm" else net.scale(x, name=name)
    if d.has_sum:
        y = net.add(x, y, name=f"{name}_sum")
    return _activated(net, y, d, name)


def _multiply(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    return net.multiply(x, net.squeeze(x, name=f"{name}_gate"), name=name)


def _pool(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    pool = net.avg_pool if d.operator_name == "avg_pool" else net.max_pool
    return pool(x, kernel=d.kernel, stride=d.stride, padding=d.padding, name=name)


def _concat(net: NetworkBuilder, x: Tensor, d: KernelDescription, name: str) -> Tensor:
    """The first tensor, and others among which the rest is shared evenly."""
    rest, others = d.channels - d.in_channels, d.inputs - 1
    if d.reads_plain and d.in_height * d.in_width == 1:
        make: Callable[[int, int], Tensor] = lambda c, i: net.linear(x, c, name=f"part{i}")  # noqa: E731
    else:
        make = lambda c, i: net.conv2d(x, c, kernel=1, name=f"part{i}")  # noqa: E731
    parts = [rest // others + (i < rest % others) for i in range(others)]
    return net.concat(x, *(make(c, i) for i, c in enumerate(parts)), name=name)


_BUILDS: dict[str, Build] = {
    "conv2d": _fused,
    "linear": _fused,
    "attention": _attention,
    "batch_norm": _normed,
    "scale": _normed,
    "multiply": _multiply,
    "avg_pool": _pool,
    "max_pool": _pool,
    "concat": _concat,
    "layer_norm": lambda net, x, d, name: net.layer_norm(x, name=name),
    "activation": lambda net, x, d, name: net.activation(x, ACTIVATIONS[d.activation], name=name),
    "add": lambda net, x, d, name: net.add(x, x, name=name),
    "position": lambda net, x, d, name: net.position(x, name=name),
    "global_pool": lambda net, x, d, name: net.global_pool(x, name=name),
    "squeeze": lambda net, x, d, name: net.squeeze(x, name=name),
    "resize": lambda net, x, d, name: net.resize(x, d.height, d.width, name=name),
    "to_tokens": lambda net, x, d, name: net.to_tokens(x, name=name),
    "to_map": lambda net, x, d, name: net.to_map(x, name=name),
    "channel_shuffle": lambda net, x, d, name: net.channel_shuffle(x, d.groups, name=name),
}
"""How each primitive is declared; each call makes one kernel (and what it needs beside it)."""

_ON_TOKENS = frozenset(("linear", "attention", "layer_norm", "position", "to_map"))
_ON_EITHER = frozenset(("activation", "add", "scale", "global_pool", "concat"))
"""Work on maps and on tokens; in plain order they are taken for tokens."""

_AFTER_ACTIVATION = frozenset(("batch_norm", "scale", "activation", "add"))
_ONCE = frozenset(("global_pool", "squeeze", "to_tokens", "to_map", "resize", "concat"))
"""Equal ones on one tensor would be computed once, or undo each other."""

_BEHIND_OTHERS = frozenset(("global_pool", "squeeze", "to_tokens"))
