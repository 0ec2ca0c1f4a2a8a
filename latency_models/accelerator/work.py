"""The layers of a network as work for an accelerator: products for the array, operations beside.

Products: a convolution (grouped and depthwise too) and a linear map are one each. Attention is
three: its projections to queries, keys and values; queries times keys; weights times values. With
linear mixing the latter two are keys times values and queries times that and the summed keys.
The second operand of a product of activations counts as weights.

The vector unit does the rest at one operation a lane and cycle:

| operator | operations | DRAM |
|---|---|---|
| batch_norm, activation, scale, position | 1 an output, on its way out of the array | parameters |
| add, multiply | 1 an output | both inputs, output |
| layer_norm | 4 an output (mean, variance, scale, shift) | input, output, parameters |
| avg_pool, max_pool | kernel^2 an output | input, output |
| global_pool, squeeze | 1 an input | input, output |
| resize | 4 an input and output | input, output |
| concat, channel_shuffle | 1 an output | input, output |
| zeros | 1 an output | output |
| attention | 5 a score (softmax), or 1 a query, key and value (linear mixing) | - |
| a user's own | its MACs and 1 an output | input, output, parameters |

The input and the change between map and tokens (the same values in the same order) are nothing.
A user's own operator with MACs is so taken to run on the vector unit, which is slow, not free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from latency_models.accelerator.counts import Integers
from latency_models.accelerator.product import Product
from search_spaces.primitives import MIXINGS, operator_index

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]

NOTHING = ("input", "to_tokens", "to_map")
ON_THE_ARRAY = ("conv2d", "linear")
ON_THE_WAY_OUT = ("batch_norm", "activation", "scale", "position")
SOFTMAX_OPERATIONS = 5
"""Maximum, difference, exponential, sum, division."""

NORM_OPERATIONS = 4
RESIZE_OPERATIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorWork:
    """What the vector unit does for layers, integer arrays.

    Attributes:
        operations: Operations of a lane.
        buffers: Accesses to the output buffer.
        dram: Values from and to DRAM.
    """

    operations: Integers
    buffers: Integers
    dram: Integers


def products(columns: Columns, batch_size: int) -> list[tuple[npt.NDArray[np.intp], Product]]:
    """The products of layers.

    Args:
        columns: Columns of the layer table, one-dimensional integer arrays.
        batch_size: Images that run together.

    Returns:
        Products with the indices of the layers that they belong to; a layer may have several.
    """
    found = []
    for operator, makers in (
        ("conv2d", (_convolution,)),
        ("linear", (_linear,)),
        ("attention", (_projection, _scores, _values)),
    ):
        here = _are(columns, operator)
        if len(here):
            mine = {name: column[here] for name, column in columns.items()}
            found += [(here, make(mine, batch_size)) for make in makers]
    return found


def _are(columns: Columns, operator: str) -> npt.NDArray[np.intp]:
    mask = (columns["operator"] == operator_index(operator)) & (columns["active"] > 0)
    return np.flatnonzero(mask)


def _convolution(a: Columns, batch: int) -> Product:
    return Product.of(
        groups=a["groups"],
        filters=a["channels"] // a["groups"],
        channels=a["in_channels"] // a["groups"],
        kernel=a["kernel"],
        dilation=a["dilation"],
        stride=a["stride"],
        rows=batch * a["height"],
        columns=a["width"],
        in_rows=batch * a["in_height"],
        in_columns=a["in_width"],
    )


def _linear(a: Columns, batch: int) -> Product:
    return Product.of(
        filters=a["channels"],
        channels=a["in_channels"],
        rows=batch * a["height"],
        columns=a["width"],
    )


def _projection(a: Columns, batch: int) -> Product:
    return Product.of(
        filters=a["heads"] * (2 * a["qk_dim"] + a["v_dim"]),
        channels=a["in_channels"],
        rows=batch * a["height"],
        columns=a["width"],
    )


def _is_linear(a: Columns) -> npt.NDArray[np.bool_]:
    return np.asarray(a["mixing"] == MIXINGS.index("linear"))


def _windows(a: Columns) -> tuple[Integers, Integers, Integers]:
    """Height and width of the windows of attention, and how many an image has."""
    side = a["window"]
    height, width = (np.where(side > 0, side, a[size]) for size in ("height", "width"))
    return height, width, (a["height"] // height) * (a["width"] // width)


def _scores(a: Columns, batch: int) -> Product:
    """Queries times keys; with linear mixing keys times values, a row for each key channel."""
    linear = _is_linear(a)
    height, width, windows = _windows(a)
    return Product.of(
        groups=batch * a["heads"] * windows,
        filters=np.where(linear, a["v_dim"], height * width),
        channels=np.where(linear, height * width, a["qk_dim"]),
        rows=np.where(linear, a["qk_dim"], height),
        columns=np.where(linear, 1, width),
    )


def _values(a: Columns, batch: int) -> Product:
    """Scores times values; with linear mixing queries times (keys times values, summed keys)."""
    linear = _is_linear(a)
    height, width, windows = _windows(a)
    return Product.of(
        groups=batch * a["heads"] * windows,
        filters=np.where(linear, a["v_dim"] + 1, a["v_dim"]),
        channels=np.where(linear, a["qk_dim"], height * width),
        rows=height,
        columns=width,
    )


def vector_work(columns: Columns, batch_size: int) -> VectorWork:
    """What the vector unit does; arguments as in `products`."""
    a = columns
    into = batch_size * a["in_channels"] * a["in_height"] * a["in_width"]
    out = batch_size * a["elements"]
    weights = a["parameters"]
    nothing = np.zeros_like(out)
    operations = batch_size * a["macs"] + out  # a user's own
    dram = into + out + weights
    rules: dict[str, tuple[Integers, Integers]] = {
        **dict.fromkeys((*NOTHING, *ON_THE_ARRAY), (nothing, nothing)),
        **dict.fromkeys(ON_THE_WAY_OUT, (out, weights)),
        **dict.fromkeys(("avg_pool", "max_pool"), (a["kernel"] ** 2 * out, into + out)),
        **dict.fromkeys(("global_pool", "squeeze"), (into, into + out)),
        **dict.fromkeys(("concat", "channel_shuffle"), (out, 2 * out)),
        "add": (out, 3 * out),
        "multiply": (out, 2 * out + batch_size * a["channels"]),
        "layer_norm": (NORM_OPERATIONS * out, into + out + weights),
        "resize": (RESIZE_OPERATIONS * (into + out), into + out),
        "zeros": (out, out),
        "attention": (_mixing_operations(a, batch_size), nothing),
    }
    for name, (work, moved) in rules.items():
        mine = a["operator"] == operator_index(name)
        operations = np.where(mine, work, operations)
        dram = np.where(mine, moved, dram)
    stays = [operator_index(name) for name in (*ON_THE_WAY_OUT, "attention")]
    touched = np.where(np.isin(a["operator"], stays), operations, 0)
    there = a["active"] > 0
    return VectorWork(
        operations=operations * there,
        buffers=(2 * dram + 2 * touched) * there,
        dram=dram * there,
    )


def _mixing_operations(a: Columns, batch: int) -> Integers:
    """Operations of softmax on all scores, or of linear mixing on queries, keys and values."""
    height, width, _ = _windows({**a, "height": np.maximum(a["height"], 1),
                                 "width": np.maximum(a["width"], 1)})  # fmt: skip
    tokens = batch * a["heads"] * a["height"] * a["width"]
    linear = tokens * (2 * a["qk_dim"] + a["v_dim"])
    return np.where(_is_linear(a), linear, SOFTMAX_OPERATIONS * tokens * height * width)
