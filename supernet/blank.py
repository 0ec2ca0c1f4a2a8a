"""Modules without weights, for networks whose weights are at hand.

torch draws initial weights whenever it makes a module, which takes longer than everything else in
cutting out a network. The modules of one operator and size differ in nothing but their weights:
one of them is made, without memory, and copied from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import nn

from search_spaces import Layer
from supernet.static import STATIC

MOST_TEMPLATES = 4096

_SIZES = {
    "conv2d": (
        "in_channels", "channels", "kernel", "stride", "padding", "dilation", "groups", "bias"
    ),
    "linear": ("in_channels", "channels", "bias"),
    "batch_norm": ("channels",),
    "layer_norm": ("channels",),
    "attention": ("in_channels", "heads", "qk_dim", "v_dim"),
    "position": ("tokens", "channels"),
    "scale": ("channels",),
}  # fmt: skip
"""The operators whose weights depend on these sizes alone."""


def blank_module(layer: Layer) -> nn.Module:
    """The layer's module in training mode, its weights on torch's `meta` device."""
    names = _SIZES.get(layer.operator)
    if names is None:
        with torch.device("meta"):
            return STATIC[layer.operator](layer)
    sizes = tuple(getattr(layer, name) for name in names)
    module = _copied(_template(_Kind(STATIC[layer.operator], sizes, layer)))
    if "layer" in vars(module):
        module.layer = layer  # type: ignore[assignment]  # a module that reads its sizes
    return module


@dataclass(frozen=True, slots=True)
class _Kind:
    """What makes a module, its sizes, and a layer that has them."""

    make: Callable[[Layer], nn.Module]
    sizes: tuple[int, ...]
    layer: Layer = field(compare=False)


@lru_cache(MOST_TEMPLATES)
def _template(kind: _Kind) -> nn.Module:
    with torch.device("meta"):
        return kind.make(kind.layer)


def _copied(module: nn.Module) -> nn.Module:
    """A module with tables of its own (weights, hooks) that hold what the other's hold."""
    copy = module.__new__(type(module))
    copy.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(module).items()}
    return copy
