"""What is known of an architecture before anything is timed: its work, operator by operator.

Latency is roughly a sum over kernels of a fixed time for starting one and a time for the work in
it. So a network is described by two groups of columns. *Counts*: how many layers of each kind it
has, which decides where starting kernels takes the time (one image on a large GPU). *Work*:
multiply-accumulates, values written and weights of each kind, which decides elsewhere. Kinds are
the operators, convolutions apart by kernel size and by plain, grouped or depthwise. *Guesses* are
what latency would be on a device of the simplest kind: so long a layer, or a multiply-accumulate,
a value, a weight, or half of it for layers. Beside them stand the choices themselves, one-hot,
for what no count explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes, SearchSpace
from search_spaces.primitives import PRIMITIVES

Matrix = npt.NDArray[np.float64]

_MOST_ONE_HOT = 8  # a choice of more values than this is taken as a number
_MOST_PAIRS = 500
_CHUNK = 2048
_FREE = ("input", "zeros")  # layers that say nothing beyond what others say


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArchitectureFeatures:
    """`n` architectures as numbers.

    Attributes:
        counts: An `n x p` array: layers of each kind, and longest paths; at least 0.
        work: An `n x q` array: multiply-accumulates, values and weights of each kind.
        guesses: An `n x g` array: relative latencies by the simplest rules, with mean 1 over the
            rows they were made for; at least 0.
        choices: An `n x r` array: the choices one-hot; columns of 0 where they do not matter.
        numbers: An `n x s` array: the choices of many values, from 0 to 1.
        pairs: An `n x t` array: products of columns of two choices, none where choices are many.
    """

    counts: Matrix
    work: Matrix
    guesses: Matrix
    choices: Matrix
    numbers: Matrix
    pairs: Matrix

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            value = getattr(self, name)
            if value.ndim != 2 or len(value) != len(self.counts):
                raise BadInputError(f"{name} must be {len(self.counts)} x columns")
            if not np.isfinite(value).all():
                raise BadInputError(f"{name} must be finite")

    def __len__(self) -> int:
        return len(self.counts)

    def rows(self, index: npt.NDArray[np.intp]) -> ArchitectureFeatures:
        """Some of the architectures, in the order of `index`."""
        return ArchitectureFeatures(**{name: getattr(self, name)[index] for name in _COLUMNS})


_COLUMNS = ("counts", "work", "guesses", "choices", "numbers", "pairs")


def space_features(space: SearchSpace, genes: Genes) -> ArchitectureFeatures:
    """The features of `n` rows of genes, from the layer table of their space."""
    counts, work, guesses = layer_work(space, genes)
    choices, numbers, pairs = one_hot(space, genes)
    return ArchitectureFeatures(
        counts=counts, work=work, guesses=guesses, choices=choices, numbers=numbers, pairs=pairs
    )


def joined(parts: Sequence[ArchitectureFeatures]) -> ArchitectureFeatures:
    """The columns of several descriptions of the same architectures side by side."""
    return ArchitectureFeatures(
        **{
            name: np.concatenate([getattr(part, name) for part in parts], axis=1)
            for name in _COLUMNS
        }
    )


def layer_work(space: SearchSpace, genes: Genes) -> tuple[Matrix, Matrix, Matrix]:
    """Sums over the layers of `n` architectures: `n x p` counts, `n x q` work, `n x g` guesses.

    Columns that are the same for all are left out.
    """
    table = space.layer_table(genes[:1])
    flat = table.flat
    active = flat["active"] > 0
    kinds = _kinds(flat)
    counts = [active]
    work = [flat["parameters"], flat["elements"]]
    for kind in sorted(set(kinds[active]) - {-1}):
        there = active & (kinds == kind)
        counts.append(there)
        work += [flat["macs"] * there, flat["elements"] * there]
    columns = np.stack([*counts, *work, flat["macs"] * active], axis=1).astype(np.float64)
    total = np.zeros((len(genes), columns.shape[1]))
    for start in range(0, len(genes), _CHUNK):
        part = slice(start, start + _CHUNK)
        for codes in space.layer_table(genes[part]).codes:
            total[part] += columns[codes]
    varies = np.ptp(total, axis=0) > 0 if len(total) else np.zeros(total.shape[1], bool)
    p, q = len(counts), len(work)
    layers, parameters, elements, macs = total[:, [0, p, p + 1, p + q]].T
    return (
        total[:, :p][:, varies[:p]],
        total[:, p : p + q][:, varies[p : p + q]],
        _guesses(layers, (macs, elements, parameters)),
    )


def _guesses(layers: Matrix, amounts: Sequence[Matrix]) -> Matrix:
    """Layers alone, each amount of work alone, and each half and half with layers."""
    start, *work = (column / (column.mean() or 1.0) for column in (layers, *amounts))
    both = [(start + each) / 2 for each in work]
    guesses = np.stack([start, *work, *both], axis=1)
    return guesses[:, np.ptp(guesses, axis=0) > 0] if len(guesses) else guesses


def _kinds(flat: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """For each variant of each layer the kind of its work as a number; -1 for none."""
    operator, groups, channels = flat["operator"], flat["groups"], flat["in_channels"]
    sharing = np.where(groups <= 1, 0, np.where(groups == channels, 2, 1))
    is_conv = operator == _OPERATORS.index("conv2d")
    detail = np.where(is_conv, 1 + 3 * flat["kernel"] + sharing, 0)
    kinds = operator * (int(detail.max(initial=0)) + 1) + detail
    free = [_OPERATORS.index(name) for name in _FREE]
    return np.asarray(np.where(np.isin(operator, free), -1, kinds), np.int64)


_OPERATORS = list(PRIMITIVES)


def one_hot(space: SearchSpace, genes: Genes) -> tuple[Matrix, Matrix, Matrix]:
    """Choices one-hot (`n x r`), choices as numbers (`n x s`), pairs of choices (`n x t`)."""
    active = space.active(genes)
    columns: list[Matrix] = []
    numbers: list[Matrix] = []
    for j, choice in enumerate(space.choices):
        values = len(choice.values)
        if values > _MOST_ONE_HOT and all(isinstance(v, int | float) for v in choice.values):
            numbers.append(genes[:, [j]] / (values - 1) * active[:, [j]])
        else:
            there = (genes[:, [j]] == np.arange(values)) & active[:, [j]]
            columns.append(there.astype(np.float64))
    choices, empty = _side_by_side(columns, len(genes)), np.zeros((len(genes), 0))
    first, second = _pairs([column.shape[1] for column in columns])
    pairs = choices[:, first] * choices[:, second] if len(first) <= _MOST_PAIRS else empty
    return choices, _side_by_side(numbers, len(genes)), pairs


def _pairs(sizes: Sequence[int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """All pairs of columns that belong to two blocks of the given sizes."""
    block = np.repeat(np.arange(len(sizes)), sizes)
    first, second = np.triu_indices(len(block), 1)
    apart = block[first] != block[second]
    return first[apart], second[apart]


def _side_by_side(columns: Sequence[Matrix], n: int) -> Matrix:
    return np.concatenate([np.zeros((n, 0)), *columns], axis=1)
