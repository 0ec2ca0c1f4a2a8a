"""`NASBench201`: the cells of NAS-Bench-201, the whole space of 15,625 networks.

Three stages of equal cells, with residual blocks between them that halve the map and double the
channels. A cell has four nodes; each of its six edges carries one of five operations, and a node
is the sum of the edges into it. All cells of a network are alike, so six choices describe it.

Parameters equal those that the benchmark states, multiply-accumulates its "FLOPs" less one for
each class, which it counts for the classifier's bias. Pooling and sums count nothing, and what no
path leads from to the output counts all the same. (Some entries in the benchmark's files of 200
epochs leave this out, those of 12 epochs do not.)

References:
    Dong & Yang, NAS-Bench-201, ICLR 2020, arXiv 2001.00326; the order of the benchmark's index is
    that of the published code (D-X-Y/AutoDL-Projects): all cells in the order of their edges,
    shuffled by Python's generator with seed 88.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces.blocks import classifier, conv_norm_act
from search_spaces.expression import Expression, either, is_equal
from search_spaces.genes import Genes
from search_spaces.network import NetworkBuilder, Tensor
from search_spaces.space import SearchSpace

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The operations; a gene is the position."""

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The edges (node, source) in the order of the genes and of the benchmark's strings."""

STAGES = 3

Operations: TypeAlias = Mapping[tuple[int, int], Expression | str]

_ARCH = re.compile(
    r"\+".join(
        r"\|" + "".join(rf"(\w+)~{source}\|" for n, source in EDGES if n == node)
        for node in (1, 2, 3)
    )
)


