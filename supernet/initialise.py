"""Initial weights with which a deep network starts as a shallow one.

The last layer of every residual branch is set so that the branch gives 0: the network computes
what it would without these blocks, and they grow from there (Yu et al., BigNAS, ECCV 2020, arXiv
2003.11142, sec. 3.2; AttentiveNAS's released code does it for blocks with an identity shortcut).
For transformers the projecting linear map plays the part of the last batch norm (Zhang et al.,
Fixup, ICLR 2019, arXiv 1901.09321, sets it to 0 likewise).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from search_spaces.builder import Node
from search_spaces.expression import same
from supernet.network import module_name
from supernet.supernet import Supernet

SILENCED = ("batch_norm", "linear", "conv2d")
"""Primitives that give 0 when their weights and biases are 0, and then still get gradients."""

RESHAPING = ("to_tokens", "to_map")


@torch.no_grad()
def zero_residual_branches(supernet: Supernet) -> tuple[str, ...]:
    """Sets the last layer of every residual branch to 0 and returns the layers' names.

    Weight and bias of the branch's last layer become 0: of a batch norm, or of the linear map or
    convolution that a branch without one ends with. Left as they are:

    - branches that end with `scale`, which start small as it is;
    - branches that end with something else, such as an activation, through which no gradient would
      come back;
    - branches whose sum is skipped in some network that has the branch, since the branch is all
      that such a network has there;
    - sums without an identity shortcut, where 0 would cut a path and not a block;
    - a last layer that others read too.
    """
    nodes = supernet.space.nodes
    readers = [0] * len(nodes)
    for node in nodes:
        for place in node.inputs:
            readers[place] += 1
    silenced = []
    for node in nodes:
        if node.operator == "add":
            shortcut, branch = sorted(node.inputs)
            last = _last_layer(nodes, branch, node, readers)
            if last is not None and _leads_to(nodes, shortcut, last):
                silenced.append(nodes[last].name)
    for name in silenced:
        primitive = supernet.primitives[module_name(name)]
        for parameter in ("weight", "bias"):
            value = getattr(primitive, parameter)
            if isinstance(value, nn.Parameter):
                value.zero_()
    return tuple(silenced)


def _last_layer(
    nodes: Sequence[Node], branch: int, add: Node, readers: Sequence[int]
) -> int | None:
    """The layer that can silence a branch, always there with the sum and read by it alone."""
    while same(nodes[branch].active, add.active) and readers[branch] == 1:
        if nodes[branch].operator in SILENCED:
            return branch
        if nodes[branch].operator not in RESHAPING:
            return None
        branch = nodes[branch].inputs[0]
    return None


def _leads_to(nodes: Sequence[Node], first: int, last: int) -> bool:
    """Whether a layer's output goes into another's, through any layers between."""
    reached = {first}
    for place in range(first + 1, last + 1):
        if reached & set(nodes[place].inputs):
            reached.add(place)
    return last in reached
