"""Blocks and stages of a network, read off the names of its layers.

A layer's name says where it was declared: `stage1.layer0.depthwise.conv` is the convolution of the
depthwise part of a block, `stage1.layer0`, in a stage, `stage1`. A layer that was declared outside
of any block, such as `classifier`, is a block of its own. The names need no graph, so that a block
is called the same in every network of a space.
"""

from __future__ import annotations

import re

TRANSITIONS = ("to_tokens", "to_map", "position")
"""Layers that only change how a tensor is laid out; between blocks they stand apart."""

PARTS_OF_BLOCKS = frozenset(
    {"expand", "depthwise", "project", "se", "attention", "mlp", "mixer", "shortcut"}
)
"""Scopes inside a block (`search_spaces.blocks`): what holds one of them is not divided further.
Numbers behind them do not count."""

_PARTS = PARTS_OF_BLOCKS | {"first", "second", "third", "shrink"}
"""With those that may also be a block's only part, which pictures show by name."""


def block_of(layer: str) -> str:
    """The block that a layer belongs to, by the layer's name.

    >>> block_of("stage1.layer0.depthwise.conv"), block_of("stem.conv"), block_of("classifier")
    ('stage1.layer0', 'stem', 'classifier')
    """
    parts = layer.split(".")
    for place, part in enumerate(parts):
        if place and plain(part) in _PARTS:
            return ".".join(parts[:place])
    if len(parts) == 1 or parts[-1] in TRANSITIONS:
        return layer
    return ".".join(parts[:-1])


def stage_of(layer: str) -> str:
    """The stage that a layer belongs to: the outermost scope that it was declared in.

    >>> stage_of("stage1.layer0.depthwise.conv"), stage_of("classifier")
    ('stage1', 'classifier')
    """
    return layer.partition(".")[0]


def plain(part: str) -> str:
    """A part of a name without the number behind it."""
    return re.sub(r"\d+$", "", part)