@dataclass(frozen=True, kw_only=True)
class NASBench201(SearchSpace):
    """The topology space of NAS-Bench-201 (NATS-Bench).

    A row of genes holds the operations of the six edges in the order of `EDGES`, as positions in
    `OPERATIONS`.

    >>> space = NASBench201(cells=1)
    >>> space.arch_strings([[3, 1, 0, 4, 2, 3]])
    ['|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|']
    >>> space.index([[3, 1, 0, 4, 2, 3]])
    array([3638])

    Attributes:
        channels_first: Channels of the first stage; each further stage has twice as many.
        cells: Cells in a stage.
    """

    channels_first: int = 16
    cells: int = 5

    def __post_init__(self) -> None:
        for name in ("channels_first", "cells"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        super().__post_init__()

    def build(self, net: NetworkBuilder, images: Tensor) -> Tensor:
        operations = {edge: net.choice(f"edge_{edge[0]}_{edge[1]}", OPERATIONS) for edge in EDGES}
        width = self.channels_first
        with net.scope("stem"):
            x = conv_norm_act(net, images, width, kernel=3, activation=None)
        for stage in range(STAGES):
            with net.scope(f"stage{stage}"):
                if stage:
                    width *= 2
                    x = _reduction(net, x, width)
                for cell in range(self.cells):
                    with net.scope(f"cell{cell}"):
                        x = _cell(net, x, operations)
        with net.scope("head"):
            x = net.activation(net.batch_norm(x), "relu")
        return classifier(net, x, self.num_classes)

    # ---- the benchmark's names of its networks -------------------------------------------------

    def index(self, genes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The benchmark's index (0 to 15624) of each of `n` rows of genes, an array of `n`."""
        checked = self.gene_space.check(genes).astype(np.int64)
        index: npt.NDArray[np.int64] = _index_of_code()[checked @ _PLACES]
        return index

    def genes_at(self, index: npt.ArrayLike) -> Genes:
        """The genes at `n` places of the benchmark, an `n x 6` array.

        Raises:
            BadInputError: A place outside 0 to 15624.
        """
        wanted = np.atleast_1d(np.asarray(index))
        wrong = wanted[(wanted < 0) | (wanted >= self.cardinality)]
        if wanted.dtype.kind not in "iu" or len(wrong):
            raise BadInputError(
                f"the benchmark's index goes from 0 to {self.cardinality - 1}, got "
                f"{wrong[0] if len(wrong) else wanted.dtype}"
            )
        codes = np.argsort(_index_of_code())[wanted]
        genes: Genes = (codes[:, None] // _PLACES % len(OPERATIONS)).astype(np.int16)
        return genes

    def arch_strings(self, genes: npt.ArrayLike) -> list[str]:
        """The benchmark's string of each row of genes: `|op~source|...|+|...|`."""
        strings = []
        for row in self.gene_space.check(genes):
            named = [
                f"{OPERATIONS[g]}~{source}|" for g, (_, source) in zip(row, EDGES, strict=True)
            ]
            nodes = ("".join(named[:1]), "".join(named[1:3]), "".join(named[3:]))
            strings.append("+".join(f"|{node}" for node in nodes))
        return strings

    def genes_of(self, arch_strings: Iterable[str]) -> Genes:
        """The genes of the benchmark's strings, an `n x 6` array.

        Raises:
            BadInputError: A string that is none of the benchmark's, quoted.
        """
        rows = []
        for text in arch_strings:
            match = _ARCH.fullmatch(text)
            if match is None or not set(match.groups()) <= set(OPERATIONS):
                raise BadInputError(
                    f"{text!r} is no network of NAS-Bench-201; expected "
                    "'|op~0|+|op~0|op~1|+|op~0|op~1|op~2|' with each op one of "
                    f"{', '.join(OPERATIONS)}"
                )
            rows.append([OPERATIONS.index(name) for name in match.groups()])
        return np.array(rows, np.int16).reshape(-1, len(EDGES))


_PLACES = len(OPERATIONS) ** np.arange(len(EDGES) - 1, -1, -1)


@cache
def _index_of_code() -> npt.NDArray[np.int64]:
    """For each cell, numbered in the order of its edges, its place in the benchmark."""
    codes = list(range(len(OPERATIONS) ** len(EDGES)))
    random.Random(88).shuffle(codes)
    return np.argsort(codes)


def _cell(net: NetworkBuilder, x: Tensor, operations: Operations) -> Tensor:
    nodes = [x]
    for node in (1, 2, 3):
        with net.scope(f"node{node}"):
            edges = [_edge(net, nodes[s], s, operations[node, s]) for s in range(node)]
            total = edges[0]
            for source, edge in enumerate(edges[1:], start=1):
                total = net.add(total, edge, name=f"add{source}")
            nodes.append(total)
    return nodes[-1]


def _edge(net: NetworkBuilder, x: Tensor, source: int, operation: Expression | str) -> Tensor:
    """One operation of five; the others are skipped, and with them all it is the connection."""
    is_conv = {k: is_equal(operation, f"nor_conv_{k}x{k}") for k in (1, 3)}
    with net.scope(f"from{source}"):
        with net.when(is_equal(operation, "none")):
            y = net.zeros(x)
        with net.when(is_equal(operation, "avg_pool_3x3")):
            y = net.avg_pool(y, kernel=3, padding=1)
        with net.when(either(is_conv[1], is_conv[3])):
            y = net.activation(y, "relu")
        for kernel, chosen in is_conv.items():
            with net.scope(f"conv{kernel}x{kernel}"), net.when(chosen):
                y = conv_norm_act(net, y, x.channels, kernel=kernel, activation=None)
    return y


def _reduction(net: NetworkBuilder, x: Tensor, channels: int) -> Tensor:
    """The residual block between stages: half the size, another width, fixed."""
    with net.scope("reduction"):
        branch = x
        for name, stride in (("first", 2), ("second", 1)):
            with net.scope(name):
                branch = net.activation(branch, "relu")
                branch = conv_norm_act(
                    net, branch, channels, kernel=3, stride=stride, activation=None
                )
        with net.scope("shortcut"):
            shortcut = net.avg_pool(x, kernel=2, stride=2)
            shortcut = net.conv2d(shortcut, channels, kernel=1)
        return net.add(shortcut, branch)
