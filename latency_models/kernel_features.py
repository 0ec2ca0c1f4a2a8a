"""What a kernel's time is taken to be proportional to: the features of the fit.

The same list for every space, so that networks of different spaces stand in one fit. Every feature
exists once for each kind of kernel that it is listed for:

- 1, the products that the runtime computes, the values read, written, the weights, and the output
  positions (what a kernel does once for each, whatever its channels);
- for convolutions the products with rows cut as the runtime cuts them: the outputs whose window
  leaves the map are computed one by one, those between them in groups of 3 (kernels for AVX2) or
  6 (AVX-512), a group that is not full costing as much as a full one. On maps of 8 x 8 and smaller
  this is most of a convolution's time;
- for attention the scores, the heads, and the rows of the softmax.

Where the precision of each block is a choice (`search_spaces.WithBlockPrecision`), a kernel in 8
bits has columns of its own, so that its time and that of bringing its values into 8 bits and back
are fitted apart from those in fp32.

The widths of groups are those of `SconvKernel*.asm` in onnxruntime's MLAS; where another runtime
or processor cuts otherwise the fit gives these features little weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deployment import KINDS, Lowering
from deployment.kernel_tables.descriptions import DescribedLowering
from deployment.quantisation.kernel_precision import INT8_KINDS, in_int8

Values = npt.NDArray[np.float64]
Columns = Mapping[str, Values]

CONVOLUTIONS = ("convolution", "pointwise", "depthwise", "grouped")
ATTENTIONS = ("attention", "window_attention", "linear_attention")


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the kernels of some kinds.

    Attributes:
        name: Its name.
        kinds: The kinds that have it.
        value: Its values from the columns of a lowering, one for each variant.
    """

    name: str
    kinds: tuple[str, ...]
    value: Callable[[Columns], Values]


def _grouped_macs(width: int) -> Callable[[Columns], Values]:
    """The products of a convolution whose rows are cut in groups of `width` outputs."""

    def value(columns: Columns) -> Values:
        edge = edge_outputs(columns)
        inner = np.maximum(columns["width"] - edge, 0)
        for_each = columns["padded_macs"] / np.maximum(columns["positions"], 1)
        return np.asarray(for_each * columns["height"] * (edge + np.ceil(inner / width)))

    return value


def edge_outputs(columns: Columns) -> Values:
    """How many outputs of a row have a window that leaves the map."""
    stride = np.maximum(columns["stride"], 1)
    reach = (columns["kernel"] - 1) * np.maximum(columns["dilation"], 1) + 1
    left = np.ceil(columns["padding"] / stride)
    last = np.floor((columns["in_width"] + columns["padding"] - reach) / stride) + 1
    right = np.maximum(columns["width"] - np.maximum(last, left), 0)
    return np.asarray(np.minimum(left + right, columns["width"]))


def _column(name: str) -> Callable[[Columns], Values]:
    return lambda columns: columns[name]


FEATURES = (
    Feature("active", KINDS, _column("active")),
    Feature("padded_macs", KINDS, _column("padded_macs")),
    Feature("read_elements", KINDS, _column("read_elements")),
    Feature("write_elements", KINDS, _column("write_elements")),
    Feature("weight_elements", KINDS, _column("weight_elements")),
    Feature("positions", KINDS, lambda c: c["batch"] * c["positions"]),
    Feature("score_elements", ATTENTIONS, _column("score_elements")),
    Feature("heads", ATTENTIONS, lambda c: c["batch"] * c["heads"]),
    Feature("softmax_rows", ATTENTIONS, lambda c: c["batch"] * c["heads"] * c["positions"]),
    Feature("macs_by_3", CONVOLUTIONS, _grouped_macs(3)),
    Feature("macs_by_6", CONVOLUTIONS, _grouped_macs(6)),
)

COLUMNS = tuple((kind, feature) for kind in KINDS for feature in FEATURES if kind in feature.kinds)
"""A column of the fit for each kind and each of its features."""

INT8_COLUMNS = tuple((kind, feature) for kind, feature in COLUMNS if kind in INT8_KINDS)
"""Those of kernels in 8 bits, behind the others, where precision is a choice."""


def columns_of(lowering: DescribedLowering) -> int:
    """How many columns the features of a lowering have."""
    is_mixed = in_int8(lowering.tabulation) is not None
    return len(COLUMNS) + (len(INT8_COLUMNS) if is_mixed else 0)


def column_of_kind(lowering: DescribedLowering) -> npt.NDArray[np.intp]:
    """For every variant the column that counts kernels of its kind and precision."""
    names = [(kind, feature.name) for kind, feature in COLUMNS]
    first = np.array([names.index((kind, "active")) for kind in KINDS])
    kinds = lowering.tabulation.columns["kind"]
    found = first[kinds]
    small = in_int8(lowering.tabulation)
    if small is not None:
        names = [(kind, feature.name) for kind, feature in INT8_COLUMNS]
        places = [
            len(COLUMNS) + names.index((kind, "active")) if kind in INT8_KINDS else 0
            for kind in KINDS
        ]
        found = np.where(small, np.array(places)[kinds], found)
    return np.asarray(found)


def kernel_features(lowering: DescribedLowering) -> Values:
    """The features of every variant of every kernel, an array `variants x columns_of(lowering)`.

    Those of other kinds and precisions and of absent kernels are 0.
    """
    flat = {name: np.asarray(c, np.float64) for name, c in lowering.tabulation.columns.items()}
    flat["batch"] = np.full(lowering.tabulation.variants, float(lowering.batch_size))
    there = flat["active"] > 0
    found = np.zeros((lowering.tabulation.variants, columns_of(lowering)))
    small = in_int8(lowering.tabulation)
    is_small = np.zeros(len(there), bool) if small is None else small
    values = {feature.name: np.where(there, feature.value(flat), 0.0) for feature in FEATURES}
    every = [*((one, False) for one in COLUMNS), *((one, True) for one in INT8_COLUMNS)]
    for place, ((kind, feature), in_8_bits) in enumerate(every[: found.shape[1]]):
        mine = there & (flat["kind"] == KINDS.index(kind)) & (is_small == in_8_bits)
        if mine.any():
            found[mine, place] = values[feature.name][mine]
    return found


def kind_bits(lowering: Lowering) -> npt.NDArray[np.uint16]:
    """For every variant the bit of its kernel's kind, 0 where it is absent."""
    flat = lowering.tabulation.columns
    bits = np.left_shift(1, flat["kind"].astype(np.int64))
    return np.where(flat["active"] > 0, bits, 0).astype(np.uint16)
