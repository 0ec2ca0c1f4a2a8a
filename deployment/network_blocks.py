"""The blocks of a network by name, and the nodes of its file that belong to them.

Nodes are named after layers: a node belongs to a layer, a block or a stage where its name is
theirs or goes on behind theirs with a dot. So a name stands for everything inside of it, and
`stage1` for all blocks of the stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from deployment.emission.chunks import body_of
from records import unknown_name
from search_spaces.block_names import block_of
from supernet import Subnet

__all__ = ["block_of", "blocks_of", "is_within", "nodes_by_block", "nodes_within"]


def blocks_of(subnet: Subnet) -> Mapping[str, tuple[str, ...]]:
    """The blocks of a network in the order in which they run, each with the names of its layers.

    The input belongs to none.
    """
    return _grouped(layer.name for layer in subnet.graph.layers[1:])


def nodes_by_block(
    model: onnx.ModelProto, operators: Sequence[str] | None = None
) -> Mapping[str, tuple[str, ...]]:
    """The blocks of a file in the order in which they run, each with the names of its nodes.

    Args:
        model: A file whose nodes are named after layers, as `emit` names them.
        operators: Only nodes of these operators, and only blocks that have some.
    """
    wanted = (n for n in _nodes(model) if operators is None or n.op_type in operators)
    return _grouped(node.name for node in wanted)


def nodes_within(
    model: onnx.ModelProto, blocks: Iterable[str], operators: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The names of the nodes inside of layers, blocks or stages.

    Args:
        model: A file whose nodes are named after layers.
        blocks: Names of layers, blocks or stages.
        operators: Only nodes of these operators.

    Raises:
        UnknownNameError: A name that no node of the file belongs to.
    """
    blocks = tuple(blocks)
    nodes = _nodes(model)
    names = [node.name for node in nodes]
    for block in blocks:
        if not any(is_within(name, block) for name in names):
            raise unknown_name("block", block, _grouped(names))
    return tuple(
        node.name
        for node in nodes
        if (operators is None or node.op_type in operators)
        and any(is_within(node.name, block) for block in blocks)
    )


def is_within(name: str, block: str) -> bool:
    """Whether a layer or node belongs to a layer, block or stage, by their names."""
    return name == block or name.startswith(f"{block}.")


def _nodes(model: onnx.ModelProto) -> Sequence[onnx.NodeProto]:
    """The nodes of the network: of a file in chunks those that run on each chunk."""
    graph = body_of(model) or model.graph
    return list(graph.node)


def _grouped(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(block_of(name), []).append(name)
    return {block: tuple(own) for block, own in found.items()}
