"""What each primitive costs: the tables' reader of the primitives.

One entry per primitive: its output shape is stated where it is declared
(`search_spaces.network`), here stand its MACs (multiply-accumulates) and trainable parameters, as
expressions over the declared attributes, so that they hold for plain numbers and for choices
alike. A feature map and a token sequence are both described by (channels, height, width); a
sequence has `height * width` tokens.

Counted as MACs are products with weights and, in attention, products of activations. Additions,
normalisation, activations and pooling count none (the convention of fvcore and of the papers that
quote "FLOPs" for MACs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from search_spaces.expression import Dim

OPERATORS: Final = (
    "input",
    "conv2d",
    "batch_norm",
    "layer_norm",
    "activation",
    "add",
    "to_tokens",
    "to_map",
    "position",
    "attention",
    "linear",
    "global_pool",
)
"""The primitives; a layer table holds the position in this tuple as its `operator`."""

ACTIVATIONS: Final = ("none", "relu", "gelu", "hardswish")
"""The activation functions; a layer table holds the position as `activation`. GELU is exact."""

ATTRIBUTES: Final = (
    "in_channels",
    "in_height",
    "in_width",
    "channels",
    "height",
    "width",
    "kernel",
    "stride",
    "padding",
    "groups",
    "bias",
    "heads",
    "qk_dim",
    "v_dim",
    "activation",
)
"""What describes a layer; attributes that a primitive does not have are 0."""

Attributes = Mapping[str, Dim]


@dataclass(frozen=True, slots=True)
class Costs:
    """How to count a primitive: functions of its attributes."""

    macs: Callable[[Attributes], Dim]
    parameters: Callable[[Attributes], Dim]


def _nothing(a: Attributes) -> Dim:
    return 0


def _conv2d_weights(a: Attributes) -> Dim:
    return a["channels"] * (a["in_channels"] // a["groups"]) * a["kernel"] * a["kernel"]


def _attention_width(a: Attributes) -> Dim:
    return a["heads"] * (2 * a["qk_dim"] + a["v_dim"])


def _attention_macs(a: Attributes) -> Dim:
    tokens = a["height"] * a["width"]
    projections = tokens * a["in_channels"] * _attention_width(a)
    products = tokens * tokens * a["heads"] * (a["qk_dim"] + a["v_dim"])
    return projections + products


COSTS: Final[Mapping[str, Costs]] = {
    "input": Costs(_nothing, _nothing),
    "conv2d": Costs(
        macs=lambda a: _conv2d_weights(a) * a["height"] * a["width"],
        parameters=lambda a: _conv2d_weights(a) + a["bias"] * a["channels"],
    ),
    "batch_norm": Costs(_nothing, lambda a: 2 * a["channels"]),
    "layer_norm": Costs(_nothing, lambda a: 2 * a["channels"]),
    "activation": Costs(_nothing, _nothing),
    "add": Costs(_nothing, _nothing),
    "to_tokens": Costs(_nothing, _nothing),
    "to_map": Costs(_nothing, _nothing),
    "position": Costs(_nothing, lambda a: a["channels"] * a["height"] * a["width"]),
    "attention": Costs(
        macs=_attention_macs,
        parameters=lambda a: (a["in_channels"] + a["bias"]) * _attention_width(a),
    ),
    "linear": Costs(
        macs=lambda a: a["in_channels"] * a["channels"] * a["height"] * a["width"],
        parameters=lambda a: (a["in_channels"] + a["bias"]) * a["channels"],
    ),
    "global_pool": Costs(_nothing, _nothing),
}
