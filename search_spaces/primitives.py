"""What each primitive costs: the tables' reader of the primitives.

One entry per primitive: its output shape is stated where it is declared
(`search_spaces.network`), here stand its MACs (multiply-accumulates) and trainable parameters, as
expressions over the declared attributes, so that they hold for plain numbers and for choices
alike. A feature map and a token sequence are both described by (channels, height, width); a
sequence has `height * width` tokens.

Counted as MACs are products with weights and, in attention, products of activations. Additions,
gates, normalisation, activations, pooling and resizing count none (the convention of fvcore and of
the papers that quote "FLOPs" for MACs).

A user's own primitive is added with `add_primitive`; `supernet.add_primitive` does so together
with its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from records import BadInputError, unknown_name
from search_spaces.expression import Dim, is_equal, where

ACTIVATIONS: Final = (
    "none", "relu", "gelu", "hardswish", "relu6", "silu", "sigmoid", "hardsigmoid",
)  # fmt: skip
"""The activation functions; a layer table holds the position as `activation`. GELU is exact,
`hardsigmoid` is `clip(x / 6 + 1 / 2, 0, 1)`, `silu` (swish) is `x * sigmoid(x)`."""

MIXINGS: Final = ("softmax", "linear")
"""How attention weighs values; a layer table holds the position as `mixing`."""

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
    "dilation",
    "groups",
    "bias",
    "heads",
    "qk_dim",
    "v_dim",
    "window",
    "mixing",
    "activation",
    "slot",
)
"""What describes a layer; attributes that a primitive does not have are 0. `window` is the side of
the windows in which attention works, 0 for all positions; `slot` says which of several weight
vectors a `scale` uses."""

Attributes = Mapping[str, Dim]


def _nothing(a: Attributes) -> Dim:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitive:
    """A primitive as the tables see it.

    Attributes:
        macs: Its multiply-accumulates for one image, a function of its attributes.
        parameters: Its trainable parameters, likewise.
        inputs: How many tensors it reads; None for one or more.
    """

    macs: Callable[[Attributes], Dim] = _nothing
    parameters: Callable[[Attributes], Dim] = _nothing
    inputs: int | None = 1


def _conv2d_weights(a: Attributes) -> Dim:
    return a["channels"] * (a["in_channels"] // a["groups"]) * a["kernel"] * a["kernel"]


def _attention_width(a: Attributes) -> Dim:
    return a["heads"] * (2 * a["qk_dim"] + a["v_dim"])


def _attention_macs(a: Attributes) -> Dim:
    tokens = a["height"] * a["width"]
    projections = tokens * a["in_channels"] * _attention_width(a)
    softmax = tokens * keys(a) * a["heads"] * (a["qk_dim"] + a["v_dim"])
    # keys times values, queries times that, and queries times the summed keys
    linear = tokens * a["heads"] * (2 * a["qk_dim"] * a["v_dim"] + a["qk_dim"])
    return projections + where(is_equal(a["mixing"], MIXINGS.index("linear")), linear, softmax)


def keys(a: Attributes) -> Dim:
    """The number of keys that each query of an attention layer sees."""
    window = a["window"]
    return where(is_equal(window, 0), a["height"] * a["width"], window * window)


PRIMITIVES: Final[dict[str, Primitive]] = {
    "input": Primitive(inputs=0),
    "conv2d": Primitive(
        macs=lambda a: _conv2d_weights(a) * a["height"] * a["width"],
        parameters=lambda a: _conv2d_weights(a) + a["bias"] * a["channels"],
    ),
    "batch_norm": Primitive(parameters=lambda a: 2 * a["channels"]),
    "layer_norm": Primitive(parameters=lambda a: 2 * a["channels"]),
    "activation": Primitive(),
    "add": Primitive(inputs=2),
    "to_tokens": Primitive(),
    "to_map": Primitive(),
    "position": Primitive(parameters=lambda a: a["channels"] * a["height"] * a["width"]),
    "attention": Primitive(
        macs=_attention_macs,
        parameters=lambda a: (a["in_channels"] + a["bias"]) * _attention_width(a),
    ),
    "linear": Primitive(
        macs=lambda a: a["in_channels"] * a["channels"] * a["height"] * a["width"],
        parameters=lambda a: (a["in_channels"] + a["bias"]) * a["channels"],
    ),
    "global_pool": Primitive(),
    "squeeze": Primitive(),
    "multiply": Primitive(inputs=2),
    "concat": Primitive(inputs=None),
    "scale": Primitive(parameters=lambda a: a["channels"]),
    "zeros": Primitive(),
    "avg_pool": Primitive(),
    "max_pool": Primitive(),
    "resize": Primitive(),
    "channel_shuffle": Primitive(),
}
"""The primitives by name; a layer table holds the position in this dictionary as `operator`."""


def operator_index(name: str) -> int:
    """The number that stands for a primitive in a layer table."""
    try:
        return list(PRIMITIVES).index(name)
    except ValueError:
        raise unknown_name("primitive", name, PRIMITIVES) from None


def add_primitive(name: str, primitive: Primitive) -> None:
    """Adds a user's primitive to those that networks may be declared with.

    Raises:
        BadInputError: There is another primitive of that name.
    """
    if PRIMITIVES.get(name, primitive) != primitive:
        raise BadInputError(f"there is a primitive {name!r} already; choose another name")
    PRIMITIVES[name] = primitive
