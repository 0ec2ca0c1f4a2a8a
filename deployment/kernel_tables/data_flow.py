"""Which values of a network are zero, which are the same, and which are read, for which choices.

A skipped layer passes on its first input and a sum with zeros its other one, so what a kernel
reads depends on choices. The answers are conditions on them. One that would depend on many
choices together is replaced by the plain answer: not zero, not the same, read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_spaces import Choice, Node
from search_spaces.expression import (
    Condition,
    Dim,
    Expression,
    both,
    choices_of,
    either,
    is_equal,
    negate,
    same,
)
from search_spaces.primitives import ACTIVATIONS
from search_spaces.tabulate import simplify

MOST_COMBINATIONS = 1 << 10
"""Conditions on more settings of the choices than this are not followed."""

MOST_FOR_ZERO = 1 << 5
MOST_FOR_LAYOUT = 1 << 6
MOST_FOR_READ = 1 << 7
"""The same for what is zero, in plain order, and read, on which further conditions rest."""

KEEP_ZERO = ("relu", "gelu", "hardswish", "relu6", "silu")
"""Activations that give zeros for zeros."""

_MOVE_ZERO = frozenset((
    "scale", "avg_pool", "max_pool", "squeeze", "global_pool", "resize", "channel_shuffle",
    "to_tokens", "to_map",
))  # fmt: skip
"""Give zeros for zeros."""

_SHARED = frozenset(("activation", "avg_pool", "max_pool", "squeeze"))
"""Computed once where they stand twice."""


class DataFlow:
    """What becomes of the values of the largest network.

    Args:
        nodes: The declared layers.
        choices: The space's choices.

    Attributes:
        zero: For each layer when its output is zeros.
        readers: For each layer the (layer, place) pairs that declare to read it.
        reads: For each such pair when the layer reads that input, itself or by passing it on to
            one that does.
        read: For each layer when anything reads its output.
    """

    def __init__(self, nodes: Sequence[Node], choices: Sequence[Choice]) -> None:
        self.nodes = nodes
        self.choices = choices
        self.zero: list[Condition] = [False]
        for index in range(1, len(nodes)):
            self.zero.append(self._zero_after(index))
        self._twins = self._find_twins()
        self.readers: list[list[tuple[int, int]]] = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for place, source in enumerate(node.inputs):
                self.readers[source].append((index, place))
        self.reads, self.read = self._find_reads()

    def vanishes(self, index: int) -> Condition:
        """When a layer is there but nothing runs.

        Because of zeros, or for a twin before it, or where a map becomes the tokens that it was
        made from.
        """
        node = self.nodes[index]
        if node.operator == "add":
            return either(self.zero[node.inputs[0]], self.zero[node.inputs[1]])
        vanishes = self.zero[index]
        if node.operator == "to_tokens":
            vanishes = either(vanishes, self._from_tokens(node.inputs[0], node.active))
        vanishes = both(node.active, vanishes)
        for _, on in self._twins[index]:
            vanishes = either(vanishes, on)
        return self.settled(vanishes, False)

    def passes(self, index: int, place: int) -> Condition:
        """When a layer's output is that input as it is: skipped, or zeros added to it."""
        node = self.nodes[index]
        passes: Condition = False
        if node.operator == "add":
            first, second = (self.zero[source] for source in node.inputs)
            if place == 0:
                passes = both(node.active, second)
            else:
                passes = both(node.active, both(first, negate(second)))
        return either(passes, negate(node.active)) if place == 0 else passes

    def settled(
        self, condition: Condition, otherwise: Condition, most: int = MOST_COMBINATIONS
    ) -> Condition:
        """The condition in its simplest form; `otherwise` where it reads too many choices."""
        if isinstance(condition, bool):
            return condition
        simple = simplify(self.choices, condition)
        if combinations(self.choices, [simple]) > most:
            return otherwise
        return simple if isinstance(simple, Expression) else bool(simple)

    def _zero_after(self, index: int) -> Condition:
        """When a layer's output is zeros."""
        node = self.nodes[index]
        zeros = [self.zero[source] for source in node.inputs]
        own: Condition = False
        if node.operator == "zeros":
            return self.settled(either(node.active, zeros[0]), node.active, MOST_FOR_ZERO)
        if node.operator in ("add", "concat"):
            own = zeros[0]
            for zero in zeros[1:]:
                own = both(own, zero)
        elif node.operator == "multiply":
            own = either(*zeros)
        elif node.operator in _MOVE_ZERO:
            own = zeros[0]
        elif node.operator == "activation":
            own = both(zeros[0], is_one_of(node, KEEP_ZERO))
        return self.where_there(node, own, zeros[0], MOST_FOR_ZERO)

    def where_there(self, node: Node, own: Condition, passed: Condition, most: int) -> Condition:
        there = both(node.active, own)
        return self.settled(either(there, both(negate(node.active), passed)), False, most)

    def _from_tokens(self, source: int, on: Condition) -> Condition:
        """When, under a condition, a layer's output is a map that was just made from tokens."""
        found: Condition = False
        while source and on is not False:
            node = self.nodes[source]
            if node.operator == "to_map":
                found = either(found, both(on, node.active))
            on = self.settled(both(on, negate(node.active)), False)
            source = node.inputs[0]
        return found

    def _find_twins(self) -> list[list[tuple[int, Condition]]]:
        """For each layer the equal ones before it that compute the same, and when."""
        seen: dict[tuple[str, int], list[int]] = {}
        twins: list[list[tuple[int, Condition]]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            if node.operator not in _SHARED:
                continue
            before = seen.setdefault((node.operator, self._origin(index)), [])
            for twin in before:
                a, b = node.attributes, self.nodes[twin].attributes
                if all(same(a[k], b[k]) for k in ("kernel", "stride", "padding", "activation")):
                    on = self.settled(both(node.active, self.nodes[twin].active), False)
                    if on is not False:
                        twins[index].append((twin, on))
            before.append(index)
        return twins

    def _origin(self, index: int) -> int:
        """What a layer reads whenever it is there, past the layers that are then skipped."""
        node = self.nodes[index]
        source = node.inputs[0]
        while source:
            before = self.nodes[source]
            if self.settled(both(node.active, before.active), True) is not False:
                break
            source = before.inputs[0]
        return source

    def _find_reads(self) -> tuple[dict[tuple[int, int], Condition], list[Condition]]:
        """When a layer reads an input, itself or by passing it on; when a layer's output is read.

        What reads for nothing does not count. Where that is too much to tell, it reads.
        """
        later: list[list[tuple[int, Condition]]] = [[] for _ in self.nodes]
        for index, twins in enumerate(self._twins):
            for twin, on in twins:
                later[twin].append((index, on))
        reads: dict[tuple[int, int], Condition] = {}
        read: list[Condition] = [True] * len(self.nodes)
        for index in reversed(range(len(self.nodes))):
            node = self.nodes[index]
            if index < len(self.nodes) - 1:
                found: Condition = False
                for reader in self.readers[index]:
                    found = either(found, reads[reader])
                for twin, on in later[index]:
                    found = either(found, both(on, read[twin]))
                read[index] = self.settled(found, True, MOST_FOR_READ)
            runs = both(node.active, negate(self.vanishes(index)))
            for place in range(len(node.inputs)):
                if node.operator == "to_map":  # what becomes tokens again reads past it
                    reads[index, place] = True
                    continue
                passes = self.passes(index, place)
                needed = both(either(runs, passes), read[index])
                needless = self.settled(
                    either(runs, both(passes, read[index])), True, MOST_FOR_READ
                )
                reads[index, place] = self.settled(needed, needless, MOST_FOR_READ)
        return reads, read


def combinations(choices: Sequence[Choice], dims: Sequence[Dim]) -> int:
    """How many settings there are of the choices that numbers read together."""
    names = frozenset[str]().union(*(choices_of(dim) for dim in dims))
    return math.prod(len(c.values) for c in choices if c.name in names)


def is_one_of(node: Node, kinds: Sequence[str]) -> Condition:
    """When an activation is one of several."""
    found: Condition = False
    for kind in kinds:
        is_kind = is_equal(node.attributes["activation"], ACTIVATIONS.index(kind))
        found = either(found, is_kind)
    return found
