"""Which declared layers onnxruntime runs inside others, and for which choices.

Found on the graphs that onnxruntime 1.31 saves after its optimisations, for the forms that
`deployment.emission.emit` writes:

- into a convolution on blocks of channels go the norms and learned factors behind it, then one sum
  with a tensor in blocks too, then one activation: ReLU, sigmoid, hard sigmoid, hard swish, and
  ReLU6 where there was no sum. Not folded are GELU and SiLU;
- of the two convolutions that a sum may read, the first input's takes it;
- a norm or factor that could not be folded runs as such a convolution of every channel by itself,
  which takes a sum and an activation likewise (not ReLU6);
- a convolution in plain order, because it has groups that do not fill blocks, takes any sum and
  ReLU6 always, but no hard swish;
- a sum of convolutions of one input is one convolution in the file
  (`deployment.emission.joined_sums`);
- into a `Gemm` go learned factors, then ReLU, sigmoid or hard sigmoid;
- zeros are not computed, nor what only moves or pools them, nor a sum with them;
- equal means, maxima and activations of one value are computed once.

A value that something else reads too cannot be folded, and what nothing reads is not computed.
Each of this may depend on choices, so it is stated as conditions on them
(`deployment.kernel_tables.data_flow`); one that would depend on many choices together is replaced
by "not folded".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from deployment.emission.joined_sums import joined_sums
from deployment.kernel_tables.data_flow import MOST_FOR_LAYOUT, DataFlow, is_one_of
from search_spaces import Choice, Node, SearchSpace
from search_spaces.expression import Condition, Dim, both, either, is_equal, negate, same

ACTIVATIONS_OF_ALL = ("relu", "sigmoid", "hardsigmoid")
"""Activations that go into every convolution and `Gemm`."""

_FOLLOW_LAYOUT = frozenset(("batch_norm", "scale", "activation", "add", "multiply", "squeeze",
                            "concat"))  # fmt: skip
"""Work in the layout of what they read."""


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A kernel that may still take in what reads a tensor.

    Attributes:
        host: Its main layer.
        on: When the tensor is the kernel's output.
        summed: Whether a sum was taken in.
        activated: Whether an activation was taken in.
    """

    host: int
    on: Condition
    summed: bool = False
    activated: bool = False


