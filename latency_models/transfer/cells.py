"""Cells of NAS-Bench-201 as a device may run them: with or without their dead edges.

An edge is live where its result is used: where a path leads on from it to the output of the cell.
Training frameworks run dead edges all the same; exporters and compilers remove them. An edge that
nothing but zeros reaches is live: it has the work of any other, and mobile runtimes do it. Whether
a device removes dead edges is unknown before it is measured, so a cell is described both ways.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latency_models.transfer.features import (
    ArchitectureFeatures,
    joined,
    layer_work,
    one_hot,
)
from search_spaces import Genes
from search_spaces.standard.nas_bench_201 import EDGES, OPERATIONS, NASBench201

_NONE = OPERATIONS.index("none")
_IS_CONV = np.array([name.startswith("nor_conv") for name in OPERATIONS])
_IS_KERNEL = _IS_CONV | np.array([name.startswith("avg_pool") for name in OPERATIONS])
_NODES = 4
_SPACE = NASBench201(cells=1)  # all cells of a network are alike


def live_genes(genes: Genes) -> Genes:
    """The genes of `n` cells with every dead edge set to `none`, an `n x 6` array.

    >>> live_genes(np.array([[3, 0, 0, 2, 0, 3]], np.int16)).tolist()
    [[0, 0, 0, 2, 0, 3]]
    """
    there = genes != _NONE
    leads_on = np.zeros((len(genes), _NODES), bool)
    leads_on[:, -1] = True
    for j, (node, source) in reversed(list(enumerate(EDGES))):
        leads_on[:, source] |= there[:, j] & leads_on[:, node]
    live = [there[:, j] & leads_on[:, node] for j, (node, _) in enumerate(EDGES)]
    return np.asarray(np.where(np.stack(live, axis=1), genes, _NONE), np.int16)


def longest_path(genes: Genes, length: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The longest path through each cell, an array of length `n`.

    Args:
        genes: An `n x 6` array; edges of the operation `none` lead nowhere.
        length: The length of an edge of each operation.
    """
    longest = np.full((len(genes), _NODES), -np.inf)
    longest[:, 0] = 0
    for j, (node, source) in enumerate(EDGES):
        over = np.where(genes[:, j] != _NONE, longest[:, source] + length[genes[:, j]], -np.inf)
        longest[:, node] = np.maximum(longest[:, node], over)
    return np.where(np.isfinite(longest[:, -1]), longest[:, -1], 0.0)


def cell_features(genes: Genes) -> ArchitectureFeatures:
    """The features of `n` cells, before and after removing dead edges."""
    live = live_genes(genes)
    parts = []
    for rows in (genes, live):
        counts, work, guesses = layer_work(_SPACE, rows)
        into = np.stack([rows[:, [n == node for n, _ in EDGES]].any(axis=1) for node in (1, 2, 3)])
        edges = (rows != _NONE).sum(axis=1)
        shape = np.stack(
            [
                edges,
                edges - into.sum(axis=0),  # sums of two tensors
                longest_path(rows, _IS_CONV.astype(np.float64)),
                longest_path(rows, _IS_KERNEL.astype(np.float64)),
            ],
            axis=1,
        )
        choices, numbers, pairs = one_hot(_SPACE, rows)
        parts.append(
            ArchitectureFeatures(
                counts=np.concatenate([counts, shape], axis=1),
                work=work,
                guesses=guesses,
                choices=choices,
                numbers=numbers,
                pairs=pairs,
            )
        )
    return joined(parts)