class Fusion:
    """The layers of the largest network that run inside others.

    Args:
        nodes: The declared layers.
        choices: The space's choices.
        block: Channels in a block.
    """

    def __init__(self, nodes: Sequence[Node], choices: Sequence[Choice], block: int) -> None:
        self.nodes = nodes
        self.choices = choices
        self.block = block
        self.hosts: list[list[tuple[int, Condition]]] = [[] for _ in nodes]
        """For each layer the main layers whose kernel it joins, with the conditions."""
        self.alone: list[Condition] = [False]
        """For each layer when it is a kernel of its own."""
        self._flow = DataFlow(nodes, choices)
        self._joined = joined_sums(nodes, self._flow)
        self._plain: list[Condition] = [True]
        self._open: list[list[_Open]] = [[]]
        for index in range(1, len(nodes)):
            self._visit(index)

    @property
    def plain(self) -> Sequence[Condition]:
        """For each layer when its output is not in blocks of channels."""
        return tuple(self._plain)

    @property
    def flow(self) -> DataFlow:
        """What becomes of the layers' values."""
        return self._flow

    def summands(self, index: int) -> list[tuple[int, Condition]]:
        """The kernels that take in a sum with another tensor, with the conditions."""
        return self.hosts[index][len(self._joined.get(index, ())) :]

    def _visit(self, index: int) -> None:
        """Decides what becomes of a layer, given the kernels before it."""
        node = self.nodes[index]
        out: list[_Open] = []
        taken: Condition = False
        for host, on in self._joined.get(index, ()):
            self.hosts[index].append((host, on))
            taken = either(taken, on)
            if node.operator == "add":
                out.append(_Open(host, on))
        for place in range(len(node.inputs)):
            arriving = self._arriving(index, place)
            for one in arriving:
                on = both(both(one.on, node.active), negate(taken))
                on = self._flow.settled(both(on, self._fits(index, place, one)), False)
                if on is False:
                    continue
                self.hosts[index].append((one.host, on))
                taken = either(taken, on)
                summed = one.summed or node.operator == "add"
                activated = one.activated or node.operator == "activation"
                out.append(_Open(one.host, on, summed, activated))
            passed = self._flow.passes(index, place)
            for one in arriving:
                on = self._flow.settled(both(one.on, passed), False)
                if on is not False:
                    out.append(replace(one, on=on))
        runs = node.active
        for why_not in (taken, self._flow.vanishes(index)):
            runs = self._flow.settled(both(runs, negate(why_not)), runs)
        self.alone.append(self._flow.settled(both(runs, self._flow.read[index]), runs))
        self._plain.append(self._plain_after(index))
        if node.operator in ("conv2d", "linear"):
            out.append(_Open(index, runs))
        elif node.operator in ("batch_norm", "scale"):
            blocked = self._flow.settled(both(runs, negate(self._plain[index])), False)
            out.append(_Open(index, blocked))
        self._open.append(out)

    def _arriving(self, index: int, place: int) -> list[_Open]:
        """The kernels that may take in a layer by one of its inputs, where nothing else reads."""
        source = self.nodes[index].inputs[place]
        alone: Condition = True
        for reader in self._flow.readers[source]:
            if reader != (index, place):
                alone = both(alone, negate(self._flow.reads[reader]))
        arriving = []
        for one in self._open[source]:
            on = self._flow.settled(both(one.on, alone), False)
            if on is not False:
                arriving.append(replace(one, on=on))
        return arriving

    def _fits(self, index: int, place: int, one: _Open) -> Condition:
        """Whether a kernel can take in a layer, its condition and readers apart."""
        node, host = self.nodes[index], self.nodes[one.host].operator
        if one.activated:
            return False
        match node.operator:
            case "batch_norm":
                return host == "conv2d" and not one.summed
            case "scale":
                return host in ("conv2d", "linear") and not one.summed
            case "add":
                other = node.inputs[1 - place]
                if host == "linear" or one.summed:
                    return False
                layout_fits = either(self._plain[one.host], negate(self._plain[other]))
                return both(layout_fits, negate(self._flow.zero[other]))
            case "activation" if host == "linear":
                return is_one_of(node, ACTIVATIONS_OF_ALL)
            case "activation":
                plain = self._plain[one.host]
                early = host == "conv2d" and not one.summed
                fits = is_one_of(node, ACTIVATIONS_OF_ALL)
                fits = either(fits, both(is_one_of(node, ["hardswish"]), negate(plain)))
                return either(fits, both(is_one_of(node, ["relu6"]), either(plain, early)))
        return False

    # ---- layout --------------------------------------------------------------------------------

    def _plain_after(self, index: int) -> Condition:
        """When a layer's output is not in blocks of channels."""
        node = self.nodes[index]
        a = node.attributes
        before = self._plain[node.inputs[0]]
        own: Condition = True
        match node.operator:
            case "conv2d":
                own = negate(self._runs_in_blocks(node))
            case "zeros":
                own = False
            case "avg_pool" | "max_pool":
                own = negate(_divides(self.block, a["channels"]))
            case operator if operator in _FOLLOW_LAYOUT:
                own = before
                for source in node.inputs[1:]:
                    own = either(own, self._plain[source])
                if operator == "activation":
                    own = either(own, both(self.alone[index], is_one_of(node, ["relu6"])))
        return self._flow.where_there(node, own, before, MOST_FOR_LAYOUT)

    def _runs_in_blocks(self, node: Node) -> Condition:
        a = node.attributes
        if same(a["groups"], 1):
            return True
        if same(a["groups"], a["in_channels"]):
            return _divides(4, a["channels"])
        parts = (a["channels"] // a["groups"], a["in_channels"] // a["groups"])
        return both(_divides(self.block, parts[0]), _divides(self.block, parts[1]))


def _divides(divisor: int, number: Dim) -> Condition:
    return is_equal(number - (number // divisor) * divisor, 0)


def fusion_of(space: SearchSpace, block: int) -> Fusion:
    """The fusion of a space's layers, found once for equal spaces whose parameters have a hash.

    Models of several devices, batch sizes and costs ask for the same.

    Args:
        space: The space.
        block: Channels in a block.
    """
    try:
        hash(space)
    except TypeError:
        return Fusion(space.nodes, space.choices, block)
    return _fusion_of(space, block)


@lru_cache(maxsize=16)
def _fusion_of(space: SearchSpace, block: int) -> Fusion:
    return Fusion(space.nodes, space.choices, block)
